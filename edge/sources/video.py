"""A video file as a source. Only files: addresses belong to `camera`."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from pathlib import Path

import cv2
import numpy as np

from edge.errors import SourceError
from edge.records import UInt8Array
from edge.settings.sections import SourceSettings
from edge.sources.base import Shot
from edge.sources.pace import PacedSource, Picture

log = logging.getLogger("patchline.source")


def open_video(settings: SourceSettings) -> PacedSource:
    """The frames of the file `settings.path`; frame n is named `file#n`, counted from 0 in every round.

    Raises:
        SourceError: there is no such file, or not one frame of it can be decoded.
    """
    path = Path(settings.path)
    if not path.is_file():
        raise SourceError(f"{settings.path or 'source.path'}: no such video file; check the path")
    first = _open(path)
    return PacedSource(_pictures(path, first, loop=settings.loop), fps=settings.fps, frames=settings.frames)


def _open(path: Path) -> tuple[cv2.VideoCapture, UInt8Array]:
    # An absolute path: FFmpeg would take `name:…` for a protocol.
    capture = cv2.VideoCapture(str(path.resolve()), cv2.CAP_FFMPEG)
    taken, image = capture.read()
    if not taken:
        capture.release()
        raise SourceError(f"{path}: not a video that can be decoded; play it with another program, convert it again")
    return capture, np.asarray(image, np.uint8)


def _pictures(path: Path, opened: tuple[cv2.VideoCapture, UInt8Array], *, loop: bool) -> Generator[Picture]:
    while True:
        capture, first = opened
        try:
            for number, image in enumerate(_images(capture, first)):
                yield Picture(Shot(image), name=f"{path.name}#{number}")
        finally:
            capture.release()
        if not loop:
            return
        # Seeking to the start is not reliable for every codec; opening again is.
        try:
            opened = _open(path)
        except SourceError as error:
            log.warning("source: %s; the video cannot begin again", error)
            return


def _images(capture: cv2.VideoCapture, first: UInt8Array) -> Iterator[UInt8Array]:
    yield first
    while True:
        taken, image = capture.read()
        if not taken:
            return
        yield np.asarray(image, np.uint8)
