from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.bundle.bundle import read_bundle
from edge.inspection.inspector import Inspector
from edge.inspection.options import InspectorOptions
from edge.line.buffer import Buffer, WhenFull
from edge.line.workers import Workers
from edge.records import Frame, FrameIdentity, Outcome, Reason, UInt8Array, Verdict
from tests.bundles import draw_defective, draw_good, make_frame

PATIENCE_S = 60.0


def blank_frame(sequence: int) -> Frame:
    return Frame(FrameIdentity(sequence, 0.0, 0.0), np.zeros((1, 1, 3), np.uint8))


def verdict_of(frame: Frame) -> Verdict:
    return Verdict(frame.identity, Outcome.PASS, score=0.5, threshold=1.0, recipe="r", model="m")


class Crew:
    """Real threads on one buffer; what they deliver, and when they have all ended."""

    def __init__(self, answers: list[Callable[[Frame], Verdict]], *, frames: int = 1000) -> None:
        self.frames = Buffer[Frame](frames, WhenFull.BLOCK)
        self.ended = threading.Event()
        self.delivered: list[int] = []
        self.beats = [0] * len(answers)
        self.delivering = 0
        self.most_delivering = 0
        workers = Workers(self.frames, len(answers), self.ended.set)
        for place, answer in enumerate(answers):
            threading.Thread(
                target=workers.work, args=(answer, self._deliver, lambda place=place: self._beat(place)), daemon=True
            ).start()

    def feed(self, count: int) -> None:
        for sequence in range(count):
            assert self.frames.put(blank_frame(sequence), PATIENCE_S)

    def finish(self) -> list[int]:
        self.frames.close()
        assert self.ended.wait(PATIENCE_S)
        return self.delivered

    def _deliver(self, verdict: Verdict) -> None:
        self.delivering += 1
        self.most_delivering = max(self.most_delivering, self.delivering)
        time.sleep(0)  # others may run now
        self.delivered.append(verdict.identity.sequence)
        self.delivering -= 1

    def _beat(self, place: int) -> None:
        self.beats[place] += 1


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@settings(max_examples=30)
@given(st.integers(1, 5), st.lists(st.integers(0, 3), max_size=40))
def test_verdicts_leave_in_the_order_of_the_frames_however_long_each_takes(workers: int, delays: list[int]) -> None:
    def answer(frame: Frame) -> Verdict:
        time.sleep(delays[frame.identity.sequence] / 1000)
        return verdict_of(frame)

    crew = Crew([answer] * workers)
    crew.feed(len(delays))
    assert crew.finish() == list(range(len(delays)))
    assert crew.most_delivering <= 1


def test_a_slow_frame_holds_back_the_verdicts_behind_it_and_the_others_go_on_for_a_while_only() -> None:
    release = threading.Event()
    answered: list[int] = []

    def answer(frame: Frame) -> Verdict:
        if frame.identity.sequence == 0:
            assert release.wait(PATIENCE_S)
        answered.append(frame.identity.sequence)
        return verdict_of(frame)

    crew = Crew([answer, answer])
    crew.feed(30)
    wait_until(lambda: len(answered) >= 5)  # 1 to 4 are held, 5 is answered and waits for room
    seen = list(crew.beats)
    wait_until(lambda: sum(now > before for now, before in zip(crew.beats, seen, strict=True)) == 1)
    assert sorted(answered) == [1, 2, 3, 4, 5]
    assert crew.delivered == []
    assert sum(now > before for now, before in zip(crew.beats, seen, strict=True)) == 1  # the one that hangs is silent
    release.set()
    assert crew.finish() == list(range(30))


def test_threads_with_nothing_to_do_say_so() -> None:
    crew = Crew([verdict_of, verdict_of])
    wait_until(lambda: min(crew.beats) >= 2)
    assert crew.finish() == []


def test_the_end_is_told_even_if_a_thread_fails() -> None:
    def deliver(verdict: Verdict) -> None:
        raise OSError(verdict.identity.sequence)

    frames = Buffer[Frame](4, WhenFull.BLOCK)
    ended = threading.Event()
    workers = Workers(frames, 1, ended.set)
    assert frames.put(blank_frame(7), 0)
    with pytest.raises(OSError, match="7"):
        workers.work(verdict_of, deliver, lambda: None)
    assert ended.is_set()


@pytest.mark.parametrize("search", ["exact", "fast"])
def test_a_team_gives_the_same_verdicts_as_one_inspector_alone(bundle_dir: Path, search: str) -> None:
    bundle = read_bundle(bundle_dir)
    pictures = [draw_good(number).image for number in range(6)] + [draw_defective(number).image for number in range(6)]
    pictures.append(np.zeros((3, 3, 3), np.uint8))
    alone = Inspector(bundle, InspectorOptions(search=search))  # type: ignore[arg-type]
    expected = [alone.inspect(make_frame(picture, number)).verdict for number, picture in enumerate(pictures)]
    options = InspectorOptions(mode="throughput", workers=3, search=search)  # type: ignore[arg-type]
    got = inspect_with_team(Inspector(bundle, options).team(), pictures)
    assert [verdict.identity.sequence for verdict in got] == list(range(len(pictures)))
    assert [verdict.outcome for verdict in got] == [verdict.outcome for verdict in expected]
    assert [verdict.reason for verdict in got] == [verdict.reason for verdict in expected]
    assert [len(verdict.defects) for verdict in got] == [len(verdict.defects) for verdict in expected]
    np.testing.assert_allclose([v.score for v in got], [v.score for v in expected], rtol=1e-3)
    assert got[-1].reason is Reason.IMAGE_UNUSABLE
    assert got[-2].crops[0].jpeg == expected[-2].crops[0].jpeg


def inspect_with_team(team: tuple[Inspector, ...], pictures: list[UInt8Array]) -> list[Verdict]:
    """Every picture three times, at once; the verdicts of the last round."""
    frames = Buffer[Frame](1000, WhenFull.BLOCK)
    ended = threading.Event()
    delivered: list[Verdict] = []
    workers = Workers(frames, len(team), ended.set)
    for _ in range(3):
        for number, picture in enumerate(pictures):
            frames.put(make_frame(picture, number), 0)
    frames.close()
    for inspector in team:
        threading.Thread(target=workers.work, args=(inspector.answer, delivered.append, lambda: None)).start()
    assert ended.wait(PATIENCE_S)
    return delivered[-len(pictures) :]
