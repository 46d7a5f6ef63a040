"""The real service with several inspecting threads."""

from __future__ import annotations

import itertools
import json
import signal
from pathlib import Path

import pytest

from edge.files.pictures import write_picture
from tests.bundles import draw_defective, draw_good
from tests.edge.line.test_service import running, simulated, write_settings

pytestmark = pytest.mark.long

THROUGHPUT = {"mode": "throughput", "workers": 3}


def test_every_frame_gets_exactly_one_verdict_in_the_order_of_capture(bundle_dir: Path, tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(30):
        # What fails takes longer than what passes, and what cannot be read takes no time: verdicts overtake each other.
        match number % 3:
            case 0:
                write_picture(frames / f"{number:03}.png", draw_good(number).image)
            case 1:
                write_picture(frames / f"{number:03}.png", draw_defective(0).image)
            case _:
                (frames / f"{number:03}.png").write_bytes(b"this is no picture")
    config = write_settings(
        tmp_path / "station.toml",
        bundle_dir,
        top={"publish": ["jsonl"]},
        source={"kind": "folder", "path": str(frames)},
        inspection=THROUGHPUT,
    )
    with running(config) as process:
        output, log = process.communicate(timeout=120)
    assert process.returncode == 0, log
    verdicts = [json.loads(line) for line in output.splitlines()]
    assert [verdict["frame"] for verdict in verdicts] == list(range(30))
    assert [verdict["seq"] for verdict in verdicts] == list(range(1, 31))
    assert [verdict["part_id"] for verdict in verdicts] == [f"{number:03}.png" for number in range(30)]
    assert {verdict["verdict"] for verdict in verdicts[1::3]} == {"FAIL"}
    assert {verdict["reason"] for verdict in verdicts[2::3]} == {"image_unusable"}


def test_sigterm_answers_what_was_captured(bundle_dir: Path, tmp_path: Path) -> None:
    config = write_settings(
        tmp_path / "station.toml",
        bundle_dir,
        top={"publish": ["jsonl"]},
        source=simulated(),
        inspection=THROUGHPUT,
    )
    with running(config) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = [process.stdout.readline() for _ in range(5)]
        process.send_signal(signal.SIGTERM)
        lines += process.stdout.readlines()  # not `communicate`, which forgets what was read ahead
        log = process.stderr.read()
        assert process.wait(60) == 0, log
    frames = [json.loads(line)["frame"] for line in lines]
    assert frames == list(range(len(frames)))
    final = next(line for line in log.splitlines() if "msg=stopped" in line)
    assert f"frames={len(frames)} " in final


def test_a_reader_of_verdicts_that_stands_still_stalls_no_thread(bundle_dir: Path, tmp_path: Path) -> None:
    config = write_settings(
        tmp_path / "station.toml",
        bundle_dir,
        top={"publish": ["jsonl"]},
        source=simulated(),
        inspection=THROUGHPUT,
        service={"stall_timeout_s": 2.0, "drain_timeout_s": 1.0, "verdict_buffer": 10, "health_interval_s": 1.0},
        alarms={"broker_away_s": 4.0},
    )
    with running(config) as process:
        assert process.stderr is not None
        lines = list(itertools.takewhile(lambda line: "stands still" not in line, process.stderr))
        assert process.poll() is None
    assert not [line for line in lines if "no progress" in line]
