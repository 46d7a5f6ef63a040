"""Publishing over MQTT 5 at QoS 1: window, answers, will, reconnecting.

One thread holds one connection after the other. Messages are taken only while the broker is there and the
window has room, so nothing piles up here; what was taken is kept until the broker answers, over any number of
connections. Everything shared with the callers is guarded by one condition, never held while paho runs.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from time import monotonic
from types import TracebackType
from typing import Self

from edge.protocol.commands import Request
from edge.protocol.messages import status_message
from edge.protocol.topics import StationTopics, Status
from edge.publishers.base import Receipt
from edge.publishers.mqtt.connection import (
    FAREWELL_S,
    PROTOCOL_MAX_PACKET_BYTES,
    Acknowledgement,
    Connection,
    Event,
    Goodbye,
    Subscribed,
    Violation,
    Welcome,
    packet_bytes,
)
from edge.publishers.mqtt.credentials import read_password, tls_context
from edge.publishers.mqtt.reasons import (
    FAILURE,
    FINAL,
    IMPLEMENTATION_SPECIFIC_ERROR,
    PACKET_TOO_LARGE,
    RETAIN_NOT_SUPPORTED,
    Reporter,
    name_reason,
)
from edge.publishers.mqtt.reconnect import FIRST_DELAY_S, LONGEST_DELAY_S, Wakeup, jittered, keep_connected
from edge.publishers.mqtt.window import Held, Window
from edge.records import Message
from edge.settings.sections import MqttSettings

log = logging.getLogger("patchline.mqtt")

TICK_S = 0.5  # how late the keep-alive may be noticed
CLOSE_TIMEOUT_S = 5.0
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


class MqttPublisher:
    """Publishes for one station; says `online`, `stopped`, or by its will `offline`, on `/status`.

    It connects in the background and keeps trying for ever, whatever the broker says. `send` may be called
    from any thread.
    """

    def __init__(
        self,
        settings: MqttSettings,
        topics: StationTopics,
        on_receipt: Callable[[Receipt], None] | None = None,
    ) -> None:
        """Check the files that `settings` names and begin to connect.

        Args:
            settings: the broker.
            topics: the station.
            on_receipt: told what became of every QoS 1 message that `send` took. Called on the network
                thread: it must only put the receipt somewhere, without waiting.

        Raises:
            SettingsError: a certificate, key or password file cannot be used.
        """
        read_password(settings)
        tls_context(settings)
        self._settings = settings
        self._topics = topics
        self._on_receipt = on_receipt
        self._address = f"{settings.host}:{settings.port}"

        self._changed = threading.Condition()  # guards these six
        self._listener: tuple[str, Callable[[Request], None]] | None = None
        self._window = Window(settings.window)
        self._unacknowledged: deque[Message] = deque()  # QoS 0
        self._online = False
        self._link = Link(0, PROTOCOL_MAX_PACKET_BYTES)  # the present connection, or the last one
        self._counters = MqttCounters()

        self._reporter = Reporter(self._address)  # network thread only, as all of these
        self._retain = True
        self._resume_at_s = 0.0  # monotonic: after a temporary refusal nothing is sent before it
        self._retry_delay_s = FIRST_DELAY_S
        self._said_stopped = False
        self._subscribed_on = 0  # number of a connection

        self._closing = threading.Event()
        self._close_by_s = 0.0
        self._wakeup = Wakeup()
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """The network thread is running; False after `close`."""
        return self._thread.is_alive()

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

    def report(self) -> dict[str, int]:
        """The counters, as `/health` and the log show them."""
        return {f"mqtt_{name}": int(value) for name, value in asdict(self.counters).items()}

    def send(self, message: Message, timeout_s: float) -> bool:
        """Take `message`; False: the broker was away or the window full for `timeout_s` seconds.

        A QoS 0 message is always taken, and dropped if it cannot go at once.
        """
        if message.qos == 0:
            self._take_unacknowledged(message)
        elif not self._take(message, timeout_s):
            return False
        self._wakeup.send()
        return True

    def listen(self, topic_filter: str, on_request: Callable[[Request], None]) -> None:
        """From now on, on every connection, hand over what comes on `topic_filter`; nothing that was sent before.

        `on_request` is called on the network thread: it must only put the request somewhere, without waiting.
        """
        with self._changed:
            self._listener = topic_filter, on_request
        self._wakeup.send()

    def reply(self, message: Message) -> bool:
        """Take the answer to a command, for the present connection alone. False: it cannot go, and is counted."""
        with self._changed:
            taken = self._online and not self._closing.is_set() and self._window.announced < MAX_REPLIES
            if taken:
                self._window.announce(message)
            else:
                self._count(unreplied=1)
        self._wakeup.send()
        return taken

    def flush(self, timeout_s: float) -> bool:
        """Wait until every message has its receipt. False: `timeout_s` seconds were not enough."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._window and not self._unacknowledged, timeout_s)

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Deliver what was taken, say `stopped` and disconnect. May be called twice.

        After `timeout_s` seconds the connection is cut instead, so that the broker says `offline`.
        """
        if not self._closing.is_set():
            self._close_by_s = monotonic() + timeout_s
            self._closing.set()
            self._wakeup.send()
        self._thread.join(timeout_s + FAREWELL_S + 2 * TICK_S)
        if self._thread.is_alive():
            log.warning("%s: still connecting; left behind", self._address)
            return
        self._wakeup.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # The callers' threads.

    def _take(self, message: Message, timeout_s: float) -> bool:
        with self._changed:
            if not self._changed.wait_for(self._has_room, timeout_s):
                return False
            self._window.add(message)
        return True

    def _has_room(self) -> bool:
        return self._online and not self._window.full and not self._closing.is_set()

    def _take_unacknowledged(self, message: Message) -> None:
        with self._changed:
            if not self._online:
                self._count(dropped=1)
                return
            if len(self._unacknowledged) == MAX_UNACKNOWLEDGED:
                self._unacknowledged.popleft()
                self._count(dropped=1)
            self._unacknowledged.append(message)

    # The network thread.

    def _run(self) -> None:
        keep_connected(
            self._hold_connection, self._go_offline, self._reporter.say, self._closing, address=self._address, log=log
        )
        if self._window:
            log.warning("%s: closed with %d messages unacknowledged", self._address, len(self._window))

    def _hold_connection(self) -> None:
        """Connect, and stay until the connection ends.

        Raises:
            SettingsError: a certificate, key or password file cannot be used any more.
            OSError: nobody answers, or not whom we trust.
            ValueError: the host is no valid name.
        """
        connection = Connection(self._settings, self._topics, self._wakeup.receiver, retain=self._retain)
        try:
            while True:
                is_open = connection.turn(self._patience_s())
                for event in connection.take_events():
                    self._handle(event)
                if not is_open or self._is_owed_for_too_long():
                    return
                if self._closing.is_set() and not self._finish(connection):
                    return
                self._subscribe(connection)
                self._pump(connection)
                self._pump_unacknowledged(connection)
        finally:
            connection.cut()

    def _patience_s(self) -> float:
        """How long to wait for the network: not beyond the end of a pause or of closing."""
        now_s = monotonic()
        patience_s = TICK_S
        if self._closing.is_set():
            patience_s = min(patience_s, max(0.0, self._close_by_s - now_s))
        if self._resume_at_s > now_s:
            patience_s = min(patience_s, self._resume_at_s - now_s)
        return patience_s

    def _handle(self, event: Event) -> None:
        match event:
            case Welcome():
                self._greet(event)
            case Acknowledgement():
                self._take_answer(event)
            case Goodbye():
                self._part(event)
            case Violation():
                self._reporter.say(logging.ERROR, f"the broker breaks the protocol: {event.what}; connecting again")
            case Subscribed():
                self._reporter.report_answer("our subscription to commands", event.reason)
            case Request():
                self._hear(event)

    def _subscribe(self, connection: Connection) -> None:
        """Once for each connection, as soon as somebody listens."""
        with self._changed:
            listener, number = self._listener, self._link.number
        if listener is not None and self._online and number != self._subscribed_on:
            self._subscribed_on = number
            connection.subscribe(listener[0])

    def _hear(self, request: Request) -> None:
        with self._changed:
            listener = self._listener
        if listener is not None:
            listener[1](request)

    def _greet(self, welcome: Welcome) -> None:
        if welcome.reason.is_failure:
            self._retain = self._retain and welcome.reason.value != RETAIN_NOT_SUPPORTED
            self._reporter.say(
                logging.ERROR, f"refuses us: {name_reason(welcome.reason)}; check user, password and client id"
            )
            return
        self._resume_at_s = 0.0
        self._reporter.begin_connection()
        with self._changed:
            self._online = True
            self._link = Link(self._link.number + 1, welcome.max_packet_bytes)
            self._window.limit = min(self._settings.window, welcome.receive_maximum)
            self._window.announce(status_message(self._topics, Status.ONLINE))
            self._count(reconnects=int(self._link.number > 1))
            self._changed.notify_all()
        self._reporter.say(
            logging.INFO, f"connected; window {self._window.limit}, packets up to {welcome.max_packet_bytes} bytes"
        )

    def _part(self, goodbye: Goodbye) -> None:
        if not goodbye.welcomed:
            # TLS 1.3 lets a client believe that it is in before the broker has looked at its certificate.
            certificate = ", is mqtt.certificate_file of an authority that it trusts" if self._settings.tls else ""
            self._reporter.say(
                logging.WARNING,
                f"no answer to CONNECT: {goodbye.reason}; is it an MQTT 5 broker{certificate}, "
                "and are user and password right?",
            )
        elif goodbye.from_broker:
            self._reporter.say(logging.WARNING, f"the broker ended the connection: {name_reason(goodbye.reason)}")
        elif self._closing.is_set():
            self._reporter.say(logging.INFO, "disconnected")
        elif self._online:
            self._reporter.say(logging.WARNING, f"connection lost: {goodbye.reason}")

    def _take_answer(self, answer: Acknowledgement) -> None:
        with self._changed:
            held = self._window.answered(answer.packet_id)
        if held is None:
            return  # a QoS 0 message was written
        code = answer.reason.value
        # The topics of answers are chosen by others: however many there are, they are one to the log.
        is_reply = bool(held.message.correlation)
        self._reporter.report_answer("answers to commands" if is_reply else held.message.topic, answer.reason)
        if code < FAILURE:
            self._retry_delay_s = FIRST_DELAY_S
            self._settle(held, code, "acknowledged")
        elif code in FINAL or held.announcement:
            self._settle(held, code, "rejected")
        else:
            self._retry_later(held)

    def _is_owed_for_too_long(self) -> bool:
        """The broker is there, and may answer pings, but not a message: it is asked again, on another connection."""
        with self._changed:
            owed_s = self._window.owed_s(monotonic())
            if owed_s <= self._settings.answer_timeout_s:
                return False
            oldest = self._window.take_back()
        self._reporter.say(
            logging.WARNING,
            f"no answer to {oldest.message.topic} for {owed_s:.0f} s: connecting again; is the broker's disk full, "
            "or the network too slow for mqtt.answer_timeout_s?",
        )
        return True

    def _retry_later(self, held: Held) -> None:
        """Nothing else is sent meanwhile, so that the order changes least."""
        self._resume_at_s = monotonic() + jittered(self._retry_delay_s)
        self._retry_delay_s = min(2 * self._retry_delay_s, LONGEST_DELAY_S)
        with self._changed:
            self._window.put_back(held)
            self._count(retried=1)

    def _settle(self, held: Held, code: int, counter: str) -> None:
        with self._changed:
            self._window.settle(held)
            if not held.announcement:
                self._count(**{counter: 1})
            elif held.message.correlation:
                self._count(unreplied=int(code >= FAILURE))
            self._changed.notify_all()
        self._give_receipt(held, code)

    def _give_receipt(self, held: Held, code: int) -> None:
        if self._on_receipt is not None and not held.announcement:
            self._on_receipt(Receipt(held.message, code))

    def _pump(self, connection: Connection) -> None:
        """Hand over what the window allows."""
        while self._online and monotonic() >= self._resume_at_s:
            with self._changed:
                held = self._window.next()
            if held is None:
                return
            size = packet_bytes(held.message)
            if size <= self._link.max_packet_bytes:
                held.packet_id = connection.publish(held.message)
            else:
                self._reporter.report_oversize(held.message.topic, size, self._link.max_packet_bytes)
                self._settle(held, PACKET_TOO_LARGE, "oversize")

    def _pump_unacknowledged(self, connection: Connection) -> None:
        while self._online:
            with self._changed:
                if not self._unacknowledged:
                    self._changed.notify_all()
                    return
                message = self._unacknowledged.popleft()
                goes = not connection.congested and packet_bytes(message) <= self._link.max_packet_bytes
                self._count(dropped=int(not goes))
            if goes:
                connection.publish(message)

    def _finish(self, connection: Connection) -> bool:
        """One step of closing. False: there is nothing more to wait for."""
        if not self._online or monotonic() >= self._close_by_s:
            return False
        with self._changed:
            if self._window:
                return True
            if not self._said_stopped:
                self._said_stopped = True
                self._window.announce(status_message(self._topics, Status.STOPPED))
                return True
        connection.disconnect()
        return True

    def _go_offline(self) -> None:
        with self._changed:
            self._online = False
            culprit = self._window.end_connection()
            self._count(dropped=len(self._unacknowledged), rejected=int(culprit is not None))
            self._unacknowledged.clear()
            self._changed.notify_all()
        if culprit is not None:
            self._reporter.report_culprit(culprit.message.topic, packet_bytes(culprit.message), culprit.strikes)
            self._give_receipt(culprit, IMPLEMENTATION_SPECIFIC_ERROR)

    def _count(self, **increments: int) -> None:
        """Called with the lock held."""
        values = {name: getattr(self._counters, name) + number for name, number in increments.items()}
        self._counters = dataclasses.replace(self._counters, **values)
