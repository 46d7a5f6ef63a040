"""Pictures of a folder, of a glob, or one alone, as a source.

A picture that cannot be read does not end the line: its frame comes with an empty image, (0, 0, 3), and the
inspector answers it with NO_RESULT, `image_unusable`.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from pathlib import Path

import numpy as np

from edge.errors import SourceError
from edge.files.pictures import list_pictures, read_picture
from edge.records import UInt8Array
from edge.settings.sections import SourceSettings
from edge.sources.pace import PacedSource, Picture

log = logging.getLogger("patchline.source")


def open_files(settings: SourceSettings) -> PacedSource:
    """The pictures at `settings.path`, as they are there now, in natural order.

    Raises:
        SourceError: nothing is there, or no pictures are among it.
    """
    if not settings.path:
        raise SourceError("source.path is empty: give a directory, a picture or a glob of pictures")
    paths = list_pictures(settings.path)
    return PacedSource(_pictures(paths, loop=settings.loop), fps=settings.fps, frames=settings.frames)


def _pictures(paths: list[Path], *, loop: bool) -> Generator[Picture]:
    while True:
        for path in paths:
            yield Picture(image=_read(path), name=path.name)
        if not loop:
            return


def _read(path: Path) -> UInt8Array:
    try:
        return read_picture(path)
    except SourceError as error:
        log.warning("source: %s", error)
        return np.empty((0, 0, 3), np.uint8)
