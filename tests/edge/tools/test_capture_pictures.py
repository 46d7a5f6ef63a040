from __future__ import annotations

import itertools
import time
from pathlib import Path

import numpy as np
import pytest

from edge.errors import SourceError
from edge.files.pictures import list_pictures, read_picture, write_picture
from edge.records import Frame, FrameIdentity
from edge.settings.sections import SourceKind, SourceSettings
from edge.sources import open_source
from edge.sources.base import SourceState
from edge.sources.simulated.source import draw_part
from edge.tools.capture_pictures import record_frames


def simulated(frames: int | None = None) -> SourceSettings:
    return SourceSettings(seed=3, defect_rate=0, simulated_width=96, simulated_height=64, frames=frames)


def test_frames_are_written_without_loss_and_named_after_their_part(tmp_path: Path) -> None:
    source = open_source(simulated())
    reported: list[int] = []
    try:
        assert record_frames(source, tmp_path, 4, patience_s=10, report=reported.append) == 4
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
        assert record_frames(source, tmp_path, 10, patience_s=10, report=lambda _: None) == 2
    finally:
        source.close()


def test_a_frame_without_a_part_is_named_after_its_number(tmp_path: Path) -> None:
    pictures, out = tmp_path / "pictures", tmp_path / "out"
    for number in range(2):
        write_picture(pictures / f"{number}.png", np.full((40, 40, 3), number, np.uint8))
    source = open_source(SourceSettings(kind=SourceKind.FOLDER, path=str(pictures)))
    try:
        record_frames(source, out, 2, patience_s=10, report=lambda _: None)
    finally:
        source.close()
    assert [path.name for path in list_pictures(out)] == ["frame-000000.png", "frame-000001.png"]


def test_a_frame_that_cannot_be_read_ends_it_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "torn.png").write_bytes(b"torn")
    source = open_source(SourceSettings(kind=SourceKind.FOLDER, path=str(tmp_path)))
    try:
        with pytest.raises(SourceError, match=r"torn\.png: cannot be read"):
            record_frames(source, tmp_path / "out", 1, patience_s=10, report=lambda _: None)
    finally:
        source.close()


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
        record_frames(source, tmp_path, 3, patience_s=0.05, report=lambda _: None)
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
    assert record_frames(FreezingSource(), tmp_path, 3, patience_s=10, report=lambda _: None) == 3
    assert [path.name for path in list_pictures(tmp_path)] == [f"frame-{number:06d}.png" for number in (0, 3, 6)]
