from __future__ import annotations

import itertools
import time
from pathlib import Path

import numpy as np
import pytest

from edge.errors import SourceError
from edge.files.pictures import list_pictures, read_picture, write_picture
from edge.records import Frame, FrameIdentity
from edge.settings.source import FolderSettings, SimulatedSettings
from edge.sources import open_source
from edge.sources.base import Source, SourceState
from edge.sources.simulated.source import draw_part
from edge.tools.capture_pictures import Captured, record_frames
from edge.tools.capture_rules import EndOfPartsError, take_all


def record(source: Source, out: Path, count: int, *, patience_s: float = 10) -> Captured:
    return record_frames(source, out, count, rule=take_all, patience_s=patience_s, report=lambda _: None)


def simulated(frames: int | None = None) -> SimulatedSettings:
    return SimulatedSettings(seed=3, defect_rate=0, simulated_width=96, simulated_height=64, frames=frames)


def test_frames_are_written_without_loss_and_named_after_their_part(tmp_path: Path) -> None:
    source = open_source(simulated())
    reported: list[int] = []
    try:
        captured = record_frames(source, tmp_path, 4, rule=take_all, patience_s=10, report=reported.append)
        assert (captured.written, captured.alike, captured.unusable) == (4, 0, 0)
    finally:
        source.close()
    assert reported == [1, 2, 3, 4]
    assert [path.name for path in list_pictures(tmp_path)] == [f"sim-3-{number}.png" for number in range(4)]
    for number in range(4):
        expected = draw_part(3, number, (64, 96), 0.0).image
        assert (read_picture(tmp_path / f"sim-3-{number}.png") == expected).all()


def test_a_source_that_ends_early_gives_fewer(tmp_path: Path) -> None:
    source = open_source(simulated(frames=2))
    try:
        captured = record(source, tmp_path, 10)
        assert captured.written == 2
        assert list(captured.words(10, tmp_path)) == [
            f"2 pictures in {tmp_path} of 10: the source or the parts have ended"
        ]
    finally:
        source.close()


def test_a_frame_without_a_part_is_named_after_its_number(tmp_path: Path) -> None:
    pictures, out = tmp_path / "pictures", tmp_path / "out"
    for number in range(2):
        write_picture(pictures / f"{number}.png", np.full((40, 40, 3), number, np.uint8))
    source = open_source(FolderSettings(path=str(pictures)))
    try:
        captured = record(source, out, 2)
        assert "2 of them" not in " ".join(captured.words(2, out))
    finally:
        source.close()
    assert [path.name for path in list_pictures(out)] == ["frame-000000.png", "frame-000001.png"]


def folder(path: Path) -> Source:
    return open_source(FolderSettings(path=str(path)))


def test_a_frame_that_cannot_be_read_is_counted_and_named(tmp_path: Path) -> None:
    (tmp_path / "1 torn.png").write_bytes(b"torn")
    write_picture(tmp_path / "2.png", np.zeros((40, 40, 3), np.uint8))
    captured = record(folder(tmp_path), tmp_path / "out", 2)
    assert (captured.written, captured.unusable) == (1, 1)
    assert "1 frames could not be read" in (words := " ".join(captured.words(2, tmp_path)))
    assert "1 torn.png: " in words


def test_pictures_of_one_part_are_counted_and_warned_of(tmp_path: Path) -> None:
    part = draw_part(0, 0, (96, 96), 0.0).image
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 5, part.shape, np.uint8)
        write_picture(tmp_path / f"{number}.png", np.clip(part.astype(int) + noise, 0, 255).astype(np.uint8))
    write_picture(tmp_path / "3.png", draw_part(0, 1, (96, 96), 0.0).image)
    captured = record(folder(tmp_path), tmp_path / "out", 4)
    assert (captured.written, captured.alike) == (4, 2)
    assert "warning: 2 of them show the same part" in " ".join(captured.words(4, tmp_path))


def test_pictures_of_another_size_than_the_first_are_refused(tmp_path: Path) -> None:
    write_picture(tmp_path / "1.png", np.zeros((40, 40, 3), np.uint8))
    write_picture(tmp_path / "2.png", np.zeros((40, 60, 3), np.uint8))
    with pytest.raises(SourceError, match=r"2\.png: 60×40 pixels; expected 40×40 as before"):
        record(folder(tmp_path), tmp_path / "out", 2)


def test_whoever_is_asked_may_have_enough(tmp_path: Path) -> None:
    def no_more(_frame: Frame) -> bool:
        raise EndOfPartsError

    source = open_source(simulated())
    captured = record_frames(source, tmp_path, 4, rule=no_more, patience_s=10, report=lambda _: None)
    source.close()
    assert captured.written == 0


class SilentSource:
    """A camera that is away for ever."""

    live = True
    state = SourceState.AWAY
    dropped = 0

    def __init__(self) -> None:
        self.reads = itertools.count()

    def read(self, timeout_s: float) -> None:  # noqa: ARG002 — the protocol's
        next(self.reads)

    def close(self) -> None:
        pass


def test_a_source_that_stays_silent_is_given_up(tmp_path: Path) -> None:
    source = SilentSource()
    with pytest.raises(SourceError, match=r"no frame for 0\.05 s after 0 of 3"):
        record(source, tmp_path, 3, patience_s=0.05)
    assert next(source.reads) > 1


class FreezingSource:
    """A camera that shows each picture three times; the repeats are marked, as `edge.sources.camera` does."""

    live = True
    state = SourceState.STREAMING
    dropped = 0

    def __init__(self) -> None:
        self.reads = itertools.count()

    def read(self, timeout_s: float) -> Frame:  # noqa: ARG002 — the protocol's
        number = next(self.reads)
        identity = FrameIdentity(number, time.time(), time.monotonic())
        return Frame(identity, draw_part(3, number // 3, (64, 96), 0.0).image, stale=number % 3 > 0)

    def close(self) -> None:
        pass


def test_repeats_of_a_frozen_camera_are_not_written(tmp_path: Path) -> None:
    assert record(FreezingSource(), tmp_path, 3).written == 3
    assert [path.name for path in list_pictures(tmp_path)] == [f"frame-{number:06d}.png" for number in (0, 3, 6)]
