"""What an edge node with one device has to say, when, and in which order (Sparkplug 3.0, section 5). Pure.

It is told what happens (`open`, `hear`, `take`, …) and asked what is due (`due`). Verdicts stay here until the broker
has them: what was not sent at once, or sent and not confirmed when a connection ended, goes out as history.

Births and data are QoS 0, as the specification demands, so the broker acknowledges none of them. The shell asks it
something else from time to time; the answer shows that everything before was read, and `confirm` says so.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pydantic import BaseModel, StrictBool

from edge.publishers.sparkplug.codec import Metric, asks_for_rebirth, encode
from edge.publishers.sparkplug.metrics import (
    bdseq_metric,
    health_metric,
    no_verdict_metrics,
    node_metrics,
    same_value,
    verdict_metrics,
)
from edge.publishers.sparkplug.topics import SparkplugTopics
from edge.records import Message, Scalar

NUMBERS = 256  # both `seq` and `bdSeq` go from 0 to 255
MAX_HEARD_BYTES = 4096  # of a command or STATE: ours need fewer than 100

Verdict = Mapping[str, Scalar]  # of `edge.protocol.messages.verdict_payload`


class HostState(BaseModel):
    """Payload of a STATE (section 4.2.3)."""

    online: StrictBool
    timestamp: int  # milliseconds since 1970-01-01 UTC


@dataclass(frozen=True, slots=True)
class Moment:
    """Now."""

    wall_ms: int  # since 1970-01-01 UTC: for time stamps
    monotonic_s: float  # for intervals


@dataclass(frozen=True, slots=True)
class SessionCounters:
    """What happened since the start."""

    sent: int = 0  # verdicts handed to the network, repetitions included
    historical: int = 0  # of those, sent late
    births: int = 0  # NBIRTHs
    ignored: int = 0  # commands and STATEs that are malformed, retained, outdated or not for us


class Session:
    """Not thread safe: the publisher holds its lock around every call."""

    def __init__(
        self,
        topics: SparkplugTopics,
        *,
        version: str,
        capacity: int = 1000,
        rebirth_interval_s: float = 2.0,
        next_bdseq: int = 0,
        describe_data: bool = True,
    ) -> None:
        """Begin without a connection, the device present.

        Args:
            topics: who speaks.
            version: of this software.
            capacity: verdicts kept at the most.
            rebirth_interval_s: shortest time between two births of one connection.
            next_bdseq: the number of the next connection, 0 to 255.
            describe_data: data messages name the type of every metric, as births do.
        """
        self._topics = topics
        self._version = version
        self._capacity = capacity
        self._rebirth_interval_s = rebirth_interval_s
        self._next_bdseq = next_bdseq
        self._describe_data = describe_data
        self._counters = SessionCounters()

        self._open = False  # connected and subscribed
        self._bdseq = next_bdseq
        self._seq = 0
        self._born = False
        self._born_at_s = 0.0
        self._rebirth_wanted = False

        self._host_online = False
        self._host_timestamp: int | None = None  # of the newest STATE; survives connections

        self._device_present = True
        self._device_born = False
        self._latest: Verdict | None = None
        self._health: dict[str, Metric] = {}
        self._health_changed: set[str] = set()

        self._live: deque[Verdict] = deque()
        self._late: deque[Verdict] = deque()
        self._unconfirmed: deque[Verdict] = deque()

    # What is asked.

    @property
    def counters(self) -> SessionCounters:
        """A snapshot."""
        return self._counters

    @property
    def born(self) -> bool:
        """The edge node is online in the eyes of its hosts."""
        return self._born

    @property
    def kept(self) -> int:
        """Verdicts that the broker is not known to have."""
        return len(self._live) + len(self._late) + len(self._unconfirmed)

    @property
    def is_full(self) -> bool:
        """There is no room for another one."""
        return self.kept >= self._capacity

    @property
    def unconfirmed(self) -> int:
        """Of those kept, the ones that were sent on this connection."""
        return len(self._unconfirmed)

    @property
    def busy(self) -> bool:
        """Waiting a moment longer would settle more verdicts."""
        return self._born and (bool(self._unconfirmed) or (self._device_present and self.kept > 0))

    @property
    def next_bdseq(self) -> int:
        """Number of the next connection."""
        return self._next_bdseq

    @property
    def must_leave(self) -> bool:
        """The primary host went offline under us: say farewell, disconnect and begin anew."""
        return self._born and self._waits_for_host

    def will(self, now: Moment) -> Message:
        """The death that the broker publishes if the next connection breaks."""
        return self._death(self._next_bdseq, now)

    def due(self, now: Moment, limit: int = 100) -> list[Message]:
        """What to publish now, in this order, at most `limit` verdicts of it."""
        if not self._open or self._waits_for_host:
            return []
        messages = []
        if not self._born or self._rebirth_is_due(now):
            messages += self._births(now)
        if self._rebirth_wanted:  # no data between a request and its birth
            return messages
        messages += self._device_change(now)
        messages += self._health_data(now)
        messages += self._verdict_data(now, limit)
        return messages

    def farewell(self, now: Moment) -> list[Message]:
        """What to publish before an intended disconnect."""
        messages = [self._device_death(now)] if self._device_born else []
        self._born = self._device_born = False
        return [*messages, self._death(self._bdseq, now)]

    # What is told.

    def connect(self) -> None:
        """A CONNECT with the present `will` was sent."""
        self._bdseq = self._next_bdseq
        self._next_bdseq = (self._bdseq + 1) % NUMBERS

    def open(self) -> None:
        """The broker has accepted us and the subscriptions; it may have told the primary host's STATE already."""
        self._open = True

    def close(self) -> None:
        """The connection has ended: what was not confirmed becomes history."""
        self._open = self._born = self._device_born = self._rebirth_wanted = False
        self._host_online = False
        self._make_late(self._unconfirmed, self._live)

    def take(self, verdict: Verdict, *, is_backlog: bool) -> bool:
        """Keep `verdict` until the broker has it. False: there is no room."""
        if self.is_full:
            return False
        if not is_backlog:
            self._latest = verdict
        if is_backlog or not self._device_born:
            self._late.append(verdict)
        else:
            self._live.append(verdict)
        return True

    def note_health(self, values: Mapping[str, Scalar], now: Moment) -> None:
        """Keep the newest values. A value that no birth has declared makes a new birth due."""
        for key, value in values.items():
            before = self._health.get(key)
            metric = health_metric(key, value, before, now.wall_ms)
            if before is None:
                self._rebirth_wanted = self._rebirth_wanted or self._born
            if before is None or not same_value(metric, before):
                self._health_changed.add(key)
                self._health[key] = metric

    def set_device(self, *, present: bool) -> None:
        """The camera has come back, or is away."""
        self._device_present = present

    def confirm(self, count: int) -> None:
        """The broker has the oldest `count` of the unconfirmed verdicts."""
        for _ in range(count):
            self._unconfirmed.popleft()

    def hear(self, topic: str, payload: bytes, *, retained: bool) -> None:
        """A command to the edge node or the primary host's STATE; what makes no sense is counted and ignored."""
        understood = False
        if len(payload) <= MAX_HEARD_BYTES:
            with contextlib.suppress(ValueError):
                if topic == self._topics.ncmd:
                    understood = not retained and self._hear_command(payload)
                elif topic == self._topics.state:
                    understood = self._hear_state(payload)
        self._count(ignored=int(not understood))

    def _hear_command(self, payload: bytes) -> bool:
        asked = asks_for_rebirth(payload)
        self._rebirth_wanted = self._rebirth_wanted or (asked and self._born)
        return asked

    # Births, deaths and data.

    def _births(self, now: Moment) -> list[Message]:
        self._seq = 0
        self._born, self._born_at_s = True, now.monotonic_s
        self._device_born = self._rebirth_wanted = False
        self._health_changed.clear()
        self._count(births=1)
        metrics = (
            *node_metrics(self._bdseq, self._version, now.wall_ms),
            *(replace(metric, timestamp_ms=now.wall_ms) for metric in self._health.values()),
        )
        return [self._message(self._topics.nbirth, metrics, now, describe=True), *self._device_change(now)]

    def _rebirth_is_due(self, now: Moment) -> bool:
        return self._rebirth_wanted and now.monotonic_s - self._born_at_s >= self._rebirth_interval_s

    def _device_change(self, now: Moment) -> list[Message]:
        if self._device_present and not self._device_born:
            self._device_born = True
            latest = self._latest
            metrics = no_verdict_metrics(now.wall_ms) if latest is None else verdict_metrics(latest, historical=False)
            return [self._message(self._topics.dbirth, metrics, now, describe=True)]
        if self._device_born and not self._device_present:
            self._make_late(self._live)
            return [self._device_death(now)]
        return []

    def _device_death(self, now: Moment) -> Message:
        self._device_born = False
        return self._message(self._topics.ddeath, (), now)

    def _health_data(self, now: Moment) -> list[Message]:
        if not self._health_changed:
            return []
        metrics = tuple(metric for key, metric in self._health.items() if key in self._health_changed)
        self._health_changed.clear()
        return [self._message(self._topics.ndata, metrics, now)]

    def _verdict_data(self, now: Moment, limit: int) -> list[Message]:
        messages: list[Message] = []
        while self._device_born and (self._live or self._late) and len(messages) < limit:
            historical = not self._live
            verdict = (self._late if historical else self._live).popleft()
            self._unconfirmed.append(verdict)
            self._count(sent=1, historical=int(historical))
            metrics = verdict_metrics(verdict, historical=historical)
            messages.append(self._message(self._topics.ddata, metrics, now))
        return messages

    def _message(self, topic: str, metrics: tuple[Metric, ...], now: Moment, *, describe: bool = False) -> Message:
        describe = describe or self._describe_data
        payload = encode(metrics, timestamp_ms=now.wall_ms, seq=self._seq, describe=describe)
        self._seq = (self._seq + 1) % NUMBERS
        return Message(topic, payload, qos=0)

    def _death(self, bdseq: int, now: Moment) -> Message:
        """Without `seq`, and with nothing but `bdSeq`."""
        payload = encode((bdseq_metric(bdseq, None),), timestamp_ms=now.wall_ms, seq=None, describe=True)
        return Message(self._topics.ndeath, payload, qos=1)

    def _make_late(self, *queues: deque[Verdict]) -> None:
        for queue in queues:
            self._late.extend(queue)
            queue.clear()
        self._late = deque(sorted(self._late, key=lambda verdict: (verdict["epoch"], verdict["seq"])))

    # The primary host.

    @property
    def _waits_for_host(self) -> bool:
        return bool(self._topics.primary_host) and not self._host_online

    def _hear_state(self, payload: bytes) -> bool:
        """Section 5.4: a STATE older than the one before is a dead host's will that arrives late."""
        state = HostState.model_validate_json(payload)
        if self._host_timestamp is not None and state.timestamp < self._host_timestamp:
            return False
        self._host_timestamp = state.timestamp
        self._host_online = state.online
        return True

    def _count(self, **increments: int) -> None:
        values = {name: getattr(self._counters, name) + number for name, number in increments.items()}
        self._counters = replace(self._counters, **values)
