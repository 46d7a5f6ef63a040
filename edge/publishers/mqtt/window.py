"""Messages between `send` and the broker's answer: their order, how many, and which one does harm. Pure.

They are sent in order of arrival. What is unanswered when a connection ends is sent again on the next one,
oldest first, and one at a time, because one of them may be what ended it: brokers close the connection on a
packet that is too large for a limit they never announced, and a message sent again would do it for ever.

A broker that owes an answer has not ended anything: when we end the connection because of that, no message is blamed,
however often it happens, for a verdict must not be given up because its broker's disk stood still. Nor are they then
sent one at a time: the one that is never answered would hold up all the others.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass

from edge.records import Message

MAX_STRIKES = 3  # connections that may end while one message alone is unanswered


@dataclass(slots=True, eq=False)
class Held:
    """A QoS 1 message that is not settled."""

    number: int  # order of arrival, from 1
    message: Message
    announcement: bool = False  # our own `/status`, an answer to a command: belongs to one connection
    packet_id: int | None = None  # once it is handed over
    suspect: bool = False  # was unanswered when a connection ended
    strikes: int = 0  # connections that ended while it alone was unanswered


class Window:
    """Everything not settled. Not thread safe: the publisher holds its lock around every call."""

    def __init__(self, limit: int) -> None:
        """Hold at most `limit` messages, announcements apart."""
        self.limit = limit
        self._waiting: list[Held] = []  # by number
        self._in_flight: list[Held] = []
        self._arrivals = 0
        self._oldest: Held | None = None  # in flight, when `owed_s` was called last
        self._oldest_since_s = 0.0

    def __len__(self) -> int:
        """Messages that are not settled."""
        return len(self._waiting) + len(self._in_flight)

    @property
    def announced(self) -> int:
        """Announcements that wait."""
        return sum(held.announcement for held in self._waiting)

    @property
    def full(self) -> bool:
        """There is no room for another message."""
        return len(self) >= self.limit

    def add(self, message: Message) -> None:
        """Behind everything that arrived before."""
        self._arrivals += 1
        self._waiting.append(Held(self._arrivals, message))

    def announce(self, message: Message) -> None:
        """Before everything else that waits; forgotten when the connection ends."""
        self._waiting.insert(self.announced, Held(0, message, announcement=True))

    def next(self) -> Held | None:
        """The message to hand over now, in flight from here on; None: nothing waits, or the limit is reached."""
        if not self._waiting or len(self._in_flight) >= self._limit_now():
            return None
        held = self._waiting.pop(0)
        self._in_flight.append(held)
        return held

    def answered(self, packet_id: int) -> Held | None:
        """The message in flight under `packet_id`."""
        return next((held for held in self._in_flight if held.packet_id == packet_id), None)

    def settle(self, held: Held) -> None:
        """`held`, in flight, has its final answer."""
        self._in_flight.remove(held)

    def put_back(self, held: Held) -> None:
        """`held`, in flight, is to be sent again, in its old place."""
        self._in_flight.remove(held)
        self._queue(held)

    def owed_s(self, now_s: float) -> float:
        """For how many seconds the answer that is due next has been due; called every now and then.

        A broker answers in the order in which it was asked (MQTT 5, section 4.6), so the time begins when all before
        the oldest message in flight were answered: over a slow network a full window takes long, but each message not.
        """
        oldest = self._in_flight[0] if self._in_flight else None
        if oldest is not self._oldest:
            self._oldest, self._oldest_since_s = oldest, now_s
        return 0.0 if oldest is None else now_s - self._oldest_since_s

    def take_back(self) -> Held:
        """Everything in flight waits again, above suspicion: we end the connection, and not the broker.

        Returns:
            The oldest of them. There must be one.
        """
        messages = self._in_flight.copy()
        for held in messages:
            held.suspect = False
            self.put_back(held)
        return messages[0]

    def end_connection(self) -> Held | None:
        """Everything in flight waits again.

        Returns:
            The message that has now ended `MAX_STRIKES` connections alone: settled, it is not sent again.
        """
        messages = [held for held in self._in_flight if not held.announcement]
        culprit = self._strike(messages[0]) if len(self._in_flight) == len(messages) == 1 else None
        self._in_flight.clear()
        self._waiting = [held for held in self._waiting if not held.announcement]
        for held in messages:
            held.suspect = True
            if held is not culprit:
                self._queue(held)
        return culprit

    def _limit_now(self) -> int:
        suspicion = self._waiting[0].suspect or any(held.suspect for held in self._in_flight)
        return 1 if suspicion else self.limit

    def _strike(self, alone: Held) -> Held | None:
        # A suspect is sent when the announcement has been answered, so this connection did work before.
        alone.strikes += alone.suspect
        return alone if alone.strikes >= MAX_STRIKES else None

    def _queue(self, held: Held) -> None:
        held.packet_id = None
        insort(self._waiting, held, key=_arrival)


def _arrival(held: Held) -> int:
    return held.number
