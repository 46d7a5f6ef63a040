"""Frames of a source as picture files: how teaching pictures are taken on the line, one of each part.

A `Rule` says which frames are taken; what is alike all the same is counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edge.errors import SettingsError, SourceError
from edge.files.likeness import alike, thumbnail
from edge.files.names import shown
from edge.files.pictures import write_picture
from edge.records import Float32Array, Frame
from edge.sources.base import Source, SourceState
from edge.tools.capture_rules import EndOfPartsError, Rule

_POLL_S = 0.5


@dataclass(slots=True)
class Captured:
    """What became of the frames, counted as they come."""

    written: int = 0
    alike: int = 0  # of those, how many show the same part as the one before
    unusable: int = 0  # could not be read or decoded; not written
    first_unusable: str = ""  # which, and why

    def words(self, count: int, out: Path) -> Iterator[str]:
        """For people: what there is, and what is wrong with it for teaching."""
        fewer = f" of {count}: the source or the parts have ended" if self.written < count else ""
        yield f"{self.written} pictures in {shown(out)}{fewer}"
        if self.unusable:
            yield f"{self.unusable} frames could not be read or decoded and are not among them ({self.first_unusable})"
        if self.alike:
            yield (
                f"warning: {self.alike} of them show the same part in the same place as the picture before. Teach one "
                "picture a part: the threshold's promise counts parts, and repeats make it too strict"
            )


def record_frames(
    source: Source, out: Path, count: int, *, rule: Rule, patience_s: float, report: Callable[[int], None]
) -> Captured:
    """Write `count` frames to `out` as PNG, lossless; fewer if the source or the parts end.

    Raises:
        SettingsError: a picture of that name exists.
        SourceError: no frame came for `patience_s` seconds, or one of another size than the first.
    """
    so_far = Captured()
    writer = _Writer(out)
    last_s = time.monotonic()
    while so_far.written < count and source.state is not SourceState.ENDED:
        frame = source.read(_POLL_S)
        try:
            if frame is not None and _is_wanted(frame, rule, so_far):
                so_far.alike += writer.write(frame)
                so_far.written += 1
                report(so_far.written)
        except EndOfPartsError:
            break
        if frame is not None and not frame.stale and not frame.unusable:
            last_s = time.monotonic()
        elif time.monotonic() - last_s > patience_s:
            raise SourceError(
                f"no frame for {patience_s:g} s after {so_far.written} of {count}; is the camera connected?"
            )
    return so_far


def _is_wanted(frame: Frame, rule: Rule, so_far: Captured) -> bool:
    if frame.unusable:
        so_far.first_unusable = so_far.first_unusable or f"{frame.identity.name}: {frame.unusable}"
        so_far.unusable += 1
        return False
    return not frame.stale and rule(frame)  # a frozen camera would teach copies of one picture


class _Writer:
    """Pictures of one size, each compared with the one before."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._shape: tuple[int, ...] = ()
        self._last: Float32Array | None = None

    def write(self, frame: Frame) -> bool:
        """Whether it shows the same part as the one before."""
        identity, image = frame.identity, frame.image
        if image.shape != (self._shape or image.shape):
            raise SourceError(
                f"{identity.name}: {image.shape[1]}×{image.shape[0]} pixels; expected "
                f"{self._shape[1]}×{self._shape[0]} as before: all parts are taught, and inspected, at one size"
            )
        self._shape = image.shape
        path = self._out / f"{identity.part_id or f'frame-{identity.sequence:06d}'}.png"
        if path.exists():
            raise SettingsError(f"{path}: exists already, from an earlier capture; give another --out")
        write_picture(path, image)
        before, self._last = self._last, thumbnail(image)
        return before is not None and alike(self._last, before)
