"""What folders, videos and the simulated line share: pictures that wait for us, numbered and paced."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from dataclasses import dataclass

from edge.records import Frame, FrameIdentity
from edge.sources.base import Shot, SourceState

# A reader further behind than this starts a new schedule: after a pause nobody wants a burst.
MAX_BEHIND_S = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture before it gets its number and time."""

    shot: Shot
    name: str
    part_id: str = ""
    simulated: bool = False


class PacedSource:
    """A `Source` that is not live: takes pictures from a generator, at `fps` or as fast as they are read.

    Frame n is due n / fps seconds after the first one, so waiting never adds up to a drift.
    """

    def __init__(self, pictures: Generator[Picture], *, fps: float | None, frames: int | None) -> None:
        self._pictures = pictures
        self._period_s = 1 / fps if fps else 0.0
        self._frames = frames
        self._due_s = 0.0  # monotonic; the first frame is due at once
        self._sequence = 0
        self._ended = threading.Event()
        self._drawing = threading.Lock()  # a generator cannot be closed while it runs

    @property
    def live(self) -> bool:
        """False: pictures wait."""
        return False

    @property
    def state(self) -> SourceState:
        """Streaming until the pictures, or the number of frames asked for, are exhausted."""
        return SourceState.ENDED if self._ended.is_set() else SourceState.STREAMING

    @property
    def dropped(self) -> int:
        """Always 0: nothing is overwritten."""
        return 0

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame when it is due, or None if that is later than `timeout_s` or there is none."""
        wait_s = self._due_s - time.monotonic()
        if self._ended.wait(max(0.0, min(wait_s, timeout_s))) or wait_s > timeout_s:
            return None
        with self._drawing:
            picture = next(self._pictures, None)
        if picture is None:
            self._ended.set()
            return None
        return self._number(picture)

    def close(self) -> None:
        """Release the files and wake a `read` that is waiting."""
        self._ended.set()
        with self._drawing:
            self._pictures.close()

    def _number(self, picture: Picture) -> Frame:
        now_s = time.monotonic()
        due_s = max(self._due_s, now_s - MAX_BEHIND_S) if self._sequence else now_s
        self._due_s = due_s + self._period_s
        identity = FrameIdentity(
            sequence=self._sequence,
            captured_at_s=time.time(),
            captured_monotonic_s=now_s,
            name=picture.name,
            part_id=picture.part_id,
            simulated=picture.simulated,
        )
        self._sequence += 1
        if self._sequence == self._frames:
            self.close()
        return Frame(identity=identity, image=picture.shot.image, unusable=picture.shot.unusable)
