"""Pictures of a folder, of a glob, or one alone, as a source.

A picture that cannot be read does not end the line: its frame says why, and is answered NO_RESULT, `image_unusable`.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from pathlib import Path

from edge.errors import SourceError
from edge.files.names import shown
from edge.files.pictures import list_pictures, read_picture
from edge.settings.source import FolderSettings
from edge.sources.base import PixelLimit, Shot, unusable
from edge.sources.pace import PacedSource, Picture

log = logging.getLogger("patchline.source")


def open_files(settings: FolderSettings, max_pixels: PixelLimit) -> PacedSource:
    """The pictures at `settings.path`, as they are there now, in natural order.

    Raises:
        SourceError: nothing is there, or no pictures are among it.
    """
    if not settings.path:
        raise SourceError("source.path is empty: give a directory, a picture or a glob of pictures")
    paths = list_pictures(settings.path)
    return PacedSource(_pictures(paths, max_pixels, loop=settings.loop), fps=settings.fps, frames=settings.frames)


def _pictures(paths: list[Path], max_pixels: PixelLimit, *, loop: bool) -> Generator[Picture]:
    while True:
        for path in paths:
            yield Picture(_read(path, max_pixels()), name=shown(path.name))
        if not loop:
            return


def _read(path: Path, max_pixels: int) -> Shot:
    try:
        return Shot(read_picture(path, max_pixels))
    except SourceError as error:
        log.warning("source: %s", error)
        return unusable(str(error))
