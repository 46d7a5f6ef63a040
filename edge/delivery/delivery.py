"""Where verdicts go: to disk before anybody hears of them, and from there to the broker, to lines and to hosts.

Nothing here waits for the broker as long as the disk takes verdicts. When it refuses, they are numbered in an epoch of
their own and handed to the broker directly, out of memory; so they are without an outbox. What is lost on the way is
counted, and explained as soon as anybody listens.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

from edge.delivery.outbox.outbox import Outbox
from edge.delivery.outbox.records import OutboxLimits, OutboxStatistics
from edge.delivery.outbox.requests import answer_requests
from edge.delivery.pump import Pump
from edge.errors import OutboxError
from edge.files.places import default_state_dir
from edge.health.alarms import AlarmChange, Conditions
from edge.health.statistics import Statistics
from edge.health.supervision import stalled
from edge.protocol.commands import Request
from edge.protocol.messages import alarm_message, crop_messages, last_message, tombstone_message, verdict_message
from edge.protocol.topics import StationTopics
from edge.publishers.jsonl import JsonLinesPublisher
from edge.publishers.mqtt.publisher import MqttPublisher
from edge.publishers.sparkplug.publisher import SparkplugPublisher
from edge.records import Message, Values, Verdict
from edge.settings.sections import OutboxSettings, PublisherKind
from edge.settings.tree import Settings

log = logging.getLogger("patchline.delivery")

_POLL_S = 0.5  # longest wait in one call
_RETRY_DISK_S = 1.0
_CLOSE_S = 5.0  # for saying goodbye to a broker
_MAX_AWAITED = 256  # verdicts whose acknowledgement is timed


class Delivery:
    """`deliver` and `send` are called from one thread, the rest from another."""

    def __init__(
        self,
        settings: Settings,
        topics: StationTopics,
        statistics: Statistics,
        *,
        lines: JsonLinesPublisher | None,
        publisher: MqttPublisher | None,
        outbox: Outbox | None,
        pump: Pump | None,
        hosts: SparkplugPublisher | None,
    ) -> None:
        """For `open_delivery`. Without an outbox there is no pump."""
        self._topics = topics
        self._publish_last = settings.mqtt.publish_last
        self._statistics = statistics
        self._lines = lines
        self._publisher = publisher
        self._outbox = outbox
        self._pump = pump
        self._hosts = hosts

        self._direct_epoch = int(time.time()) if outbox is None else 0  # 0: none yet
        self._direct_seq = 0
        self._directly = threading.Lock()  # guards the next two
        self._direct_owed = 0  # of those, not answered yet
        self._direct_messages = 0  # handed to the broker without the disk
        self._crops_dropped = 0
        self._lost_explained = 0
        self._complaint = ""  # of the disk; "": it takes verdicts
        self._try_disk_at_s = 0.0
        self._unsaid: dict[str, Message] = {}  # alarms by topic
        self._awaited: deque[tuple[int, float]] = deque(maxlen=_MAX_AWAITED)  # (row, capture in monotonic seconds)
        self._stored: OutboxStatistics | None = None  # as last seen

    # The publishing thread.

    def deliver(self, verdict: Verdict, lost: int) -> bool:
        """Take `verdict`. False: neither disk nor broker takes it now; call again.

        Args:
            verdict: one frame's answer, with its crops.
            lost: verdicts that the caller had to drop since the start, all of them before this one.

        Raises:
            DeliveryError: the reader of JSON lines has gone.
        """
        return self._commit(verdict, lost) or self._hand_over(verdict, lost)

    def send(self, message: Message) -> None:
        """A QoS 0 message: gone if nobody takes it now."""
        if self._publisher is not None:
            self._publisher.send(message, 0)

    def _commit(self, verdict: Verdict, lost: int) -> bool:
        outbox, began_s = self._outbox, monotonic()
        if outbox is None or began_s < self._try_disk_at_s:
            return False
        try:
            if lost > self._lost_explained:
                outbox.give_up(lost - self._lost_explained)
                self._lost_explained = lost
            appended = outbox.append(lambda epoch, seq: self._messages(verdict, epoch, seq))
        except OutboxError as error:
            self._disk_refuses(str(error))
            return False
        self._disk_accepts()
        self._statistics.timed("commit", 1e3 * (monotonic() - began_s))
        self._await(appended.row_id, verdict)
        if self._pump is not None:
            self._pump.wake()
        self._tell(verdict, appended.messages[0], appended.epoch, appended.seq)
        return True

    def _hand_over(self, verdict: Verdict, lost: int) -> bool:
        epoch = self._epoch_for_memory()
        if not self._explain(lost, epoch):
            return False
        message, *crops = self._messages(verdict, epoch, self._direct_seq + 1)
        if not self._send_directly(message):
            return False
        self._direct_seq += 1
        for crop in crops:
            self._crops_dropped += not self._send_directly(crop)
        if self._publish_last:
            self.send(last_message(self._topics, message))
        self._tell(verdict, message, epoch, self._direct_seq)
        return True

    def _explain(self, lost: int, epoch: int) -> bool:
        """Number what was lost, so that its gap can be explained; False: the broker does not take it now."""
        count = lost - self._lost_explained
        if count == 0:
            return True
        first, last = self._direct_seq + 1, self._direct_seq + count
        message = tombstone_message(self._topics, epoch, first=first, last=last, count=count, reason="memory_full")
        if not self._send_directly(message):
            return False
        self._direct_seq, self._lost_explained = last, lost
        return True

    def _send_directly(self, message: Message) -> bool:
        if self._publisher is None:
            return True
        return self._send_and_count(self._publisher, message, _POLL_S)

    def _send_and_count(self, publisher: MqttPublisher, message: Message, timeout_s: float) -> bool:
        with self._directly:
            self._direct_owed += 1
        taken = publisher.send(message, timeout_s, self._take_answer)
        with self._directly:
            self._direct_messages += taken
            self._direct_owed -= not taken
        return taken

    def _take_answer(self, _reason_code: int) -> None:
        with self._directly:
            self._direct_owed -= 1

    def _epoch_for_memory(self) -> int:
        if self._direct_epoch == 0 and self._outbox is not None:
            self._direct_epoch = self._outbox.reserve_epoch()
        return self._direct_epoch

    def _messages(self, verdict: Verdict, epoch: int, seq: int) -> tuple[Message, ...]:
        crops = crop_messages(self._topics, verdict, epoch, seq)
        return (verdict_message(self._topics, verdict, epoch, seq), *crops)

    def _tell(self, verdict: Verdict, message: Message, epoch: int, seq: int) -> None:
        self._statistics.delivered(verdict)
        if self._hosts is not None:
            self._hosts.publish(verdict, epoch, seq)
        if self._lines is not None:
            self._lines.send(message, 0)

    def _disk_refuses(self, complaint: str) -> None:
        self._try_disk_at_s = monotonic() + _RETRY_DISK_S
        if not self._complaint:
            log.error("verdicts are in memory only: %s", complaint)
        self._complaint = complaint

    def _disk_accepts(self) -> None:
        if self._complaint:
            log.info("verdicts are safe on disk again")
        self._complaint = ""

    def _await(self, row_id: int, verdict: Verdict) -> None:
        if self._publisher is not None and self._publisher.link is not None:
            self._awaited.append((row_id, verdict.identity.captured_monotonic_s))

    # The thread that takes commands.

    def listen(self, topic_filter: str, on_request: Callable[[Request], None]) -> None:
        """Hand over what comes on `topic_filter`, on the network's thread, which must not wait."""
        if self._publisher is not None:
            self._publisher.listen(topic_filter, on_request)

    def reply(self, message: Message) -> bool:
        """Send the answer to a command. False: the broker cannot take it now."""
        return self._publisher is not None and self._publisher.reply(message)

    # The pump's thread.

    def acknowledged(self, row_id: int) -> None:
        """The broker has a stored message."""
        # Rows are delivered in the order of commit, apart from those that nobody waits for.
        while self._awaited and self._awaited[0][0] <= row_id:
            awaited, captured_s = self._awaited.popleft()
            if awaited == row_id:
                self._statistics.timed("acknowledged", 1e3 * (monotonic() - captured_s))

    # The supervising thread.

    def announce(self, change: AlarmChange) -> None:
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
        self._unsaid[message.topic] = message
        self.say_what_is_unsaid()

    def say_what_is_unsaid(self) -> None:
        """Try again what neither disk nor broker took."""
        self._unsaid = {topic: message for topic, message in self._unsaid.items() if not self._say(message)}

    def _say(self, message: Message) -> bool:
        if self._publisher is None:
            return True
        if self._outbox is not None:
            with contextlib.suppress(OutboxError):
                self._outbox.append_message(message)
                return True
        return self._send_and_count(self._publisher, message, 0)

    def conditions(self) -> Conditions:
        """What alarms are judged by, as far as it is known here."""
        publisher, stored = self._publisher, self._look()
        if stored is None or self._outbox is None:
            return Conditions(connected=None if publisher is None else publisher.link is not None)
        return Conditions(
            connected=None if publisher is None else publisher.link is not None,
            waiting=stored.pending,
            evicted=stored.evicted_verdicts + stored.evicted_crops + stored.evicted_dead_letters,
            refused=stored.refused,
            disk_low=stored.disk_low,
            outbox_refuses=bool(self._complaint),
            outbox_damage=self._outbox.damage,
        )

    def without_progress(self, limit_s: float) -> tuple[str, ...]:
        """Names of its threads that are dead, or stuck for longer than `limit_s`."""
        parts = {"mqtt": self._publisher, "pump": self._pump, "sparkplug": self._hosts}
        dead = tuple(name for name, part in parts.items() if part is not None and not part.alive)
        if self._pump is None or not self._pump.alive:
            return dead
        return dead + stalled({"pump": self._pump.heartbeat}, limit_s)

    def tell_hosts(self, health: Values, *, source_present: bool) -> None:
        """What `/health` says, and whether there is a camera, for those who speak Sparkplug."""
        if self._hosts is not None:
            self._hosts.publish_health(health)
            self._hosts.set_device(present=source_present)

    def report(self) -> Values:
        """Counters for `/health` and the log."""
        values: Values = {"direct_messages": self._direct_messages, "crops_dropped": self._crops_dropped}
        if self._publisher is not None:
            values |= self._publisher.report()
        if self._pump is not None:
            values |= self._pump.report()
        if self._hosts is not None:
            values |= self._hosts.report()
        stored = self._look()
        return values if stored is None else values | _describe(stored) | {"memory_only": int(bool(self._complaint))}

    def finish(self, timeout_s: float) -> int:
        """Publish what waits for up to `timeout_s` seconds. How many messages are neither delivered nor stored."""
        deadline_s = monotonic() + timeout_s
        if self._publisher is None:
            return 0
        if self._pump is not None:
            self._pump.flush(timeout_s)
        if self._direct_owed:
            self._publisher.flush(max(0.0, deadline_s - monotonic()))
        if self._pump is not None:
            self._pump.close(max(0.0, deadline_s - monotonic()))
        if (stored := self._look()) is not None and stored.pending:
            log.info("messages wait on disk for the next start", extra={"fields": {"messages": stored.pending}})
        return self._direct_owed

    def close(self) -> None:
        """Say goodbye to the broker."""
        if self._pump is not None:
            self._pump.close(_CLOSE_S)
        for connection in (self._publisher, self._hosts):
            if connection is not None:
                connection.close(_CLOSE_S)

    def _look(self) -> OutboxStatistics | None:
        if self._outbox is not None:
            answer_requests(self._outbox)
            with contextlib.suppress(OutboxError):
                self._stored = self._outbox.statistics()
        return self._stored


@contextlib.contextmanager
def open_delivery(settings: Settings, topics: StationTopics, statistics: Statistics) -> Iterator[Delivery]:
    """Open what `settings.publish` names, and close it at the end.

    Raises:
        OutboxError: the outbox is in use, or its directory cannot be used.
        SettingsError: a certificate, key or password file cannot be used.
    """
    with contextlib.ExitStack() as resources:
        outbox, publisher, pump = None, None, None
        if PublisherKind.MQTT in settings.publish:
            if settings.outbox.enabled:
                outbox = resources.enter_context(_open_outbox(settings.outbox, topics))
                pump = Pump(outbox, topics, settings.outbox, settings.mqtt)
                publisher = pump.publisher
            else:
                publisher = MqttPublisher(settings.mqtt, topics)
        lines = JsonLinesPublisher(sys.stdout.buffer) if PublisherKind.JSON_LINES in settings.publish else None
        hosts = _open_hosts(settings, topics) if settings.sparkplug.enabled else None
        delivery = Delivery(
            settings, topics, statistics, lines=lines, publisher=publisher, outbox=outbox, pump=pump, hosts=hosts
        )
        resources.callback(delivery.close)
        if hosts is not None:
            hosts.start()
        if pump is not None:
            pump.start(delivery.acknowledged)
        yield delivery


def outbox_directory(settings: OutboxSettings, topics: StationTopics) -> Path:
    """Where the station's outbox is."""
    return settings.directory or default_state_dir(topics.base.replace("/", "-")) / "outbox"


def _open_outbox(settings: OutboxSettings, topics: StationTopics) -> Outbox:
    limits = OutboxLimits(
        max_rows=settings.max_rows,
        max_bytes=settings.max_bytes,
        min_free_bytes=settings.min_free_bytes,
        ballast_bytes=settings.ballast_bytes,
    )
    return Outbox.open(outbox_directory(settings, topics), limits)


def _open_hosts(settings: Settings, topics: StationTopics) -> SparkplugPublisher:
    directory = outbox_directory(settings.outbox, topics)
    directory.mkdir(parents=True, exist_ok=True)
    return SparkplugPublisher(settings.sparkplug, settings.mqtt, settings.station, state_dir=directory)


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


def _fields(change: AlarmChange) -> Values:
    return {"code": change.code.value, "severity": change.severity.value, "text": change.text}
