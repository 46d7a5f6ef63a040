"""Draining: what was captured is still answered and published, for as long as the settings allow."""

from __future__ import annotations

from time import monotonic
from typing import TypeVar

from edge.health.supervision import Heartbeat
from edge.line.buffer import Buffer

POLL_S = 0.5  # longest wait of a thread without a sign of life

_Item = TypeVar("_Item")


class Drain:
    """When waiting for the next stage ends. Begun once, by whoever comes first; may be asked from any thread."""

    def __init__(self, timeout_s: float) -> None:
        """Not begun: whoever waits, waits."""
        self._timeout_s = timeout_s
        self._ends_at_s: float | None = None  # monotonic

    def begin(self) -> float:
        """The end, monotonic seconds: from the first call on."""
        if self._ends_at_s is None:
            self._ends_at_s = monotonic() + self._timeout_s
        return self._ends_at_s

    @property
    def over(self) -> bool:
        """Nobody waits any longer."""
        return self._ends_at_s is not None and monotonic() > self._ends_at_s


def hand_over(buffer: Buffer[_Item], item: _Item, heartbeat: Heartbeat, drain: Drain) -> bool:
    """Wait until `buffer` takes `item`. False: draining is over, and it did not."""
    while not buffer.put(item, POLL_S):
        heartbeat.beat()
        if drain.over:
            return False
    return True
