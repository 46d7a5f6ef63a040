"""The seam between the line and the pipeline: what every source of frames can do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np

from edge.records import Frame, UInt8Array

# How many pixels a picture may have to be decoded at all. Asked for each, as another recipe may expect larger ones.
PixelLimit = Callable[[], int]


# Up to 8 megapixels a picture of a wrong size costs little, and its answer names both sizes.
_ALWAYS_DECODED = 2**23


def most_pixels(width: int, height: int) -> int:
    """How many pixels a picture may have where `width` × `height` are expected."""
    return max(4 * width * height, _ALWAYS_DECODED)


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """What came for one picture: the picture, or why there is none."""

    image: UInt8Array  # (height, width, 3) BGR; empty, (0, 0, 3), if it is unusable
    unusable: str = ""  # for people


def unusable(why: str) -> Shot:
    """A picture that was sent and cannot be judged; it is answered all the same."""
    return Shot(np.empty((0, 0, 3), np.uint8), why)


class SourceState(StrEnum):
    """What a source is doing, as `/health` reports it."""

    STREAMING = "streaming"
    AWAY = "away"  # it will come back by itself: the source keeps trying
    ENDED = "ended"  # no frame will ever come again


class Source(Protocol):
    """Frames, one after the other. Opened by its constructor, which raises `SourceError` when it cannot be.

    `read` is called from one thread, `close` from any.
    """

    @property
    def live(self) -> bool:
        """True: frames come whether or not we are ready, so the oldest is dropped. False: they wait."""
        ...

    @property
    def state(self) -> SourceState:
        """What the source is doing now."""
        ...

    @property
    def dropped(self) -> int:
        """Frames that were captured but replaced by newer ones before anybody read them."""
        ...

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame, or None if none came within `timeout_s` seconds or the source has ended.

        Frames are numbered from 0 as they are captured; a gap is a counted drop (`dropped`). The returned
        picture is nobody's to write into: a camera compares the next one with it. What cannot be read or decoded is
        a frame too: it says why (`Frame.unusable`), and its answer is NO_RESULT, `image_unusable`.
        """
        ...

    def close(self) -> None:
        """Release the device. A `read` that is waiting returns None. May be called twice."""
        ...
