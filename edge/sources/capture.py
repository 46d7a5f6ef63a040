"""Opening a camera: a device by V4L2 (OpenCV), settings asked for, read back and compared; an address by FFmpeg."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

import cv2
import numpy as np

from edge.errors import SourceError
from edge.files.jpeg import decode_jpeg
from edge.settings.source import CameraSettings
from edge.sources.address import Address, why_silent
from edge.sources.base import PixelLimit, Shot, unusable
from edge.sources.stream import VideoRead

log = logging.getLogger("patchline.source")

# Linux V4L2_EXPOSURE_MANUAL; OpenCV hands the driver's own value through.
_MANUAL_EXPOSURE = 1.0
_JPEG_FORMATS = tuple(float(cv2.VideoWriter.fourcc(*code)) for code in ("MJPG", "JPEG"))


class WrongSizeError(SourceError):
    """The camera is there but gives pictures of another size than the settings ask for."""


class Capture(Protocol):
    """An opened camera. Both calls may block for ever when a driver hangs."""

    def read(self) -> Shot | None:
        """What came for the next picture, or None if the stream broke."""
        ...

    def release(self) -> None:
        """Give the device back."""
        ...


CaptureOpener = Callable[[Address, CameraSettings, PixelLimit], Capture]


def open_capture(address: Address, settings: CameraSettings, max_pixels: PixelLimit) -> Capture:
    """The camera at `address`, open, as the settings ask for it.

    Raises:
        SourceError: it cannot be opened, or gives pictures of another size than asked for (`WrongSizeError`).
    """
    capture: Capture
    if address.network:
        capture = stream = _open_stream(address, settings, max_pixels)
        got = {"width": float(stream.width), "height": float(stream.height)}
    else:
        capture = device = DeviceCapture(address, settings, max_pixels)
        got = device.got
    try:
        _check_size(address, settings, got)
    except SourceError:
        capture.release()
        raise
    return capture


def _open_stream(address: Address, settings: CameraSettings, max_pixels: PixelLimit) -> VideoRead:
    timeouts_s = (settings.open_timeout_s, settings.read_timeout_s)
    try:
        return VideoRead(str(address.target), address.label, max_pixels, timeouts_s=timeouts_s)
    except SourceError:
        raise SourceError(f"{address.label}: {why_silent(address, settings.open_timeout_s)}") from None


class DeviceCapture:
    """A device of this machine, by V4L2. `got` is what it says that it gives of what the settings ask for.

    JPEG that it sends is decoded here, strictly: OpenCV would fill what is missing.
    """

    def __init__(self, address: Address, settings: CameraSettings, max_pixels: PixelLimit) -> None:
        self._capture = cv2.VideoCapture(address.target, cv2.CAP_V4L2)
        self._max_pixels = max_pixels
        if not self._capture.isOpened():
            self._capture.release()
            raise SourceError(f"{address.label}: {why_silent(address, settings.open_timeout_s)}")
        self.got = self._configure(address, settings)
        sends_jpeg = self._capture.get(cv2.CAP_PROP_FOURCC) in _JPEG_FORMATS
        self._raw = sends_jpeg and self._capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)

    def read(self) -> Shot | None:
        """What came for the next picture, or None if the stream broke."""
        try:
            taken, image = self._capture.read()
        except cv2.error:
            return None
        if not taken:
            return None
        picture = np.asarray(image, np.uint8)
        return self._decode(picture.tobytes()) if self._raw else Shot(picture)

    def release(self) -> None:
        """Close the device."""
        self._capture.release()

    def _decode(self, data: bytes) -> Shot:
        try:
            return Shot(decode_jpeg(data, self._max_pixels()))
        except SourceError as error:
            return unusable(str(error))

    def _configure(self, address: Address, settings: CameraSettings) -> dict[str, float]:
        wanted = wishes(settings)
        for key, value in wanted.values():
            self._capture.set(key, value)
        got = {name: self._capture.get(key) for name, (key, _) in wanted.items()}
        for name, (_, value) in wanted.items():
            if got[name] != value:
                log.warning("source: %s: asked for %s %g, got %g", address.label, name, value, got[name])
        return got


def wishes(settings: CameraSettings) -> dict[str, tuple[int, float]]:
    """Name → OpenCV property and value, of what is asked for, in the order that V4L2 needs."""
    automatic = None if settings.exposure is None else _MANUAL_EXPOSURE
    properties: dict[str, tuple[int, float | None]] = {
        "fourcc": (cv2.CAP_PROP_FOURCC, _fourcc(settings.fourcc)),
        "width": (cv2.CAP_PROP_FRAME_WIDTH, settings.width),
        "height": (cv2.CAP_PROP_FRAME_HEIGHT, settings.height),
        "fps": (cv2.CAP_PROP_FPS, settings.fps),
        "auto_exposure": (cv2.CAP_PROP_AUTO_EXPOSURE, automatic),
        "exposure": (cv2.CAP_PROP_EXPOSURE, settings.exposure),
    }
    return {name: (key, value) for name, (key, value) in properties.items() if value is not None}


def _check_size(address: Address, settings: CameraSettings, got: dict[str, float]) -> None:
    for name, value in (("width", settings.width), ("height", settings.height)):
        if value is not None and got[name] != value:
            raise WrongSizeError(
                f"{address.label}: asked for {name} {value}, got {got[name]:.0f}; "
                f"set source.{name} to a size that the camera gives"
            )


def _fourcc(code: str | None) -> float | None:
    return None if code is None else float(cv2.VideoWriter.fourcc(*code))
