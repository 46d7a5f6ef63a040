"""Fault 11: the camera goes, hangs, freezes, sends garbage, changes its size.

Passed if no picture is ever judged twice or after the camera went, if the service says that the camera is away, and
judges again when it is back. (`tests/edge/sources/test_camera.py` looks closer at the source alone.)
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.rig.broker import BrokerProcess, Log
from benchmarks.rig.station import FRAME_SIZE, Station
from tests.edge.sources.mjpeg import MjpegCamera, Mood
from tests.faults.conftest import MakeStation


@pytest.fixture
def camera() -> Iterator[MjpegCamera]:
    with MjpegCamera(size=FRAME_SIZE) as streaming:
        yield streaming


def watch(make_station: MakeStation, oracle: BrokerProcess, camera: MjpegCamera) -> Station:
    """A station that passes whatever it judges, so that a stale PASS would show."""
    settings = {
        "source.kind": "camera",
        "source.device": camera.address,
        "source.read_timeout_s": 1,
        "source.open_timeout_s": 1,
        "inspection.threshold": 1e6,
    }
    station = make_station(oracle, {**settings, "source.fps": 25})
    station.start()
    wait_for_passes(station, 10)
    return station


def wait_for_word(station: Station, word: str, times: int) -> None:
    station.wait_for(lambda: station.log().count(word) >= times, f"{word!r} is logged {times} times")


def wait_for_passes(station: Station, count: int) -> None:
    station.wait_for(lambda: passed(station) >= count, f"{count} parts pass")


def health(log: Log) -> list[str]:
    return [entry.text or "" for entry in log.arrived("/health")]


def passed(station: Station) -> int:
    return sum(verdict["verdict"] == "PASS" for verdict in station.printed_now())


def test_a_camera_that_gives_no_pictures_gives_no_pass(
    oracle: BrokerProcess, make_station: MakeStation, camera: MjpegCamera
) -> None:
    station = watch(make_station, oracle, camera)
    for times, mood in enumerate((Mood.HANG, Mood.CLOSE, Mood.GARBAGE), start=1):
        camera.mood = mood
        wait_for_word(station, "away, waiting for it", times)
        before = passed(station)
        oracle.wait_for(lambda log: any('"source":"away"' in said for said in health(log)[-1:]), "/health says so")
        assert passed(station) == before <= camera.sent
        camera.mood = Mood.STREAM
        wait_for_word(station, "back after", times)
        wait_for_passes(station, before + 10)
        assert passed(station) <= camera.sent
    assert station.stop() == 0


def test_a_frozen_camera_gives_no_result_and_no_second_pass(
    oracle: BrokerProcess, make_station: MakeStation, camera: MjpegCamera
) -> None:
    station = watch(make_station, oracle, camera)
    camera.mood = Mood.FREEZE
    wait_for_word(station, "it is frozen", 1)
    oracle.wait_for(lambda log: any('"source":"away"' in said for said in health(log)[-1:]), "/health says so")
    oracle.wait_for(lambda log: '"active":1' in log.retained("/alarm/source_away")[-1], "the alarm is raised")
    frozen = len(station.printed_now())
    station.wait_for_verdicts(frozen + 20)  # over a reconnection: it streams for a second at a time
    answers = station.printed_now()
    assert passed(station) <= camera.sent
    assert {(answer["verdict"], answer["reason"]) for answer in answers[frozen:]} == {("NO_RESULT", "camera_stale")}
    assert station.log().count("frames cannot be judged") == 1
    camera.mood = Mood.STREAM
    wait_for_word(station, "back after", 1)
    wait_for_passes(station, passed(station) + 10)
    oracle.wait_for(lambda log: '"active":0' in log.retained("/alarm/source_away")[-1], "the alarm is over")
    assert passed(station) <= camera.sent
    assert station.stop() == 0


def test_frames_that_are_cut_off_resized_or_far_too_large_are_answered_and_never_pass(
    oracle: BrokerProcess, make_station: MakeStation, camera: MjpegCamera
) -> None:
    station = watch(make_station, oracle, camera)
    memory = station.process.memory_info().rss

    def answers(since: int) -> set[tuple[str, str]]:
        return {(answer["verdict"], answer["reason"]) for answer in station.printed_now()[since:]}

    def expect(mood: Mood, size: tuple[int, int], *expected: tuple[str, str]) -> None:
        camera.mood, camera.size = mood, size
        station.wait_for(lambda: answers(-10) == set(expected), f"{mood} is answered by {expected}")
        before = len(station.printed_now())
        station.wait_for_verdicts(before + 20)
        assert answers(before) == set(expected)

    whole, unusable = ("PASS", ""), ("NO_RESULT", "image_unusable")
    expect(Mood.CUT, FRAME_SIZE, whole, unusable)  # every second one is whole
    expect(Mood.STREAM, (FRAME_SIZE[0] // 2, FRAME_SIZE[1] // 2), unusable)
    expect(Mood.HUGE, FRAME_SIZE, unusable)
    assert station.process.memory_info().rss - memory < 200e6
    camera.mood = Mood.STREAM
    wait_for_passes(station, passed(station) + 10)
    assert station.stop() == 0


def test_a_camera_that_changes_its_size_gets_no_result(
    oracle: BrokerProcess, make_station: MakeStation, camera: MjpegCamera
) -> None:
    station = watch(make_station, oracle, camera)
    camera.switch_off()
    camera.size = (FRAME_SIZE[0] // 2, FRAME_SIZE[1])
    camera.switch_on()
    station.wait_for(lambda: station.printed_now()[-1]["reason"] == "image_unusable", "it is unusable")
    before = passed(station)
    station.wait_for_verdicts(len(station.printed_now()) + 10)
    assert passed(station) == before
    camera.switch_off()
    camera.size = FRAME_SIZE
    camera.switch_on()
    wait_for_passes(station, before + 10)
    assert station.stop() == 0
