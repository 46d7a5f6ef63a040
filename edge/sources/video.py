"""A video file as a source. Only files: addresses belong to `camera`."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from edge.errors import SourceError
from edge.files.names import shown
from edge.settings.source import VideoSettings
from edge.sources.base import PixelLimit, Shot
from edge.sources.pace import PacedSource, Picture
from edge.sources.stream import VideoRead

log = logging.getLogger("patchline.source")


def open_video(settings: VideoSettings, max_pixels: PixelLimit) -> PacedSource:
    """The frames of the file `settings.path`; frame n is named `file#n`, counted from 0 in every round.

    A frame that cannot be decoded, or comes after one and builds on it, is unusable, and the rest goes on.

    Raises:
        SourceError: there is no such file, or not one frame of it can be decoded.
    """
    path = Path(settings.path)
    if not path.is_file():
        raise SourceError(f"{settings.path or 'source.path'}: no such video file; check the path")
    _check(path, max_pixels)
    return PacedSource(_pictures(path, max_pixels, loop=settings.loop), fps=settings.fps, frames=settings.frames)


def _check(path: Path, max_pixels: PixelLimit) -> None:
    with _opened(path, max_pixels) as shots:
        if not any(shot.image.size for shot in shots):
            raise SourceError(
                f"{shown(path)}: not a video that can be decoded; play it with another program, convert it again"
            )


def _pictures(path: Path, max_pixels: PixelLimit, *, loop: bool) -> Generator[Picture]:
    for _round in count() if loop else range(1):
        # Seeking to the start is not reliable for every codec; opening again is.
        try:
            with _opened(path, max_pixels) as shots:
                for number, shot in enumerate(shots):
                    yield Picture(shot, name=f"{shown(path.name)}#{number}")
        except SourceError as error:
            log.warning("source: %s; the video cannot begin again", error)
            return


@contextmanager
def _opened(path: Path, max_pixels: PixelLimit) -> Iterator[Iterator[Shot]]:
    """What the file has for each of its pictures."""
    try:
        # An open file: FFmpeg would take some names for a protocol, and follow some files to others.
        stream = path.open("rb")
    except OSError as error:
        raise SourceError(f"{shown(path)}: cannot be read ({error.strerror})") from error
    with stream:
        video = VideoRead(stream, shown(path), max_pixels)
        try:
            yield iter(video.read, None)
        finally:
            video.release()
