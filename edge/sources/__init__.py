"""Where frames come from."""

from __future__ import annotations

from edge.files.pictures import MAX_PIXELS
from edge.settings.sections import SourceKind, SourceSettings
from edge.sources.base import PixelLimit, Source
from edge.sources.camera import CameraSource
from edge.sources.files import open_files
from edge.sources.simulated.source import open_simulated
from edge.sources.video import open_video


def open_source(settings: SourceSettings, max_pixels: PixelLimit = lambda: MAX_PIXELS) -> Source:
    """The source that `settings` describe, open. Pictures of more than `max_pixels` are not decoded but unusable.

    Raises:
        SourceError: it cannot be opened; the message says why and what to do.
    """
    match settings.kind:
        case SourceKind.SIMULATED:
            return open_simulated(settings)
        case SourceKind.FOLDER:
            return open_files(settings, max_pixels)
        case SourceKind.VIDEO:
            return open_video(settings)
        case SourceKind.CAMERA:
            return CameraSource(settings)
