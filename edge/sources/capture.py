"""Opening a camera with OpenCV: settings asked for, read back, and compared."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

import cv2
import numpy as np

from edge.errors import SourceError
from edge.records import UInt8Array
from edge.settings.sections import SourceSettings
from edge.sources.address import Address, why_silent

log = logging.getLogger("patchline.source")

# Linux V4L2_EXPOSURE_MANUAL; OpenCV hands the driver's own value through.
_MANUAL_EXPOSURE = 1.0


class WrongSizeError(SourceError):
    """The camera is there but gives pictures of another size than the settings ask for."""


class Capture(Protocol):
    """An opened camera. Both calls may block for ever when a driver hangs."""

    def read(self) -> UInt8Array | None:
        """The next picture, (height, width, 3) BGR, or None if the stream broke."""
        ...

    def release(self) -> None:
        """Give the device back."""
        ...


CaptureOpener = Callable[[Address, SourceSettings], Capture]


class OpenCvCapture:
    """`cv2.VideoCapture`: V4L2 for devices, FFmpeg with explicit time-outs for addresses.

    `OPENCV_FFMPEG_CAPTURE_OPTIONS` is left to the operator: without it OpenCV asks RTSP for TCP, and FFmpeg
    follows an address of the network to the network only, never to a file.
    """

    def __init__(self, address: Address, settings: SourceSettings) -> None:
        self._capture = _open(address, settings)
        if not self._capture.isOpened():
            self._capture.release()
            raise SourceError(f"{address.label}: {why_silent(address, settings.open_timeout_s)}")
        try:
            _configure(self._capture, address, settings)
        except SourceError:
            self._capture.release()
            raise

    def read(self) -> UInt8Array | None:
        """The next picture, or None if the stream broke."""
        try:
            taken, image = self._capture.read()
        except cv2.error:
            return None
        return np.asarray(image, np.uint8) if taken else None

    def release(self) -> None:
        """Close the device or connection."""
        self._capture.release()


def _open(address: Address, settings: SourceSettings) -> cv2.VideoCapture:
    if isinstance(address.target, int):
        return cv2.VideoCapture(address.target, cv2.CAP_V4L2)
    if not address.network:
        return cv2.VideoCapture(address.target, cv2.CAP_V4L2)
    timeouts = [
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
        round(settings.open_timeout_s * 1000),
        cv2.CAP_PROP_READ_TIMEOUT_MSEC,
        round(settings.read_timeout_s * 1000),
    ]
    return cv2.VideoCapture(address.target, cv2.CAP_FFMPEG, timeouts)


def _configure(capture: cv2.VideoCapture, address: Address, settings: SourceSettings) -> None:
    """Ask a device for what the settings say, and compare what it gives; an address is compared only."""
    wanted = wishes(settings)
    if not address.network:
        for key, value in wanted.values():
            capture.set(key, value)
    got = {name: capture.get(key) for name, (key, _) in wanted.items()}
    _check_size(address, settings, got)
    for name, (_, value) in wanted.items():
        if not address.network and got[name] != value:
            log.warning("source: %s: asked for %s %g, got %g", address.label, name, value, got[name])


def wishes(settings: SourceSettings) -> dict[str, tuple[int, float]]:
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


def _check_size(address: Address, settings: SourceSettings, got: dict[str, float]) -> None:
    for name, value in (("width", settings.width), ("height", settings.height)):
        if value is not None and got[name] != value:
            raise WrongSizeError(
                f"{address.label}: asked for {name} {value}, got {got[name]:.0f}; "
                f"set source.{name} to a size that the camera gives"
            )


def _fourcc(code: str | None) -> float | None:
    return None if code is None else float(cv2.VideoWriter.fourcc(*code))
