"""Frames of a source as picture files: how teaching pictures are taken on the line."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from edge.errors import SettingsError, SourceError
from edge.files.pictures import write_picture
from edge.records import Frame
from edge.sources.base import Source, SourceState

_POLL_S = 0.5


def record_frames(source: Source, out: Path, count: int, *, patience_s: float, report: Callable[[int], None]) -> int:
    """Write `count` frames to `out` as PNG, lossless, and return how many there were (fewer if the source ended).

    Raises:
        SettingsError: a picture of that name exists.
        SourceError: no frame came for `patience_s` seconds, or a frame cannot be read.
    """
    written = 0
    last = time.monotonic()
    while written < count and source.state is not SourceState.ENDED:
        frame = source.read(_POLL_S)
        if frame is not None and not frame.stale:  # a frozen camera would teach copies of one picture
            written, last = written + 1, time.monotonic()
            _write(frame, out)
            report(written)
        elif time.monotonic() - last > patience_s:
            raise SourceError(f"no frame for {patience_s:g} s after {written} of {count}; is the camera connected?")
    return written


def _write(frame: Frame, out: Path) -> None:
    identity = frame.identity
    if frame.image.size == 0:
        raise SourceError(f"{identity.name}: cannot be read; remove it")
    path = out / f"{identity.part_id or f'frame-{identity.sequence:06d}'}.png"
    if path.exists():
        raise SettingsError(f"{path}: exists already, from an earlier capture; give another --out")
    write_picture(path, frame.image)
