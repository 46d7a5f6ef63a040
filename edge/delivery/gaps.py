"""Gaps that subscribers are owed an explanation for: tombstones of the outbox, each sent once on each connection."""

from __future__ import annotations

from time import monotonic

from edge.delivery.outbox.outbox import Outbox
from edge.delivery.outbox.records import Tombstone
from edge.delivery.settlement import Sent
from edge.protocol.messages import tombstone_message
from edge.protocol.topics import StationTopics

LOOK_EVERY_S = 1.0
MAX_TOMBSTONES = 1000  # as many as an outbox has


class Gaps:
    """Belongs to the pump's thread; `refused` may be read by others."""

    def __init__(self, outbox: Outbox, topics: StationTopics) -> None:
        """Nothing is sent yet."""
        self.refused = 0  # on this connection: what explains a gap is never given up, but tried on the next one
        self._outbox = outbox
        self._topics = topics
        self._waiting: list[Tombstone] = []  # the next one last
        self._taken: set[int] = set()  # sent on this connection, whatever became of them
        self._look_at_s = 0.0

    def begin_connection(self, taken: set[int]) -> None:
        """All are due, apart from those `taken`, which are under way or answered already."""
        self.refused = 0
        self._waiting.clear()
        self._taken = taken
        self._look_at_s = 0.0

    def next(self) -> Sent | None:
        """What explains the next gap; the same until `take`.

        Raises:
            OutboxError: the disk refuses.
        """
        if not self._waiting and monotonic() >= self._look_at_s:
            self._look_at_s = monotonic() + LOOK_EVERY_S
            found = self._outbox.tombstones(MAX_TOMBSTONES)
            self._waiting = [stone for stone in reversed(found) if stone.tombstone_id not in self._taken]
        return self._sent(self._waiting[-1]) if self._waiting else None

    def take(self) -> None:
        """The next one is being sent."""
        self._taken.add(self._waiting.pop().tombstone_id)

    def _sent(self, stone: Tombstone) -> Sent:
        message = tombstone_message(
            self._topics,
            stone.epoch,
            first=stone.first_seq,
            last=stone.last_seq,
            count=stone.count,
            reason=stone.reason.value,
        )
        return Sent(message, tombstone_id=stone.tombstone_id)
