"""What a publisher offers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from edge.records import Message

# Told once what became of a message, by a reason code of MQTT 5, on the publisher's thread: it must not wait.
OnAnswer = Callable[[int], None]


class Publisher(Protocol):
    """Takes messages in order and delivers them.

    Called from one thread. What `send` took is delivered at least once or counted as refused; what it did
    not take stays with the caller.
    """

    @property
    def alive(self) -> bool:
        """False: what it runs on has died, and nothing will be delivered any more."""
        ...

    def report(self) -> dict[str, int]:
        """Its counters, as `/health` and the log show them."""
        ...

    def send(self, message: Message, timeout_s: float) -> bool:
        """Take `message`. False: there was no room within `timeout_s` seconds, so the caller keeps it.

        Raises:
            DeliveryError: nothing can be delivered any more.
        """
        ...

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything taken is settled. False: `timeout_s` seconds were not enough."""
        ...

    def close(self, timeout_s: float) -> None:
        """Deliver what was taken for up to `timeout_s` seconds, then release everything. May be called twice."""
        ...
