"""The newest frame of a camera, handed from whichever thread captures to the one that reads; and whether it is away.

A sensor's noise makes every picture another one: a picture equal to the one before is stale. A camera that gives only
stale pictures, or none that can be decoded, is away as if it gave none; each of them is answered all the same.
"""

from __future__ import annotations

import logging
import threading
import time

import cv2
import numpy as np

from edge.errors import SourceError
from edge.records import Frame, FrameIdentity, UInt8Array
from edge.sources.base import Shot

log = logging.getLogger("patchline.source")

_SAMPLED = 16  # every so many rows and columns are compared first: a fifteenth of a millisecond at 1920×1080


class NewestFrame:
    """One place for one frame. `changed` guards it, may be entered again, and is notified of every frame."""

    def __init__(self, label: str, read_timeout_s: float, *, refuse_identical: bool) -> None:
        self.changed = threading.Condition()
        self.frame: Frame | None = None
        self.dropped = 0  # frames that a newer one replaced before they were taken
        self.away = False
        self.renewed = 0  # frames unlike the one before
        self.failure: SourceError | None = None  # of the last attempt to open
        self._label = label
        self._read_timeout_s = read_timeout_s
        self._refuse_identical = refuse_identical
        self._captured = 0
        self._repeated = 0  # frames since the last new one, and
        self._unusable = 0  # those that could not be decoded
        self._last_image: UInt8Array | None = None
        self._last_new_s = time.monotonic()

    def put(self, shot: Shot, stopped: threading.Event) -> bool:
        """Put a frame here, unless its thread was stopped meanwhile. False: it is no new picture."""
        now_s = time.monotonic()
        stale = not shot.unusable and self._is_stale(shot.image)
        new = not stale and not shot.unusable
        with self.changed:
            if stopped.is_set():
                return new
            self.dropped += self.frame is not None
            self.frame = Frame(self._identify(now_s), shot.image, stale=stale, unusable=shot.unusable)
            self._captured += 1
            self._repeated += stale
            self._unusable += bool(shot.unusable)
            if new:
                self._take_for_new(shot.image, now_s)
            self.changed.notify_all()
        return new

    def take(self) -> Frame | None:
        """The frame, which is gone then."""
        with self.changed:
            frame, self.frame = self.frame, None
            return frame

    def begin(self) -> None:
        """The camera is open: from now on it should give pictures."""
        self._last_new_s = time.monotonic()

    def watch(self) -> None:
        """Notice silence."""
        with self.changed:
            if not self.away and time.monotonic() - self._last_new_s > self._read_timeout_s:
                self.mark_away()

    def mark_away(self) -> None:
        """It gives nothing: said once."""
        with self.changed:
            self.away = True
            log.warning("source: %s; away, waiting for it", self.failure or f"{self._label}: {self._why_away()}")

    def _why_away(self) -> str:
        lasted = f"for {self._read_timeout_s:g} s"
        if self._unusable:
            return f"no whole picture {lasted} ({self._unusable} damaged)"
        if not self._repeated:
            return f"no frame {lasted}"
        return (
            f"no new picture {lasted}: it is frozen ({self._repeated} times the same one, byte for byte; "
            "if the camera is meant to do that, set source.refuse_identical = false)"
        )

    def _is_stale(self, image: UInt8Array) -> bool:
        last = self._last_image
        return self._refuse_identical and last is not None and identical(image, last)

    def _take_for_new(self, image: UInt8Array, now_s: float) -> None:
        """The camera has given another picture than before."""
        self._last_image = image
        self.renewed += 1
        self._repeated = self._unusable = 0
        if self.away:
            self.away = False
            log.info("source: %s: back after %.1f s", self._label, now_s - self._last_new_s)
        self._last_new_s = now_s

    def _identify(self, now_s: float) -> FrameIdentity:
        return FrameIdentity(
            sequence=self._captured,
            captured_at_s=time.time(),
            captured_monotonic_s=now_s,
            name=f"camera#{self._captured}",
        )


def identical(image: UInt8Array, other: UInt8Array) -> bool:
    """Whether two pictures are equal byte for byte; most of the time a sample says that they are not."""
    if image.shape != other.shape:
        return False
    if not np.array_equal(image[::_SAMPLED, ::_SAMPLED], other[::_SAMPLED, ::_SAMPLED]):
        return False
    return cv2.norm(image, other, cv2.NORM_INF) == 0
