"""The line's threads: each runs a loop, gives signs of life, and stops the service when it fails."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import monotonic

from edge.errors import PatchlineError
from edge.health.supervision import Heartbeat, stalled

log = logging.getLogger("patchline.service")

Loop = Callable[[Heartbeat], None]


class Threads:
    """Those of one line, in the order in which they were started."""

    def __init__(self, stop: threading.Event) -> None:
        """`stop` is set when a loop fails."""
        self._stop = stop
        self._threads: list[threading.Thread] = []
        self._heartbeats: dict[str, Heartbeat] = {}
        self._failure: Exception | None = None

    def start(self, name: str, loop: Loop, *, ends_service: bool = False) -> None:
        """Run `loop` in a thread of that name; `ends_service`: when it is over, everything is."""
        self._heartbeats[name] = Heartbeat()
        thread = threading.Thread(target=self._run, args=(loop, name, ends_service), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def without_progress(self, limit_s: float) -> tuple[str, ...]:
        """Names of those that run and are stuck for longer than `limit_s`."""
        running = {thread.name: self._heartbeats[thread.name] for thread in self._threads if thread.is_alive()}
        return stalled(running, limit_s)

    def join(self, deadline_s: float, grace_s: float) -> None:
        """Wait for all of them, the one started last first, each until `deadline_s` (monotonic) and `grace_s` more."""
        for thread in reversed(self._threads):
            thread.join(max(0.0, deadline_s - monotonic()) + grace_s)

    def raise_failure(self) -> None:
        """What the first loop that failed raised, if one did.

        Raises:
            PatchlineError: that.
        """
        if isinstance(self._failure, PatchlineError):
            raise self._failure
        if self._failure is not None:
            raise PatchlineError(f"a thread ended: {self._failure!r}; the log has the details") from self._failure

    def _run(self, loop: Loop, name: str, ends_service: bool) -> None:
        try:
            loop(self._heartbeats[name])
        except Exception as error:  # the top of a thread: report, and stop the service
            self._failure = self._failure or error
            expected = isinstance(error, PatchlineError)
            log.log(logging.ERROR, "thread ended", exc_info=not expected, extra={"fields": {"thread": name}})
            self._stop.set()
        if ends_service:
            self._stop.set()
