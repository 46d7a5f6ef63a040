from __future__ import annotations

from pathlib import Path

import pytest

from edge.errors import SourceError
from edge.sources.stream import VideoRead

from .videos import SIZE, write_video


def test_what_the_operator_has_set_for_opencv_is_heeded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "video.avi"
    write_video(path, "mjpeg", 2)
    video = VideoRead(str(path), "video", lambda: 10**6)
    assert (video.height, video.width) == SIZE
    video.release()
    monkeypatch.setenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;udp|format_whitelist;matroska")
    with pytest.raises(SourceError, match="video: not a video that can be decoded"):
        VideoRead(str(path), "video", lambda: 10**6)


def test_a_file_without_pictures_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    path.write_bytes(b"RIFF$\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0@\x1f\0\0@\x1f\0\0\1\0\x08\0data\0\0\0\0")
    with pytest.raises(SourceError, match="sound: not a video that can be decoded: it holds none"):
        VideoRead(str(path), "sound", lambda: 10**6)
