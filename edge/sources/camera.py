"""A camera as a source: newest frame wins, and it is opened again for ever.

Capture runs in a thread of its own, because a driver may block for ever inside a call. A thread that blocks
longer than its call may take is abandoned and another one takes over; at most one such thread is left
behind at a time. Every change between streaming and away is one line in the log.
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

from edge.errors import SourceError
from edge.records import Frame
from edge.settings.source import CameraSettings
from edge.sources.address import parse_address
from edge.sources.base import PixelLimit, SourceState
from edge.sources.capture import Capture, CaptureOpener, WrongSizeError, open_capture, wishes
from edge.sources.newest import NewestFrame

log = logging.getLogger("patchline.source")

SHORTEST_BACK_OFF_S = 0.5
# A camera must be back within 5 s of its return: 4 s to the next attempt, 1 s to open it.
LONGEST_BACK_OFF_S = 4.0
# A call may exceed its own time-out by this before its thread counts as blocked.
GRACE_S = 1.0
# Silence is looked for at least this often.
WATCH_INTERVAL_S = 0.25
CLOSE_S = 3.0


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

    def __init__(self, settings: CameraSettings, max_pixels: PixelLimit, opener: CaptureOpener = open_capture) -> None:
        """Open `settings.device`.

        Raises:
            SourceError: as said above; the message holds no password.
        """
        self._settings = settings
        self._address = parse_address(settings.device, settings.credentials_file)
        self._open_capture = functools.partial(opener, self._address, settings, max_pixels)
        self._say_what_is_ignored()
        self._newest = NewestFrame(
            self._address.label, settings.read_timeout_s, refuse_identical=settings.refuse_identical
        )
        self._changed = self._newest.changed  # guards what follows, too
        self._returned = 0
        self._closed = False
        self._attempted = False
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
            return SourceState.AWAY if self._newest.away else SourceState.STREAMING

    @property
    def dropped(self) -> int:
        """Frames that a newer one replaced before they were read."""
        with self._changed:
            return self._newest.dropped

    def read(self, timeout_s: float) -> Frame | None:
        """The newest frame not yet read, or None if none came within `timeout_s`."""
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            while self._newest.frame is None and not self._closed:
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
            self._newest.take()
            self._link.stop.set()
            self._changed.notify_all()
        if self._link.thread is not None:
            self._link.thread.join(CLOSE_S)

    def _take(self) -> Frame | None:
        frame = self._newest.take()
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
            failure = self._newest.failure
            if self._attempted and failure is None:
                self._newest.begin()
                return
            if not isinstance(failure, WrongSizeError) and not isinstance(self._address.target, int):
                self._newest.mark_away()
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
        self._newest.watch()
        blocked = time.monotonic() > self._link.call_ends_by_s
        if blocked and (self._abandoned is None or not self._abandoned.alive()):
            log.warning("source: %s: capture is blocked; its thread is abandoned", self._address.label)
            self._link.stop.set()
            self._abandoned = self._link
            self._link = self._start_link()

    def _start_link(self) -> _Link:
        link = _Link()
        link.thread = threading.Thread(target=self._capture, args=(link,), name="camera", daemon=True)
        link.thread.start()
        return link

    # From here on: in the capture thread.

    def _capture(self, link: _Link) -> None:
        back_off_s = SHORTEST_BACK_OFF_S
        while not link.stop.is_set():
            before = self._newest.renewed
            try:
                self._stream(link)
            except Exception:
                log.exception("source: %s: capture failed; opening it again", self._address.label)
            if self._newest.renewed > before:
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
                self._newest.failure = failure
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
            if self._newest.put(shot, link.stop):
                frozen_from_s = time.monotonic()


def lengthen(back_off_s: float, chance: float) -> float:
    """The next back-off: between the shortest and three times the last one, `chance` in [0, 1) decides."""
    longest_s = min(LONGEST_BACK_OFF_S, 3 * back_off_s)
    return SHORTEST_BACK_OFF_S + chance * (longest_s - SHORTEST_BACK_OFF_S)
