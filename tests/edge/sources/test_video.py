from __future__ import annotations

import os
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import SourceError
from edge.settings.source import VideoSettings
from edge.sources import open_source
from edge.sources.base import SourceState

from .test_files import read_all
from .videos import DAMAGES, GOP, damage_packet, write_video

FRAMES = 5
STEP = 40


def settings(path: Path, *, loop: bool = False, frames: int | None = None) -> VideoSettings:
    return VideoSettings(path=str(path), loop=loop, frames=frames)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "line 1.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for number in range(FRAMES):
        writer.write(np.full((48, 64, 3), number * STEP, np.uint8))
    writer.release()
    return path


def test_a_video_gives_every_frame_once_and_ends(video: Path) -> None:
    source = open_source(settings(video))
    assert not source.live
    frames = read_all(source)
    assert [frame.identity.name for frame in frames] == [f"line 1.avi#{number}" for number in range(FRAMES)]
    assert [frame.identity.sequence for frame in frames] == list(range(FRAMES))
    assert [round(float(frame.image.mean()) / STEP) for frame in frames] == list(range(FRAMES))
    assert frames[0].image.shape == (48, 64, 3)
    assert source.state is SourceState.ENDED


def test_frames_belong_to_the_caller(video: Path) -> None:
    first, second, *_ = read_all(open_source(settings(video)))
    assert not np.shares_memory(first.image, second.image)
    assert round(float(first.image.mean())) == 0


def test_a_looping_video_begins_again_and_goes_on_counting(video: Path) -> None:
    frames = read_all(open_source(settings(video, loop=True, frames=12)))
    assert [frame.identity.sequence for frame in frames] == list(range(12))
    assert [round(float(frame.image.mean()) / STEP) for frame in frames] == [n % FRAMES for n in range(12)]
    assert frames[7].identity.name == "line 1.avi#2"


def test_a_looping_video_that_vanishes_ends(video: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = open_source(settings(video, loop=True))
    for _ in range(FRAMES):
        assert source.read(1) is not None
    video.unlink()
    assert source.read(1) is None
    assert source.state is SourceState.ENDED
    assert "cannot begin again" in caplog.text


def test_a_video_that_is_cut_off_gives_what_there_is(video: Path) -> None:
    data = video.read_bytes()
    index = data.rindex(b"00dc", 0, data.index(b"idx1"))  # within the last frame
    video.write_bytes(data[: index + 20])
    assert 1 <= len(read_all(open_source(settings(video)))) <= FRAMES


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    ("codec", "suffix", "options"),
    [
        ("mjpeg", ".avi", {}),
        ("mpeg4", ".mp4", {}),
        ("libx264", ".mp4", {"tune": "zerolatency"}),
        ("libx264", ".mkv", {"bf": "0"}),
    ],
)
def test_no_picture_is_taken_from_damage_or_from_what_builds_on_it(
    tmp_path: Path, codec: str, suffix: str, options: dict[str, str], damage: str
) -> None:
    path = tmp_path / f"video{suffix}"
    write_video(path, codec, 3 * GOP, options)
    whole = read_all(open_source(settings(path)))
    damage_packet(path, GOP + 1, DAMAGES[damage])
    frames = read_all(open_source(settings(path)))
    lost = [GOP + 1] if codec == "mjpeg" else list(range(GOP + 1, 2 * GOP))
    assert [frame.identity.sequence for frame in frames if frame.unusable] == lost
    assert [frame.identity.name for frame in frames] == [f"video{suffix}#{number}" for number in range(3 * GOP)]
    for frame, before in zip(frames, whole, strict=True):
        assert frame.unusable or np.array_equal(frame.image, before.image)


ONE = 0x10000  # in the header's fixed point


@pytest.mark.parametrize("turn", [(0, ONE, -ONE, 0), (-ONE, 0, 0, -ONE), (0, -ONE, ONE, 0)])
def test_a_video_is_turned_as_it_says_and_as_opencv_turns_it(tmp_path: Path, turn: tuple[int, ...]) -> None:
    path = tmp_path / "video.mp4"
    write_video(path, "libx264", 2)
    upright = struct.pack(">9i", ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30)
    turned = struct.pack(">9i", turn[0], turn[1], 0, turn[2], turn[3], 0, 0, 0, 1 << 30)
    data = path.read_bytes()
    track = data.index(b"tkhd")
    path.write_bytes(data[:track] + data[track:].replace(upright, turned, 1))
    _, expected = cv2.VideoCapture(str(path)).read()
    np.testing.assert_array_equal(read_all(open_source(settings(path)))[0].image, expected)


@pytest.mark.parametrize("damage", ["cut", "end zeroed", "garbage"])
@pytest.mark.parametrize("packet", [1, 2, 3, GOP])
@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"bf": "2"}),
        ("libx264", {"x264-params": "open-gop=1:bframes=2"}),  # frames before a key frame build on what was before it
        ("libx265", {"x265-params": "log-level=none:bframes=2", "preset": "ultrafast"}),
        ("mpeg2video", {}),
    ],
)
def test_neither_what_is_shown_before_a_damaged_frame_nor_what_is_never_shown_for_it_is_taken(
    tmp_path: Path, codec: str, options: dict[str, str], packet: int, damage: str
) -> None:
    path = tmp_path / "video.mkv"
    write_video(path, codec, 3 * GOP, options)
    whole = read_all(open_source(settings(path)))
    damage_packet(path, packet, DAMAGES[damage])
    frames = read_all(open_source(settings(path)))
    assert len(frames) == len(whole)
    assert any(frame.unusable for frame in frames)
    for frame, before in zip(frames, whole, strict=True):
        assert frame.unusable or np.array_equal(frame.image, before.image)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_whole_frames_are_those_that_opencv_gives(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "video.mp4"
    write_video(path, codec, 2 * GOP)  # H.264 with frames that build on later ones
    other = cv2.VideoCapture(str(path))
    frames = read_all(open_source(settings(path)))
    assert len(frames) == 2 * GOP
    for frame in frames:
        taken, expected = other.read()
        assert taken
        np.testing.assert_array_equal(frame.image, expected)


def test_a_codec_whose_damage_cannot_be_told_is_said_to_be_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "video.webm"
    write_video(path, "libvpx", GOP, {"deadline": "realtime"})
    assert len(read_all(open_source(settings(path)))) == GOP
    assert "does not tell all damaged frames" in caplog.text


def test_a_video_whose_name_is_not_utf_8_is_read(video: Path) -> None:
    path = video.rename(video.with_name(os.fsdecode(b"line\xff.avi")))
    frames = read_all(open_source(settings(path)))
    assert frames[0].identity.name == r"line\xff.avi#0"


def test_closing_in_the_middle_releases_the_file(video: Path) -> None:
    source = open_source(settings(video))
    assert source.read(1) is not None
    source.close()
    source.close()
    assert source.read(1) is None
    assert str(video) not in [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.exists()]


def test_missing_foreign_and_empty_files_are_source_errors(tmp_path: Path) -> None:
    (tmp_path / "garbage.mp4").write_bytes(bytes(range(256)) * 40)
    (tmp_path / "empty.mp4").touch()
    for name, problem in [
        ("absent.mp4", "no such video"),
        ("garbage.mp4", "not a video"),
        ("empty.mp4", "not a video"),
    ]:
        with pytest.raises(SourceError, match=f"{name}: {problem}"):
            open_source(settings(tmp_path / name))
    with pytest.raises(SourceError, match="no such video"):
        open_source(settings(tmp_path))


def test_an_address_is_not_a_video_file() -> None:
    with pytest.raises(SourceError, match="no such video file"):
        open_source(VideoSettings(path="http://127.0.0.1:9/video.mp4"))
