"""Verdicts that go by way of the disk: safe there before anybody hears of them, and from there to the broker."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections import deque
from time import monotonic

from edge.delivery.outbox.outbox import Outbox
from edge.delivery.outbox.records import OutboxStatistics
from edge.delivery.outbox.requests import answer_requests
from edge.delivery.pump import Pump
from edge.errors import OutboxError
from edge.health.alarms import Conditions
from edge.health.statistics import Statistics
from edge.health.supervision import stalled
from edge.protocol.messages import crop_messages, verdict_message
from edge.protocol.topics import StationTopics
from edge.publishers.base import Numbered
from edge.records import Message, Values, Verdict

log = logging.getLogger("patchline.delivery")

RETRY_DISK_S = 1.0
_MAX_AWAITED = 256  # verdicts whose acknowledgement is timed


class Stored:
    """See `delivery.Way`. The pump is this way's own."""

    def __init__(self, outbox: Outbox, pump: Pump, topics: StationTopics, statistics: Statistics) -> None:
        """The pump is not started yet."""
        self.outbox = outbox
        self.pump = pump
        self._topics = topics
        self._statistics = statistics
        self._complaint = ""  # of the disk; "": it takes verdicts
        self._try_disk_at_s = 0.0
        self._awaited: deque[tuple[int, float]] = deque(maxlen=_MAX_AWAITED)  # (row, capture in monotonic seconds)
        self._seen: OutboxStatistics | None = None  # as last looked at

    def start(self) -> None:
        """Begin to send what is stored."""
        self.pump.start(self._acknowledged)

    def explain(self, lost: int) -> bool:
        """So many verdicts are lost: they get numbers, so that the gap can be explained. False: the disk refuses."""
        if monotonic() < self._try_disk_at_s:
            return False
        try:
            self.outbox.give_up(lost)
        except OutboxError as error:
            self._disk_refuses(str(error))
            return False
        return True

    def deliver(self, verdict: Verdict) -> Numbered | None:
        """Commit `verdict`. None: the disk refuses."""
        began_s = monotonic()
        if began_s < self._try_disk_at_s:
            return None
        try:
            appended = self.outbox.append(lambda epoch, seq: self._messages(verdict, epoch, seq))
        except OutboxError as error:
            self._disk_refuses(str(error))
            return None
        self._disk_accepts()
        self._statistics.timed("commit", 1e3 * (monotonic() - began_s))
        if self.pump.publisher.link is not None:
            self._awaited.append((appended.row_id, verdict.identity.captured_monotonic_s))
        self.pump.wake()
        return Numbered(verdict, appended.epoch, appended.seq, appended.messages)

    def deliver_message(self, message: Message) -> bool:
        """Commit what is no verdict. False: the disk refuses."""
        with contextlib.suppress(OutboxError):
            self.outbox.append_message(message)
            return True
        return False

    def _acknowledged(self, row_id: int) -> None:
        """The broker has a stored message; on the pump's thread."""
        # Rows are delivered in the order of commit, apart from those that nobody waits for.
        while self._awaited and self._awaited[0][0] <= row_id:
            awaited, captured_s = self._awaited.popleft()
            if awaited == row_id:
                self._statistics.timed("acknowledged", 1e3 * (monotonic() - captured_s))

    def conditions(self, known: Conditions) -> Conditions:
        """What alarms are judged by, beside what is known of the broker."""
        seen = self._look()
        if seen is None:
            return known
        return dataclasses.replace(
            known,
            waiting=seen.pending,
            evicted=seen.evicted_verdicts + seen.evicted_crops + seen.evicted_dead_letters,
            refused=seen.refused,
            disk_low=seen.disk_low,
            outbox_refuses=bool(self._complaint),
            outbox_damage=self.outbox.damage,
        )

    def without_progress(self, limit_s: float) -> tuple[str, ...]:
        """The pump, if it is dead, or stuck for longer than `limit_s`."""
        return stalled({"pump": self.pump.heartbeat}, limit_s) if self.pump.alive else ("pump",)

    def report(self) -> Values:
        """Counters for `/health` and the log."""
        seen, values = self._look(), self.pump.report()
        return values if seen is None else values | _describe(seen) | {"memory_only": int(bool(self._complaint))}

    def flush(self, timeout_s: float) -> None:
        """Publish what waits for up to `timeout_s` seconds; the rest waits for the next start."""
        deadline_s = monotonic() + timeout_s
        self.pump.flush(timeout_s)
        self.pump.close(max(0.0, deadline_s - monotonic()))
        if (seen := self._look()) is not None and seen.pending:
            log.info("messages wait on disk for the next start", extra={"fields": {"messages": seen.pending}})

    def close(self, timeout_s: float) -> None:
        """Send nothing more. May be called twice."""
        self.pump.close(timeout_s)

    def _look(self) -> OutboxStatistics | None:
        """The outbox's counters; the last ones that it told while the disk refuses. None: it never did."""
        answer_requests(self.outbox)
        with contextlib.suppress(OutboxError):
            self._seen = self.outbox.statistics()
        return self._seen

    def _messages(self, verdict: Verdict, epoch: int, seq: int) -> tuple[Message, ...]:
        crops = crop_messages(self._topics, verdict, epoch, seq)
        return (verdict_message(self._topics, verdict, epoch, seq), *crops)

    def _disk_refuses(self, complaint: str) -> None:
        self._try_disk_at_s = monotonic() + RETRY_DISK_S
        if not self._complaint:
            log.error("verdicts are in memory only: %s", complaint)
        self._complaint = complaint

    def _disk_accepts(self) -> None:
        if self._complaint:
            log.info("verdicts are safe on disk again")
        self._complaint = ""


def _describe(stored: OutboxStatistics) -> Values:
    oldest_s = stored.oldest_committed_at_s
    return {
        "outbox_messages": stored.pending,
        "outbox_verdicts": stored.verdicts,
        "outbox_bytes": stored.bytes,
        "outbox_oldest_s": 0.0 if oldest_s is None else round(max(0.0, time.time() - oldest_s), 1),
        "outbox_dead_letters": stored.dead_letters,
        "outbox_evicted_verdicts": stored.evicted_verdicts,
        "outbox_evicted_crops": stored.evicted_crops,
        "outbox_free_bytes": stored.free_bytes,
        "outbox_ballast": int(stored.ballast),
    }
