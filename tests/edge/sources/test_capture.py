from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.records import UInt8Array
from edge.settings.source import CameraSettings
from edge.sources.address import parse_address
from edge.sources.base import Shot
from edge.sources.capture import open_capture

from .videos import DAMAGES, GOP, damage_packet, moving_texture, write_video


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing on standard error."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A directory, and the address below which a camera serves it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield tmp_path, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def shots(device: str) -> list[Shot]:
    settings = CameraSettings(device=device)
    capture = open_capture(parse_address(device, None), settings, lambda: 10**6)
    try:
        return list(iter(capture.read, None))
    finally:
        capture.release()


def test_a_camera_whose_frames_build_on_each_other_loses_them_up_to_the_next_key_frame(
    served: tuple[Path, str],
) -> None:
    directory, address = served
    write_video(directory / "stream.ts", "libx264", 4 * GOP, {"tune": "zerolatency"})
    damage_packet(directory / "stream.ts", GOP + 2, DAMAGES["cut"])
    came = shots(f"{address}/stream.ts")
    assert len(came) == 4 * GOP
    assert [number for number, shot in enumerate(came) if shot.unusable] == list(range(GOP + 2, 2 * GOP))
    for number, shot in enumerate(came):
        assert shot.unusable or np.abs(shot.image.astype(int) - moving_texture(number)).mean() < 8


class JpegDriver:
    """A driver that hands out what a USB camera sends; `cv2.VideoCapture` in the place of hardware."""

    def __init__(self, packets: list[bytes]) -> None:
        self._packets = packets
        self._converts = True

    def isOpened(self) -> bool:  # noqa: N802 — OpenCV's name
        return True

    def get(self, key: int) -> float:
        return float(cv2.VideoWriter.fourcc(*"MJPG")) if key == cv2.CAP_PROP_FOURCC else 0.0

    def set(self, key: int, value: float) -> bool:
        if key == cv2.CAP_PROP_CONVERT_RGB:
            self._converts = bool(value)
        return True

    def read(self) -> tuple[bool, UInt8Array]:
        assert not self._converts
        if not self._packets:
            return False, np.empty(0, np.uint8)
        return True, np.frombuffer(self._packets.pop(0), np.uint8).reshape(1, -1)

    def release(self) -> None:
        pass


def test_what_a_usb_camera_sends_as_jpeg_is_decoded_strictly(monkeypatch: pytest.MonkeyPatch) -> None:
    jpeg = cv2.imencode(".jpg", moving_texture(0))[1].tobytes()
    driver = JpegDriver([jpeg, jpeg[: len(jpeg) // 2], jpeg + bytes(100)])
    monkeypatch.setattr(cv2, "VideoCapture", lambda *_: driver)
    whole, cut, padded = shots("0")
    assert whole.image.shape == padded.image.shape == moving_texture(0).shape
    assert cut.unusable.startswith("JPEG cut off or damaged")
