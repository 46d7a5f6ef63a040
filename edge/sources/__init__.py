"""Where frames come from."""

from __future__ import annotations

from edge.files.pictures import MAX_PIXELS
from edge.settings.source import FolderSettings, SimulatedSettings, SourceSettings, VideoSettings
from edge.sources.base import PixelLimit, Source
from edge.sources.files import open_files
from edge.sources.simulated.source import open_simulated


def open_source(settings: SourceSettings, max_pixels: PixelLimit = lambda: MAX_PIXELS) -> Source:
    """The source that `settings` describe, open. Pictures of more than `max_pixels` are not decoded but unusable.

    Raises:
        SourceError: it cannot be opened; the message says why and what to do.
    """
    # FFmpeg takes a tenth of a second to load, and is loaded where it is needed.
    match settings:
        case SimulatedSettings():
            return open_simulated(settings)
        case FolderSettings():
            return open_files(settings, max_pixels)
        case VideoSettings():
            from edge.sources.video import open_video  # noqa: PLC0415

            return open_video(settings, max_pixels)
        case _:
            from edge.sources.camera import CameraSource  # noqa: PLC0415

            return CameraSource(settings, max_pixels)
