from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from edge.errors import SourceError
from edge.files.pictures import write_picture
from edge.records import Frame
from edge.settings.source import FolderSettings
from edge.sources import open_source
from edge.sources.base import Source, SourceState


def settings(
    path: Path | str, *, loop: bool = False, fps: float | None = None, frames: int | None = None
) -> FolderSettings:
    return FolderSettings(path=str(path), loop=loop, fps=fps, frames=frames)


def read_all(source: Source) -> list[Frame]:
    frames = []
    while source.state is not SourceState.ENDED:
        frame = source.read(5)
        if frame is not None:
            frames.append(frame)
    return frames


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in (1, 2, 10):
        write_picture(tmp_path / f"part{number}.png", np.full((8, 9, 3), number, np.uint8))
    return tmp_path


def test_a_folder_gives_each_picture_once_in_order(folder: Path) -> None:
    before_s = time.time()
    source = open_source(settings(folder))
    assert not source.live
    frames = read_all(source)
    assert [frame.identity.name for frame in frames] == ["part1.png", "part2.png", "part10.png"]
    assert [frame.identity.sequence for frame in frames] == [0, 1, 2]
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [1, 2, 10]
    assert all(before_s <= frame.identity.captured_at_s <= time.time() for frame in frames)
    assert all(frame.identity.captured_monotonic_s <= time.monotonic() for frame in frames)
    assert not any(frame.identity.simulated for frame in frames)
    assert source.read(0) is None
    assert source.dropped == 0


def test_a_glob_and_one_picture_are_sources_too(folder: Path) -> None:
    assert len(read_all(open_source(settings(f"{folder}/part1*.png")))) == 2
    assert len(read_all(open_source(settings(folder / "part2.png")))) == 1


def test_an_unreadable_picture_is_an_empty_frame_and_the_rest_goes_on(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "part2.png").write_bytes(b"not a picture")
    with caplog.at_level(logging.WARNING):
        frames = read_all(open_source(settings(folder)))
    assert [frame.image.shape for frame in frames] == [(8, 9, 3), (0, 0, 3), (8, 9, 3)]
    assert [bool(frame.unusable) for frame in frames] == [False, True, False]
    assert "part2.png: not a picture" in frames[1].unusable
    assert frames[1].identity.name == "part2.png"
    assert frames[1].identity.sequence == 1
    assert [record.getMessage() for record in caplog.records if "part2.png" in record.getMessage()] != []


def test_a_picture_of_too_many_pixels_is_not_decoded_and_says_so(folder: Path) -> None:
    write_picture(folder / "part2.png", np.zeros((80, 90, 3), np.uint8))
    frames = read_all(open_source(settings(folder), lambda: 8 * 9))
    assert [frame.image.size for frame in frames] == [216, 0, 216]
    assert "90×80 pixels; expected at most 72" in frames[1].unusable


def test_a_name_that_is_not_utf_8_can_be_told_and_a_broken_link_is_answered(folder: Path) -> None:
    (folder / "part1.png").rename(folder / os.fsdecode(b"part\xff.png"))
    (folder / "part2.png").unlink()
    (folder / "part2.png").symlink_to("absent.png")
    frames = {frame.identity.name: frame for frame in read_all(open_source(settings(folder)))}
    assert set(frames) == {"part2.png", "part10.png", r"part\xff.png"}
    assert "a link to absent.png, which is not there" in frames["part2.png"].unusable


def test_a_picture_that_vanished_since_opening_is_an_empty_frame(folder: Path) -> None:
    source = open_source(settings(folder))
    (folder / "part1.png").unlink()
    assert [frame.image.size for frame in read_all(source)] == [0, 216, 216]


def test_a_looping_folder_begins_again_and_goes_on_counting(folder: Path) -> None:
    source = open_source(settings(folder, loop=True, frames=7))
    frames = read_all(source)
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [1, 2, 10, 1, 2, 10, 1]
    assert [frame.identity.sequence for frame in frames] == list(range(7))


def test_the_number_of_frames_ends_the_source_at_once(folder: Path) -> None:
    source = open_source(settings(folder, frames=2))
    states = [(source.read(1) is not None, source.state) for _ in range(3)]
    assert states == [
        (True, SourceState.STREAMING),
        (True, SourceState.ENDED),
        (False, SourceState.ENDED),
    ]


@pytest.mark.parametrize("path", ["", "absent"])
def test_no_pictures_are_a_source_error_at_open(tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError):
        open_source(settings(path))
    with pytest.raises(SourceError, match="no pictures among 0 entries"):
        open_source(settings(tmp_path))


def test_a_paced_source_is_never_ahead_of_its_schedule(folder: Path) -> None:
    source = open_source(settings(folder, loop=True, fps=50, frames=12))
    times = [frame.identity.captured_monotonic_s for frame in read_all(source)]
    assert all(later - times[0] > 0.02 * number - 0.001 for number, later in enumerate(times))


def test_a_late_reader_is_given_the_frames_it_missed(folder: Path) -> None:
    # The schedule does not move when a reader is late: at 20 fps, 0.6 s make up for at least 10 frames.
    source = open_source(settings(folder, loop=True, fps=20))
    assert source.read(1) is not None
    time.sleep(0.6)
    assert all(source.read(0) is not None for _ in range(10))
    source.close()


def test_a_pause_is_not_followed_by_a_burst(folder: Path) -> None:
    # After a pause much longer than a second, a second's worth may come at once, but no more.
    source = open_source(settings(folder, loop=True, fps=4))
    assert source.read(1) is not None
    time.sleep(2.6)
    at_once = 0
    while source.read(0) is not None:
        at_once += 1
    assert at_once <= 8  # all that was missed would be 10
    source.close()


def test_a_frame_that_is_not_due_in_time_is_none(folder: Path) -> None:
    source = open_source(settings(folder, fps=0.01))
    assert source.read(1) is not None
    assert source.read(0.01) is None
    assert source.state is SourceState.STREAMING
    source.close()


def test_closing_wakes_a_waiting_read(folder: Path) -> None:
    source = open_source(settings(folder, fps=0.01))
    assert source.read(1) is not None
    answers: list[Frame | None] = []
    reader = threading.Thread(target=lambda: answers.append(source.read(60)))
    reader.start()
    source.close()
    reader.join(20)
    assert answers == [None]
    source.close()
    assert source.state is SourceState.ENDED
