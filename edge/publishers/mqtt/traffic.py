"""What a station has for its broker, between the threads that send and the one that speaks to the network.

Messages are taken only while the broker is there and the window has room, so nothing piles up here; what was taken is
kept until the broker answers, over any number of connections. One condition guards everything, never held while paho
runs.
"""

from __future__ import annotations

import dataclasses
import threading
from collections import deque
from dataclasses import dataclass

from edge.publishers.base import OnAnswer
from edge.publishers.mqtt.events import PROTOCOL_MAX_PACKET_BYTES, Connack
from edge.publishers.mqtt.packets import packet_bytes
from edge.publishers.mqtt.reasons import FAILURE
from edge.publishers.mqtt.window import Held, Window
from edge.records import Message

MAX_REPLIES = 16  # answers to commands that wait for the network; more are dropped
MAX_UNACKNOWLEDGED = 16  # QoS 0 messages between `send` and the network; the oldest gives way


@dataclass(frozen=True, slots=True)
class MqttCounters:
    """What happened since the start. Our own `/status` messages are not counted."""

    connected: bool = False
    acknowledged: int = 0  # QoS 1 messages that the broker has
    rejected: int = 0  # QoS 1 messages that the broker refused for good
    oversize: int = 0  # QoS 1 messages larger than the broker takes: never sent
    retried: int = 0  # temporary refusals, such as quota exceeded
    dropped: int = 0  # QoS 0 messages while offline or congested
    reconnects: int = 0  # connections after the first
    unreplied: int = 0  # answers to commands that could not go, or were refused


@dataclass(frozen=True, slots=True)
class Link:
    """One connection that the broker has accepted."""

    number: int  # from 1
    max_packet_bytes: int  # larger ones are not sent


class Traffic:
    """Shared by all threads."""

    def __init__(self, window: int) -> None:
        """Offline; `window` messages are taken and not settled at the most."""
        self._most = window
        self._changed = threading.Condition()  # guards the rest
        self._window = Window(window)
        self._unacknowledged: deque[Message] = deque()  # QoS 0
        self._online = False
        self._link = Link(0, PROTOCOL_MAX_PACKET_BYTES)  # the present connection, or the last one
        self._counters = MqttCounters()
        self._closing = False

    # Whoever sends.

    @property
    def link(self) -> Link | None:
        """The connection; None while the broker is away."""
        with self._changed:
            return self._link if self._online else None

    @property
    def counters(self) -> MqttCounters:
        """A snapshot."""
        with self._changed:
            return dataclasses.replace(self._counters, connected=self._online)

    @property
    def held(self) -> int:
        """Messages that are not settled."""
        with self._changed:
            return len(self._window)

    def take(self, message: Message, timeout_s: float, on_answer: OnAnswer | None) -> bool:
        """Take a QoS 1 message. False: the broker was away or the window full for so long."""
        size = packet_bytes(message)
        with self._changed:
            if not self._changed.wait_for(self._has_room, timeout_s):
                return False
            self._window.add(message, size, on_answer)
        return True

    def take_unacknowledged(self, message: Message) -> None:
        """Take a QoS 0 message, which is dropped if it cannot go at once."""
        with self._changed:
            if not self._online:
                self._count(dropped=1)
                return
            if len(self._unacknowledged) == MAX_UNACKNOWLEDGED:
                self._unacknowledged.popleft()
                self._count(dropped=1)
            self._unacknowledged.append(message)

    def take_reply(self, message: Message) -> bool:
        """Take the answer to a command, for the present connection alone. False: it cannot go, and is counted."""
        size = packet_bytes(message)
        with self._changed:
            taken = self._online and not self._closing and self._window.announced < MAX_REPLIES
            if taken:
                self._window.announce(message, size)
            else:
                self._count(unreplied=1)
        return taken

    def flush(self, timeout_s: float) -> bool:
        """Wait until every message has its answer. False: `timeout_s` seconds were not enough."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._window and not self._unacknowledged, timeout_s)

    def stop_taking(self) -> None:
        """What comes from now on is not taken."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    # The network thread.

    def connect(self, connack: Connack, first: Message) -> Link:
        """The broker is there: `first` goes before everything else."""
        with self._changed:
            self._link = Link(self._link.number + 1, connack.max_packet_bytes)
            self._window.limit = min(self._most, connack.receive_maximum)
            self._window.announce(first, packet_bytes(first))
            self._online = True
            self._count(reconnects=int(self._link.number > 1))
            self._changed.notify_all()
            return self._link

    def disconnect(self) -> Held | None:
        """The broker is away. What has thereby been given up, and is settled."""
        with self._changed:
            self._online = False
            culprit = self._window.end_connection()
            self._count(dropped=len(self._unacknowledged), rejected=int(culprit is not None))
            self._unacknowledged.clear()
            self._changed.notify_all()
            return culprit

    def announce(self, message: Message) -> None:
        """Of ours, for this connection, before everything else."""
        with self._changed:
            self._window.announce(message, packet_bytes(message))

    def next(self) -> Held | None:
        """What the window allows to hand over now, in flight from here on."""
        with self._changed:
            return self._window.next()

    def next_unacknowledged(self, *, congested: bool) -> Message | None:
        """The next QoS 0 message that may go; those that may not are dropped."""
        with self._changed:
            while self._unacknowledged:
                message = self._unacknowledged.popleft()
                if not congested and packet_bytes(message) <= self._link.max_packet_bytes:
                    return message
                self._count(dropped=1)
            self._changed.notify_all()
            return None

    def answered(self, packet_id: int) -> Held | None:
        """The message in flight under `packet_id`."""
        with self._changed:
            return self._window.answered(packet_id)

    def settle(self, held: Held, code: int, counter: str) -> None:
        """`held` has its final answer."""
        with self._changed:
            self._window.settle(held, accepted=code < FAILURE)
            if not held.announcement:
                self._count(**{counter: 1})
            elif held.message.correlation:
                self._count(unreplied=int(code >= FAILURE))
            self._changed.notify_all()
        tell(held, code)

    def retry(self, held: Held) -> None:
        """`held` was refused for now: it goes again, in its old place."""
        with self._changed:
            self._window.put_back(held)
            self._count(retried=1)

    def owed_s(self, now_s: float) -> float:
        """For how long the answer that is due next has been due."""
        with self._changed:
            return self._window.owed_s(now_s)

    def take_back(self) -> Held:
        """Everything in flight waits again, above suspicion; the oldest of it. There must be one."""
        with self._changed:
            return self._window.take_back()

    def _has_room(self) -> bool:
        return self._online and not self._window.full and not self._closing

    def _count(self, **increments: int) -> None:
        """Called with the lock held."""
        values = {name: getattr(self._counters, name) + number for name, number in increments.items()}
        self._counters = dataclasses.replace(self._counters, **values)


def tell(held: Held, code: int) -> None:
    """Whoever sent it learns what became of it."""
    if held.on_answer is not None:
        held.on_answer(code)
