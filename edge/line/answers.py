"""Every answer passes here, exactly once, on its way from whoever judged to whoever publishes.

What is counted, logged and published is therefore the same verdict.
"""

from __future__ import annotations

import logging
import threading

from edge.health.statistics import Statistics
from edge.health.supervision import Heartbeat
from edge.line.buffer import Buffer
from edge.line.drain import Drain, hand_over
from edge.protocol.messages import without_invalid_numbers
from edge.records import Reason, Verdict

log = logging.getLogger("patchline.service")


class Answers:
    """Called from the threads that inspect and from the one that takes commands."""

    def __init__(self, verdicts: Buffer[Verdict], statistics: Statistics, drain: Drain) -> None:
        """Answers go into `verdicts`."""
        self._verdicts = verdicts
        self._statistics = statistics
        self._drain = drain
        self._lock = threading.Lock()  # guards the next two
        self._reason = Reason.NONE
        self._lost = 0

    @property
    def lost(self) -> int:
        """Answers that found no room until draining was over."""
        return self._lost

    def give(self, verdict: Verdict, heartbeat: Heartbeat) -> None:
        """Pass on the answer to a frame or trigger: there is no other one. May block."""
        settled = without_invalid_numbers(verdict)
        self._log_change(settled)
        self._statistics.judged(settled)
        if not hand_over(self._verdicts, settled, heartbeat, self._drain):
            with self._lock:
                self._lost += 1

    def _log_change(self, verdict: Verdict) -> None:
        """One line when frames begin, and when they cease, to go unanswered for a reason."""
        with self._lock:
            before, self._reason = self._reason, verdict.reason
        if verdict.reason is before:
            return
        fields = {"reason": verdict.reason.value or "none", "frame": verdict.identity.sequence}
        if verdict.reason is Reason.NONE:
            log.info("frames are judged again", extra={"fields": fields})
        else:
            fields |= {"name": verdict.identity.name, "detail": verdict.detail}
            log.warning("frames cannot be judged", extra={"fields": fields})
