"""Messages between `send` and the broker's answer: their order, how many, and which one does harm. Pure.

They are sent in order of arrival. What is unanswered when a connection ends is sent again on the next one,
oldest first, and one at a time, because one of them may be what ended it: brokers close the connection on a
packet that is too large for a limit they never announced, and a message sent again would do it for ever.

Only size explains that. A small message is never given up because connections end, however many: a broker may die
whenever it gets one, by accident or by a fault of its own, and come back. A large one is, and later where the broker
has taken one as large before.

A broker that owes an answer has not ended anything: when we end the connection because of that, no message is blamed,
however often it happens, for a verdict must not be given up because its broker's disk stood still. Nor are they then
sent one at a time: the one that is never answered would hold up all the others.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass

from edge.publishers.base import OnAnswer
from edge.records import Message

SMALL_BYTES = 2048  # of a packet that every broker takes: verdict, alarm and tombstone have 1.3 KB at the most
MAX_STRIKES = 3  # connections that may end while one large message alone is unanswered
MAX_STRIKES_PROVEN = 12  # the same where the broker has taken one as large: it takes minutes until then


@dataclass(slots=True, eq=False)
class Held:
    """A QoS 1 message that is not settled."""

    number: int  # order of arrival, from 1
    message: Message
    size: int = 0  # of the whole packet, bytes
    on_answer: OnAnswer | None = None
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
        self._proven_bytes = SMALL_BYTES  # the broker takes packets of this size

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

    def add(self, message: Message, size: int, on_answer: OnAnswer | None = None) -> None:
        """Behind everything that arrived before; `size` is that of the packet in bytes."""
        self._arrivals += 1
        self._waiting.append(Held(self._arrivals, message, size, on_answer))

    def announce(self, message: Message, size: int) -> None:
        """Before everything else that waits; forgotten when the connection ends."""
        self._waiting.insert(self.announced, Held(0, message, size, announcement=True))

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

    def settle(self, held: Held, *, accepted: bool = True) -> None:
        """`held`, in flight, has its final answer."""
        self._in_flight.remove(held)
        if accepted:
            self._proven_bytes = max(self._proven_bytes, held.size)

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
            The large message that has now ended so many connections alone: settled, it is not sent again.
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
        return alone if alone.size > SMALL_BYTES and alone.strikes >= self._patience(alone) else None

    def _patience(self, alone: Held) -> int:
        return MAX_STRIKES if alone.size > self._proven_bytes else MAX_STRIKES_PROVEN

    def _queue(self, held: Held) -> None:
        held.packet_id = None
        insort(self._waiting, held, key=_arrival)


def _arrival(held: Held) -> int:
    return held.number
