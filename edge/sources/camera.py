"""A camera as a source: newest frame wins, and it is opened again for ever.

Capture runs in a thread of its own, because a driver may block for ever inside a call. A thread that blocks
longer than its call may take is abandoned and another one takes over; at most one such thread is left
behind at a time. Every change between streaming and away is one line in the log.

A sensor's noise makes every picture another one: a picture equal to the one before is stale. A camera that gives only
stale pictures, or none that can be decoded, is away as if it gave none; each of them is answered all the same.
"""

from __future__ import annotations

import functools
import logging
import math
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import cv2
import numpy as np

from edge.errors import SourceError
from edge.records import Frame, FrameIdentity, UInt8Array
from edge.settings.sections import SourceSettings
from edge.sources.address import parse_address
from edge.sources.base import PixelLimit, Shot, SourceState
from edge.sources.capture import Capture, CaptureOpener, WrongSizeError, open_capture, wishes

log = logging.getLogger("patchline.source")

SHORTEST_BACK_OFF_S = 0.5
# A camera must be back within 5 s of its return: 4 s to the next attempt, 1 s to open it.
LONGEST_BACK_OFF_S = 4.0
# A call may exceed its own time-out by this before its thread counts as blocked.
GRACE_S = 1.0
# Silence is looked for at least this often.
WATCH_INTERVAL_S = 0.25
CLOSE_S = 3.0
_SAMPLED = 16  # every so many rows and columns are compared first: a fifteenth of a millisecond at 1920×1080


@dataclass(slots=True, eq=False)
class _Link:
    """One capture thread, and what its owner needs to know about it."""

    stop: threading.Event = field(default_factory=threading.Event)
    call_ends_by_s: float = math.inf  # monotonic; later than that the thread is blocked
    thread: threading.Thread | None = None

    @contextmanager
    def call(self, limit_s: float) -> Iterator[None]:
        """A call into the driver, which should not take longer than `limit_s`."""
        self.call_ends_by_s = time.monotonic() + limit_s + GRACE_S
        try:
            yield
        finally:
            self.call_ends_by_s = math.inf

    def alive(self) -> bool:
        return self.thread is not None and self.thread.is_alive()


class CameraSource:
    """A `Source` that is live.

    The constructor waits for the first attempt to open. It raises for a wrong address, an index that does not
    exist and a wrong size; a device path or network address that does not answer is waited for: the
    station may have started before its camera.
    """

    def __init__(self, settings: SourceSettings, max_pixels: PixelLimit, opener: CaptureOpener = open_capture) -> None:
        """Open `settings.device`.

        Raises:
            SourceError: as said above; the message holds no password.
        """
        self._settings = settings
        self._address = parse_address(settings.device, settings.credentials_file)
        self._open_capture = functools.partial(opener, self._address, settings, max_pixels)
        self._say_what_is_ignored()
        self._changed = threading.Condition()
        self._newest: Frame | None = None
        self._captured = 0
        self._renewed = 0  # frames unlike the one before
        self._repeated = 0  # frames since the last of those, and
        self._unusable = 0  # those that could not be decoded
        self._last_image: UInt8Array | None = None  # captured, by whichever thread
        self._returned = 0
        self._dropped = 0
        self._away = False
        self._closed = False
        self._failure: SourceError | None = None  # of the last attempt to open
        self._attempted = False
        self._last_new_s = time.monotonic()
        self._abandoned: _Link | None = None
        self._link = self._start_link()
        self._await_first_attempt()

    @property
    def live(self) -> bool:
        """True: the camera does not wait."""
        return True

    @property
    def state(self) -> SourceState:
        """Away after `read_timeout_s` without a frame, or without a new one."""
        with self._changed:
            if self._closed:
                return SourceState.ENDED
            self._watch()
            return SourceState.AWAY if self._away else SourceState.STREAMING

    @property
    def dropped(self) -> int:
        """Frames that a newer one replaced before they were read."""
        with self._changed:
            return self._dropped

    def read(self, timeout_s: float) -> Frame | None:
        """The newest frame not yet read, or None if none came within `timeout_s`."""
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            while self._newest is None and not self._closed:
                self._watch()
                remaining_s = deadline_s - time.monotonic()
                if remaining_s <= 0:
                    return None
                self._changed.wait(min(remaining_s, WATCH_INTERVAL_S))
            return self._take()

    def close(self) -> None:
        """Release the camera; one that blocks is left to its thread, which ends with the process."""
        with self._changed:
            self._closed = True
            self._newest = None
            self._link.stop.set()
            self._changed.notify_all()
        if self._link.thread is not None:
            self._link.thread.join(CLOSE_S)

    def _take(self) -> Frame | None:
        frame, self._newest = self._newest, None
        if frame is None or self._closed:
            return None
        self._returned += 1
        if self._returned == self._settings.frames:
            self._closed = True
            self._link.stop.set()
        return frame

    def _await_first_attempt(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._attempted, self._settings.open_timeout_s + GRACE_S)
            failure = self._failure
            if self._attempted and failure is None:
                self._last_new_s = time.monotonic()
                return
            if not isinstance(failure, WrongSizeError) and not isinstance(self._address.target, int):
                self._mark_away()
                return
        self.close()
        raise failure or SourceError(f"{self._address.label}: does not answer; unplug it and plug it in again")

    def _say_what_is_ignored(self) -> None:
        ignored = wishes(self._settings).keys() - {"width", "height"}
        if self._address.network and ignored:
            names = ", ".join(sorted(ignored))
            log.warning("source: %s: %s ignored; set it in the camera itself", self._address.label, names)

    def _watch(self) -> None:
        """Notice silence and blocked threads. Called with the lock held."""
        now_s = time.monotonic()
        if not self._away and now_s - self._last_new_s > self._settings.read_timeout_s:
            self._mark_away()
        blocked = now_s > self._link.call_ends_by_s
        if blocked and (self._abandoned is None or not self._abandoned.alive()):
            log.warning("source: %s: capture is blocked; its thread is abandoned", self._address.label)
            self._link.stop.set()
            self._abandoned = self._link
            self._link = self._start_link()

    def _mark_away(self) -> None:
        self._away = True
        log.warning("source: %s; away, waiting for it", self._failure or f"{self._address.label}: {self._why_away()}")

    def _why_away(self) -> str:
        lasted = f"for {self._settings.read_timeout_s:g} s"
        if self._unusable:
            return f"no whole picture {lasted} ({self._unusable} damaged)"
        if not self._repeated:
            return f"no frame {lasted}"
        return (
            f"no new picture {lasted}: it is frozen ({self._repeated} times the same one, byte for byte; "
            "if the camera is meant to do that, set source.refuse_identical = false)"
        )

    def _start_link(self) -> _Link:
        link = _Link()
        link.thread = threading.Thread(target=self._capture, args=(link,), name="camera", daemon=True)
        link.thread.start()
        return link

    # From here on: in the capture thread.

    def _capture(self, link: _Link) -> None:
        back_off_s = SHORTEST_BACK_OFF_S
        while not link.stop.is_set():
            before = self._renewed
            try:
                self._stream(link)
            except Exception:
                log.exception("source: %s: capture failed; opening it again", self._address.label)
            if self._renewed > before:
                back_off_s = SHORTEST_BACK_OFF_S
            link.stop.wait(back_off_s)
            back_off_s = lengthen(back_off_s, random.random())  # noqa: S311 — jitter, not a secret

    def _stream(self, link: _Link) -> None:
        """Open, deliver until the stream breaks or freezes, release."""
        capture = self._open(link)
        if capture is None:
            return
        try:
            self._deliver_all(link, capture)
        finally:
            with link.call(self._settings.read_timeout_s):
                capture.release()

    def _open(self, link: _Link) -> Capture | None:
        capture: Capture | None = None
        failure: SourceError | None = None
        # Three times: it is opened, then looked into; after a failure its host is asked whether it is there at all.
        with link.call(3 * self._settings.open_timeout_s):
            try:
                capture = self._open_capture()
            except SourceError as error:
                failure = error
        with self._changed:
            if not link.stop.is_set():
                self._failure = failure
                self._attempted = True
                self._changed.notify_all()
        return capture

    def _deliver_all(self, link: _Link, capture: Capture) -> None:
        frozen_from_s = time.monotonic()
        while not link.stop.is_set() and time.monotonic() - frozen_from_s <= self._settings.read_timeout_s:
            with link.call(self._settings.read_timeout_s):
                shot = capture.read()
            if shot is None:
                return
            if self._deliver(link, shot):
                frozen_from_s = time.monotonic()

    def _deliver(self, link: _Link, shot: Shot) -> bool:
        """Put the frame where `read` finds it, unless this thread was stopped meanwhile. False: no new picture."""
        now_s = time.monotonic()
        stale = not shot.unusable and self._is_stale(shot.image)
        new = not stale and not shot.unusable
        with self._changed:
            if link.stop.is_set():
                return new
            self._dropped += self._newest is not None
            self._newest = Frame(self._identify(now_s), shot.image, stale=stale, unusable=shot.unusable)
            self._captured += 1
            self._repeated += stale
            self._unusable += bool(shot.unusable)
            if new:
                self._take_for_new(shot.image, now_s)
            self._changed.notify_all()
        return new

    def _is_stale(self, image: UInt8Array) -> bool:
        last = self._last_image
        return self._settings.refuse_identical and last is not None and identical(image, last)

    def _take_for_new(self, image: UInt8Array, now_s: float) -> None:
        """The camera has given another picture than before. Called with the lock held."""
        self._last_image = image
        self._renewed += 1
        self._repeated = self._unusable = 0
        if self._away:
            self._away = False
            log.info("source: %s: back after %.1f s", self._address.label, now_s - self._last_new_s)
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


def lengthen(back_off_s: float, chance: float) -> float:
    """The next back-off: between the shortest and three times the last one, `chance` in [0, 1) decides."""
    longest_s = min(LONGEST_BACK_OFF_S, 3 * back_off_s)
    return SHORTEST_BACK_OFF_S + chance * (longest_s - SHORTEST_BACK_OFF_S)
