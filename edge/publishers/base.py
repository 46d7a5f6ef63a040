"""The seam between the station and whoever hears of its verdicts once they have their numbers: lines, hosts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from edge.records import Message, Scalar, Verdict

# Told once what became of a message, by a reason code of MQTT 5, on the publisher's thread: it must not wait.
OnAnswer = Callable[[int], None]


@dataclass(frozen=True, slots=True, eq=False)
class Numbered:
    """A verdict that has its key (station, epoch, seq) for ever, and its messages."""

    verdict: Verdict
    epoch: int
    seq: int
    messages: tuple[Message, ...]  # the verdict's own, then its crops

    @property
    def message(self) -> Message:
        """The verdict's own."""
        return self.messages[0]


class Publisher(Protocol):
    """Hears of every verdict. No publisher waits for another one."""

    name: str  # for the log and for counters

    @property
    def alive(self) -> bool:
        """False: what it runs on has died, and nothing will be published any more."""
        ...

    @property
    def trouble(self) -> str:
        """What is wrong now, for people; "": nothing."""
        ...

    def publish(self, numbered: Numbered, timeout_s: float) -> bool:
        """Take a verdict. False: there was no room within `timeout_s` seconds, so the caller keeps it.

        Raises:
            DeliveryError: nothing can be published any more.
        """
        ...

    def publish_health(self, values: Mapping[str, Scalar], *, source_present: bool) -> None:
        """What `/health` says, and whether frames can come."""
        ...

    def report(self) -> Mapping[str, Scalar]:
        """Its counters, as `/health` and the log show them."""
        ...

    def close(self, timeout_s: float) -> None:
        """Publish what was taken for up to `timeout_s` seconds, then release everything. May be called twice."""
        ...
