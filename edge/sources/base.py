"""The seam between the line and the pipeline: what every source of frames can do."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from edge.records import Frame


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
        picture is nobody's to write into: a camera compares the next one with it. A file that cannot be read
        is a frame too: its image is empty, (0, 0, 3), its identity names the file, and its answer is
        NO_RESULT, `image_unusable`.
        """
        ...

    def close(self) -> None:
        """Release the device. A `read` that is waiting returns None. May be called twice."""
        ...
