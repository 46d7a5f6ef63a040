"""From the outbox to the broker: one thread that hands stored messages over and forgets them once they are answered.

At most a window of messages is with the broker or answered and not yet forgotten, so that a kill repeats no more than
that. What the broker has is deleted, what it refuses for good goes to the dead letters; temporary refusals and lost
connections are the publisher's affair, which keeps what it took. What is read from the outbox is small, whatever waits
there.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import queue
import threading
from collections.abc import Callable
from time import monotonic, sleep

from edge.delivery.gaps import Gaps
from edge.delivery.outbox.outbox import Outbox
from edge.delivery.outbox.records import Kind
from edge.delivery.send_order import SendQueue, Turn
from edge.delivery.settlement import RETRY_S, Sent, Settlement
from edge.errors import OutboxError
from edge.health.supervision import Heartbeat
from edge.protocol.messages import amend, announces_crop, last_message
from edge.protocol.topics import StationTopics
from edge.publishers.mqtt.packets import packet_bytes
from edge.publishers.mqtt.publisher import MqttPublisher
from edge.publishers.mqtt.reasons import FAILURE, OF_ONE_MESSAGE
from edge.publishers.mqtt.traffic import Link
from edge.records import Message, Values
from edge.settings.sections import MqttSettings, OutboxSettings

log = logging.getLogger("patchline.pump")

TICK_S = 0.1  # longest sleep: how late a new connection may be noticed
GRACE_S = 3.0  # how long `flush` waits for a broker that is away


class Pump:
    """Runs from `start` to `close`; `publisher` is there from the beginning."""

    def __init__(self, outbox: Outbox, topics: StationTopics, settings: OutboxSettings, mqtt: MqttSettings) -> None:
        """Begin to connect.

        Args:
            outbox: where messages wait; may be appended to from other threads.
            topics: the station.
            settings: the order of sending.
            mqtt: the broker; its window bounds what a kill repeats.

        Raises:
            SettingsError: a certificate, key or password file cannot be used.
        """
        self.heartbeat = Heartbeat()
        self._outbox = outbox
        self._topics = topics
        self._settings = settings
        self._window = mqtt.window
        self._publish_last = mqtt.publish_last
        self._answers: queue.SimpleQueue[tuple[Sent, int]] = queue.SimpleQueue()  # tickets and reason codes
        self._awake = threading.Event()
        self._closing = threading.Event()
        self._close_by_s = 0.0

        self._queue = self._new_queue()  # the pump's thread only, as all of these
        self._settlement = Settlement(outbox, mqtt.window)
        self._link_number = 0
        self._sent: set[Sent] = set()
        self._gaps = Gaps(outbox, topics)
        self._refused_topics: set[str] = set()
        self._newest_row = 0  # of the verdicts that the broker has
        self._last: Message | None = None  # the newest one, to be said again for late joiners

        self._on_delivered: Callable[[int], None] = _ignore
        self._delivered = 0  # read by other threads
        self._reported = (monotonic(), 0)

        self.publisher = MqttPublisher(mqtt, topics)
        self._thread = threading.Thread(target=self._run, name="pump", daemon=True)

    def start(self, on_delivered: Callable[[int], None]) -> None:
        """Begin to send; `on_delivered` is told the row of every message that the broker has, on the pump's thread."""
        self._on_delivered = on_delivered
        self._thread.start()

    @property
    def alive(self) -> bool:
        """The thread is running."""
        return self._thread.is_alive()

    def wake(self) -> None:
        """There is something new in the outbox."""
        self._awake.set()

    def report(self) -> Values:
        """Counters, and the rate since the last call."""
        now_s, delivered = monotonic(), self._delivered
        (before_s, before), self._reported = self._reported, (now_s, delivered)
        return {
            "pump_delivered": delivered,
            "pump_buried": self._settlement.buried,
            "pump_in_flight": len(self._sent),
            "pump_rate": round((delivered - before) / max(now_s - before_s, 1e-9), 1),
        }

    def flush(self, timeout_s: float) -> bool:
        """Wait until nothing waits any more. False: `timeout_s` seconds were not enough, or the broker is away."""
        deadline_s = monotonic() + timeout_s
        back_by_s = monotonic() + GRACE_S
        while self._waiting():
            now_s = monotonic()
            if self.publisher.link is not None:
                back_by_s = now_s + GRACE_S
            if now_s >= min(deadline_s, back_by_s):
                return False
            sleep(0.02)
        return True

    def close(self, timeout_s: float) -> None:
        """Send nothing more, and wait up to `timeout_s` seconds for the answers that are due. May be called twice."""
        if not self._closing.is_set():
            self._close_by_s = monotonic() + timeout_s
            self._closing.set()
            self._awake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s + 2 * RETRY_S)

    def _waiting(self) -> bool:
        try:
            pending = self._outbox.statistics().pending
        except OutboxError:
            return True
        return pending > self._gaps.refused or bool(self._sent)

    # The network thread.

    def _take_answer(self, sent: Sent, reason_code: int) -> None:
        self._answers.put((sent, reason_code))
        self._awake.set()

    # The pump's thread.

    def _run(self) -> None:
        while not self._ended():
            self.heartbeat.beat()
            self._awake.clear()
            try:
                self._work()
            except OutboxError as error:
                self._settlement.complain(str(error))
                self._awake.wait(RETRY_S)
            except Exception:
                log.exception("a fault of ours: the outbox is read from its beginning again")
                self._queue, self._link_number = self._new_queue(), 0
                self._closing.wait(RETRY_S)
        self._collect()
        self._settlement.settle()

    def _ended(self) -> bool:
        if not self._closing.is_set():
            return False
        return not self._sent or self.publisher.link is None or monotonic() >= self._close_by_s

    def _work(self) -> None:
        """Answers, then messages, then sleep until there is something to do.

        Raises:
            OutboxError: the disk refuses.
        """
        self._collect()
        self._settlement.settle_when_due()
        while not self._closing.is_set() and self._has_room() and self._send_next():
            self.heartbeat.beat()
            self._collect()
            self._settlement.settle_when_due()
        self._repeat_newest()
        self._awake.wait(self._patience_s())

    def _has_room(self) -> bool:
        return len(self._sent) + self._settlement.blocking < self._window

    def _patience_s(self) -> float:
        return min(TICK_S, self._settlement.patience_s)

    # What came back.

    def _collect(self) -> None:
        while True:
            try:
                sent, reason_code = self._answers.get_nowait()
            except queue.Empty:
                return
            self._sent.discard(sent)
            if reason_code < FAILURE:
                self._accept(sent)
            else:
                self._refuse(sent, reason_code)

    def _accept(self, sent: Sent) -> None:
        self._delivered += 1
        self._settlement.accept(sent)
        if sent.row_id:
            self._on_delivered(sent.row_id)
            if sent.is_verdict and sent.row_id > self._newest_row:
                self._newest_row, self._last = sent.row_id, sent.message

    def _refuse(self, sent: Sent, reason_code: int) -> None:
        if reason_code not in OF_ONE_MESSAGE:
            self._refused_topics.add(sent.message.topic)
        if sent.row_id:
            self._settlement.refuse(sent, reason_code)
        else:
            self._gaps.refused += 1

    def _repeat_newest(self) -> None:
        """For late joiners: after the verdict itself, and not for every one of a backlog."""
        if self._last is not None and self._publish_last:
            self.publisher.send(last_message(self._topics, self._last), 0)
        self._last = None

    # What goes out.

    def _send_next(self) -> bool:
        """Hand over one message. False: there is none, or the broker takes none now."""
        link = self.publisher.link
        if link is None:
            return False
        if link.number != self._link_number:
            self._begin_connection()
            self._link_number = link.number
        if (explanation := self._gaps.next()) is not None:  # before anything else is sent
            taken = self._send(explanation)
            if taken:
                self._gaps.take()
            return taken
        turn = self._queue.next()
        if turn is None:
            return False
        message = self._prepare(turn, link)
        if not self._send(Sent(message, row_id=turn.entry.row_id, is_verdict=turn.entry.kind is Kind.VERDICT)):
            return False
        self._settlement.outstanding.add(turn.entry.row_id)
        self._queue.take(turn)
        return True

    def _begin_connection(self) -> None:
        self._queue.begin_connection(self._settlement.outstanding)
        self._refused_topics.clear()
        self._gaps.begin_connection({sent.tombstone_id for sent in self._sent} | self._settlement.stones)

    def _send(self, sent: Sent) -> bool:
        # Entered before it goes: the answer may come at once.
        self._sent.add(sent)
        taken = self.publisher.send(sent.message, TICK_S, functools.partial(self._take_answer, sent))
        if not taken:
            self._sent.discard(sent)
        return taken

    def _prepare(self, turn: Turn, link: Link) -> Message:
        entry, message = turn.entry, turn.entry.message
        is_late = turn.is_backlog or entry.late
        if entry.kind is Kind.CROP and is_late:
            return dataclasses.replace(message, expiry_s=self._settings.crop_expiry_s)
        if entry.kind is not Kind.VERDICT:
            return message
        if announces_crop(message) and not self._crop_comes(turn, link):
            message = amend(message, crop_sha256="")
        return amend(message, backlog=1) if is_late else message

    def _crop_comes(self, turn: Turn, link: Link) -> bool:
        """The picture that a verdict announces is behind it, and the broker takes it as far as we know."""
        crop = self._queue.following(turn)
        if crop is None or crop.kind is not Kind.CROP or (crop.epoch, crop.seq) != (turn.entry.epoch, turn.entry.seq):
            return False
        message = crop.message
        fits = packet_bytes(message) <= link.max_packet_bytes
        return fits and message.topic == self._topics.crop(0) and message.topic not in self._refused_topics

    def _new_queue(self) -> SendQueue:
        return SendQueue(self._outbox, self._settings.order, self._settings.backlog_share)


def _ignore(row_id: int) -> None:
    del row_id
