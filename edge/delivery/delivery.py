"""Where verdicts go: two ways to a number and to the broker, and then to every publisher that hears of them.

By the first way they are on disk before anybody hears of them; while the disk refuses, and without an outbox, they go
out of memory. Nothing here waits for the broker as long as the disk takes verdicts, and no publisher waits for another.
What is lost on the way is counted, and explained as soon as anybody listens.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Protocol

from edge.delivery.direct import Direct
from edge.delivery.stored import Stored
from edge.errors import DeliveryError
from edge.health.alarms import AlarmChange, Conditions
from edge.health.statistics import Statistics
from edge.protocol.commands import Request
from edge.protocol.messages import alarm_message
from edge.protocol.topics import StationTopics
from edge.publishers.base import Numbered, Publisher
from edge.publishers.mqtt.publisher import MqttPublisher
from edge.records import Message, Scalar, Values, Verdict

log = logging.getLogger("patchline.delivery")

_CLOSE_S = 5.0  # for saying goodbye to a broker


class Way(Protocol):
    """How a verdict gets its number, and its messages their first safe place."""

    def explain(self, lost: int) -> bool:
        """So many verdicts are lost: they get numbers, so that the gap can be explained. False: not now."""
        ...

    def deliver(self, verdict: Verdict) -> Numbered | None:
        """Take `verdict`. None: not now.

        Raises:
            DeliveryError: nothing can be published any more.
        """
        ...

    def deliver_message(self, message: Message) -> bool:
        """Take what is no verdict. False: not now."""
        ...

    def report(self) -> Values:
        """Counters for `/health` and the log."""
        ...

    def flush(self, timeout_s: float) -> None:
        """Wait for up to so many seconds until everything taken is with the broker."""
        ...


class Part(Protocol):
    """What runs on a thread of its own."""

    name: str

    @property
    def alive(self) -> bool:
        """False: it has died."""
        ...

    @property
    def trouble(self) -> str:
        """What is wrong now, for people; "": nothing."""
        ...

    def report(self) -> Mapping[str, Scalar]:
        """Counters for `/health` and the log."""
        ...

    def close(self, timeout_s: float) -> None:
        """End within so many seconds, or a little more."""
        ...


class Delivery:
    """`deliver` and `send` are called from one thread, the rest from another."""

    def __init__(
        self,
        topics: StationTopics,
        statistics: Statistics,
        *,
        broker: MqttPublisher | None,
        stored: Stored | None,
        direct: Direct,
        publishers: tuple[Publisher, ...],
        parts: tuple[Part, ...],
    ) -> None:
        """For `open_delivery`.

        Args:
            topics: the station's.
            statistics: told of what was delivered.
            broker: where both ways end; takes what is no verdict, and commands come from it.
            stored: the way by the disk.
            direct: the way out of memory.
            publishers: hear of every verdict when it has its number.
            parts: whatever runs, in the order in which it is closed.
        """
        self._topics = topics
        self._statistics = statistics
        self._broker = broker
        self._stored = stored
        self._direct = direct
        self._ways: tuple[Way, ...] = (direct,) if stored is None else (stored, direct)
        self._publishers = publishers
        self._parts = parts
        self._missed: Counter[str] = Counter()  # verdicts that a publisher did not take, by its name
        self._behind: set[str] = set()  # publishers that did not take the last one
        self._lost_explained = 0
        self._waiting_alarms: dict[str, Message] = {}  # alarms by topic

    # The publishing thread.

    def deliver(self, verdict: Verdict, lost: int) -> bool:
        """Take `verdict`. False: neither disk nor broker takes it now; call again.

        Args:
            verdict: one frame's answer, with its crops.
            lost: verdicts that the caller had to drop since the start, all of them before this one.

        Raises:
            DeliveryError: JSON lines are the only way out, and their reader has gone.
        """
        for way in self._ways:
            if self._explain(way, lost) and (numbered := way.deliver(verdict)) is not None:
                self._statistics.delivered(verdict)
                for publisher in self._publishers:
                    self._publish(publisher, numbered)
                return True
        return False

    def send(self, message: Message) -> None:
        """A QoS 0 message: gone if nobody takes it now."""
        if self._broker is not None:
            self._broker.send(message, 0)

    def _explain(self, way: Way, lost: int) -> bool:
        count = lost - self._lost_explained
        if count and not way.explain(count):
            return False
        self._lost_explained = lost
        return True

    def _publish(self, publisher: Publisher, numbered: Numbered) -> None:
        """At once or not at all: a reader that stands still is its own affair."""
        name = publisher.name
        try:
            taken = publisher.publish(numbered, 0)
        except DeliveryError:
            taken = False
        self._missed[name] += not taken
        if not taken and name not in self._behind:
            self._behind.add(name)
            log.error("%s takes no verdicts, the others do: %s", name, publisher.trouble)
        elif taken and name in self._behind:
            self._behind.discard(name)
            log.info("%s takes verdicts again", name, extra={"fields": {"missed": self._missed[name]}})

    # The thread that takes commands.

    def listen(self, topic_filter: str, on_request: Callable[[Request], None]) -> None:
        """Hand over what comes on `topic_filter`, on the network's thread, which must not wait."""
        if self._broker is not None:
            self._broker.listen(topic_filter, on_request)

    def reply(self, message: Message) -> bool:
        """Send the answer to a command. False: the broker cannot take it now."""
        return self._broker is not None and self._broker.reply(message)

    # The supervising thread.

    def deliver_alarm(self, change: AlarmChange) -> None:
        """Log an alarm, and publish it: stored like a verdict, so that the broker hears of it some time."""
        if change.is_news:
            level = logging.WARNING if change.active else logging.INFO
            log.log(level, "alarm %s", "raised" if change.active else "over", extra={"fields": _fields(change)})
        message = alarm_message(
            self._topics,
            change.code,
            active=change.active,
            severity=change.severity,
            since_s=change.since_s,
            text=change.text,
        )
        self._waiting_alarms[message.topic] = message
        self.deliver_waiting_alarms()

    def deliver_waiting_alarms(self) -> None:
        """Try again what neither disk nor broker took."""
        self._waiting_alarms = {
            topic: message
            for topic, message in self._waiting_alarms.items()
            if self._broker is not None and not any(way.deliver_message(message) for way in self._ways)
        }

    def conditions(self) -> Conditions:
        """What alarms are judged by, as far as it is known here."""
        trouble = None if self._broker is None else self._broker.trouble
        known = Conditions(
            connected=None if trouble is None else not trouble,
            broker_trouble=trouble or "",
            publisher_trouble=self._trouble_of_publishers(),
        )
        return known if self._stored is None else self._stored.conditions(known)

    def _trouble_of_publishers(self) -> str | None:
        others = tuple(part for part in self._parts if part is not self._broker)
        if not others:
            return None
        return "; ".join(f"{part.name}: {part.trouble}" for part in others if part.trouble)

    def without_progress(self, limit_s: float) -> tuple[str, ...]:
        """Names of its threads that are dead, or stuck for longer than `limit_s`."""
        dead = tuple(part.name for part in self._parts if not part.alive)
        return dead if self._stored is None else dead + self._stored.without_progress(limit_s)

    def publish_health(self, health: Values, *, source_present: bool) -> None:
        """What `/health` says, and whether there is a camera, for those who speak Sparkplug."""
        for publisher in self._publishers:
            publisher.publish_health(health, source_present=source_present)

    def report(self) -> Values:
        """Counters for `/health` and the log."""
        values: Values = {}
        for part in self._parts:
            values |= part.report()
        for way in self._ways:
            values |= way.report()
        return values | {f"{name}_missed": count for name, count in self._missed.items()}

    def finish(self, timeout_s: float) -> int:
        """Publish what waits for up to `timeout_s` seconds. How many messages are neither delivered nor stored."""
        deadline_s = monotonic() + timeout_s
        for way in self._ways:
            way.flush(max(0.0, deadline_s - monotonic()))
        return self._direct.owed

    def close(self) -> None:
        """Say goodbye to everybody."""
        if self._stored is not None:
            self._stored.close(_CLOSE_S)
        for part in self._parts:
            part.close(_CLOSE_S)


def _fields(change: AlarmChange) -> Values:
    return {"code": change.code.value, "severity": change.severity.value, "text": change.text}
