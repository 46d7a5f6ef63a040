"""What a station says and hears on its connections, one after the other, on the network thread alone."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from time import monotonic

from paho.mqtt.subscribeoptions import SubscribeOptions

from edge.errors import SettingsError
from edge.protocol.commands import Request
from edge.protocol.messages import status_message
from edge.protocol.topics import StationTopics, Status
from edge.publishers.mqtt.connection import Connection
from edge.publishers.mqtt.events import Connack, Disconnected, Event, Introduction, Puback, Received, Suback
from edge.publishers.mqtt.reasons import (
    FAILURE,
    FINAL,
    IMPLEMENTATION_SPECIFIC_ERROR,
    PACKET_TOO_LARGE,
    RETAIN_NOT_SUPPORTED,
)
from edge.publishers.mqtt.reconnect import BackOff, ConnectionThread
from edge.publishers.mqtt.reporter import AnswerReporter, Reporter
from edge.publishers.mqtt.traffic import Traffic, tell
from edge.publishers.mqtt.window import Held
from edge.settings.sections import MqttSettings

# Nothing of our own, and nothing that was said before we listened: a command holds for its moment.
_COMMANDS = SubscribeOptions(
    qos=1, noLocal=True, retainAsPublished=True, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND
)

Listener = tuple[str, Callable[[Request], None]]  # topic filter, and who is told


def client_id(settings: MqttSettings, topics: StationTopics) -> str:
    """The station's at its broker."""
    return settings.client_id or f"patchline-{topics.site}-{topics.line}-{topics.name}"


class StationSpeaker:
    """See `reconnect.Speaker`."""

    packets = 1

    def __init__(
        self,
        settings: MqttSettings,
        topics: StationTopics,
        traffic: Traffic,
        thread: ConnectionThread,
        log: logging.Logger,
    ) -> None:
        """Nothing is said yet.

        Args:
            settings: the broker.
            topics: the station.
            traffic: what there is to send.
            thread: that this runs on; tells when to close.
            log: of the station's connection.
        """
        self.listener: Listener | None = None  # set from any thread
        self.reporter = Reporter(settings, client_id(settings, topics), log)
        self._answers = AnswerReporter(self.reporter.address, log)
        self._settings = settings
        self._topics = topics
        self._traffic = traffic
        self._thread = thread
        self._retain = True  # the broker keeps retained messages, as far as we know
        self._retains = True  # on this connection
        self._state = ""  # of this connection, for people; "": the broker has not accepted us
        self._useless = False
        self._leaving = False
        self._said_stopped = False
        self._listens_to: Listener | None = None  # on this connection
        self._back_off = BackOff()  # after temporary refusals
        self._resume_at_s = 0.0  # monotonic: nothing is sent before it

    def connect(self) -> Connection:
        """Say who we are, with `offline` as the will."""
        will = status_message(self._topics, Status.OFFLINE)
        introduction = Introduction(
            client_id(self._settings, self._topics),
            # A session would keep our unanswered messages, but we keep them ourselves: it always starts clean.
            will=dataclasses.replace(will, retain=self._retain),
            session_expiry_s=self._settings.session_expiry_s,
        )
        return Connection(self._settings, introduction, self._thread.wakeup.receiver)

    def take(self, events: Sequence[Event], connection: Connection) -> None:
        """In the order in which they happened."""
        for event in events:
            match event:
                case Connack():
                    self._greet(event, connection)
                case Puback():
                    self._take_answer(event)
                case Received():
                    self._hear(event)
                case Suback(reasons=reasons):
                    for reason in reasons:
                        self._answers.report_answer("our subscription to commands", reason)
                case Disconnected():
                    self._part(event)

    def work(self, connection: Connection) -> bool:
        """Say what is due. False: another connection is better, or none."""
        if self._useless or self._is_owed_for_too_long():
            return False
        if self._thread.closing and not self._finish(connection):
            return False
        if self._state:
            self.reporter.work(self._state)
            self._subscribe(connection)
            self._send(connection)
            self._send_unacknowledged(connection)
        return True

    def patience_s(self) -> float:
        """Not beyond the end of a pause or of closing."""
        patience_s = self._thread.patience_s()
        pause_s = self._resume_at_s - monotonic()
        return min(patience_s, pause_s) if pause_s > 0 else patience_s

    def part(self) -> None:
        """The broker is away."""
        self._state, self._useless, self._listens_to = "", False, None
        self.reporter.end_connection()
        culprit = self._traffic.disconnect()
        if culprit is not None:
            self._answers.report_culprit(culprit.message.topic, culprit.size, culprit.strikes)
            tell(culprit, IMPLEMENTATION_SPECIFIC_ERROR)

    def complain(self, error: SettingsError | OSError | ValueError) -> None:
        """There is no connection."""
        self.reporter.complain(error)

    # How a connection begins and ends.

    def _greet(self, connack: Connack, connection: Connection) -> None:
        if not self.reporter.greet(connack):
            self._retain = self._retain and connack.reason.value != RETAIN_NOT_SUPPORTED
            self._useless = True
            connection.disconnect()
            return
        self._retains = self._retain and connack.retains
        self._resume_at_s = 0.0
        self._answers.begin_connection()
        self._traffic.connect(connack, status_message(self._topics, Status.ONLINE))
        window = min(self._settings.window, connack.receive_maximum)
        self._state = f"connected; window {window}, packets up to {connack.max_packet_bytes} bytes"

    def _part(self, end: Disconnected) -> None:
        if self._leaving:
            self.reporter.say(logging.INFO, "disconnected")
        elif not self._useless:
            self.reporter.part(end)

    def _is_owed_for_too_long(self) -> bool:
        """The broker is there, and may answer pings, but not a message: it is asked again, on another connection."""
        owed_s = self._traffic.owed_s(monotonic())
        if owed_s <= self._settings.answer_timeout_s:
            return False
        oldest = self._traffic.take_back()
        self.reporter.say(
            logging.WARNING,
            f"no answer to {oldest.message.topic} for {owed_s:.0f} s: connecting again; is the broker's disk full, "
            "or the network too slow for mqtt.answer_timeout_s?",
        )
        return True

    def _finish(self, connection: Connection) -> bool:
        """One step of closing. False: there is nothing more to wait for."""
        if not self._state or self._thread.left_s <= 0:
            return False
        if self._traffic.held:
            return True
        if not self._said_stopped:
            self._said_stopped = True
            self._traffic.announce(status_message(self._topics, Status.STOPPED))
            return True
        self._leaving = True
        connection.disconnect()
        return True

    # Commands.

    def _subscribe(self, connection: Connection) -> None:
        """Once for each connection, as soon as somebody listens."""
        listener = self.listener
        if listener is not None and listener is not self._listens_to:
            self._listens_to = listener
            connection.subscribe([listener[0]], _COMMANDS)

    def _hear(self, received: Received) -> None:
        if (listener := self.listener) is not None:
            request = Request(
                topic=received.topic,
                payload=received.payload,
                retained=received.retained,
                response_topic=received.response_topic,
                correlation=received.correlation,
                received_s=received.received_monotonic_s,
            )
            listener[1](request)

    # Messages and their answers.

    def _send(self, connection: Connection) -> None:
        """Hand over what the window allows."""
        limit = link.max_packet_bytes if (link := self._traffic.link) is not None else 0
        while monotonic() >= self._resume_at_s and (held := self._traffic.next()) is not None:
            message = held.message
            if held.size <= limit:
                held.packet_id = connection.publish(message, retain=message.retain and self._retains)
            else:
                self._answers.report_oversize(message.topic, held.size, limit)
                self._traffic.settle(held, PACKET_TOO_LARGE, "oversize")

    def _send_unacknowledged(self, connection: Connection) -> None:
        while (message := self._traffic.next_unacknowledged(congested=connection.congested)) is not None:
            connection.publish(message, retain=message.retain and self._retains)

    def _take_answer(self, answer: Puback) -> None:
        held = self._traffic.answered(answer.packet_id)
        if held is None:
            return  # a QoS 0 message was written
        code = answer.reason.value
        # The topics of answers are chosen by others: however many there are, they are one to the log.
        is_reply = bool(held.message.correlation)
        self._answers.report_answer("answers to commands" if is_reply else held.message.topic, answer.reason)
        if code < FAILURE:
            self._back_off.reset()
            self._traffic.settle(held, code, "acknowledged")
        elif code in FINAL or held.announcement:
            self._traffic.settle(held, code, "rejected")
        else:
            self._retry_later(held)

    def _retry_later(self, held: Held) -> None:
        """Nothing else is sent meanwhile, so that the order changes least."""
        self._resume_at_s = monotonic() + self._back_off.next_s()
        self._traffic.retry(held)
