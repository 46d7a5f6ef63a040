"""What an edge node says and hears on its connections, one after the other, on the network thread alone.

`Session` knows what is due; here it is said. MQTT 3.1.1, because every Sparkplug host and broker speaks it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from time import monotonic

from paho.mqtt.enums import MQTTProtocolVersion

from edge.errors import SettingsError
from edge.files.atomic import write_file
from edge.publishers.mqtt.connection import Connection
from edge.publishers.mqtt.events import Connack, Disconnected, Event, Introduction, Received, Suback
from edge.publishers.mqtt.reconnect import ConnectionThread
from edge.publishers.mqtt.reporter import Reporter
from edge.publishers.sparkplug.session import Moment, Session
from edge.publishers.sparkplug.topics import SparkplugTopics
from edge.settings.sections import MqttSettings

CONFIRM_INTERVAL_S = 1.0  # between two questions whether the broker has read what was sent

log = logging.getLogger("patchline.sparkplug")


class EdgeNodeSpeaker:
    """See `mqtt.reconnect.Speaker`. The session is guarded by `changed`, never held while paho runs."""

    packets = 1

    def __init__(
        self,
        broker: MqttSettings,
        client_id: str,
        topics: SparkplugTopics,
        *,
        session: Session,
        changed: threading.Condition,
        thread: ConnectionThread,
        bdseq_path: Path | None,
    ) -> None:
        """Nothing is said yet.

        Args:
            broker: where.
            client_id: unique at the broker.
            topics: who speaks.
            session: what there is to say.
            changed: guards it; notified when verdicts are confirmed.
            thread: that this runs on; tells when to close.
            bdseq_path: where the connections are numbered over restarts; None: nowhere.
        """
        self.reporter = Reporter(broker, client_id, log)
        self.connections = 0
        self._broker = broker
        self._client_id = client_id
        self._topics = topics
        self._session = session
        self._changed = changed
        self._thread = thread
        self._bdseq_path = bdseq_path
        self._question: tuple[int, int] | None = None  # packet id, verdicts
        self._ask_again_at_s = 0.0
        self._open = False  # subscribed
        self._leaving = False  # DISCONNECT was sent
        self._useless = False

    def connect(self) -> Connection:
        """With the death as the will."""
        with self._changed:
            will = self._session.will(now())
        introduction = Introduction(self._client_id, will=will, protocol=MQTTProtocolVersion.MQTTv311)
        connection = Connection(self._broker, introduction, self._thread.wakeup.receiver)
        self._count_connection()
        return connection

    def take(self, events: Sequence[Event], connection: Connection) -> None:
        """In the order in which they happened."""
        for event in events:
            match event:
                case Connack():
                    self._greet(event, connection)
                case Suback():
                    self._take_answer(event)
                case Received():
                    with self._changed:
                        self._session.hear(event.topic, event.payload, retained=event.retained)
                case Disconnected():
                    self._part(event)

    def work(self, connection: Connection) -> bool:
        """Say what is due. False: this connection is of no use."""
        if not self._useless and not self._leaving:
            self._publish(connection)
            self._ask(connection)
            self._report_state()
            if self._must_leave():
                self._leave(connection)
        return not self._useless

    def patience_s(self) -> float:
        """Not beyond the end of closing."""
        return self._thread.patience_s()

    def part(self) -> None:
        """What is not confirmed becomes history."""
        self._question = None
        self._ask_again_at_s = 0.0
        self._open = self._leaving = self._useless = False
        self.reporter.end_connection()
        with self._changed:
            self._session.close()
            self._changed.notify_all()

    def complain(self, error: SettingsError | OSError | ValueError) -> None:
        """There is no connection."""
        self.reporter.complain(error)

    def _count_connection(self) -> None:
        with self._changed:
            self._session.connect()
            self.connections += 1
            number = self._session.next_bdseq
        if self._bdseq_path is not None:
            try:
                write_file(self._bdseq_path, f"{number}\n".encode("ascii"))
            except OSError as error:
                log.warning("%s: cannot be written (%s): bdSeq may repeat", self._bdseq_path, error.strerror)

    def _greet(self, connack: Connack, connection: Connection) -> None:
        if self.reporter.greet(connack):
            connection.subscribe(self._topics.subscriptions)
        else:
            self._useless = True

    def _part(self, end: Disconnected) -> None:
        if self._leaving:
            self.reporter.say(logging.INFO, "disconnected")
        elif not self._useless:
            self.reporter.part(end)

    def _take_answer(self, answer: Suback) -> None:
        if answer.refused:
            topics = " and ".join(self._topics.subscriptions)
            self.reporter.say(logging.ERROR, f"refuses a subscription: allow {self._client_id} to read {topics}")
            self._useless = True
        elif not self._open:
            self._open = True
            with self._changed:
                self._session.open()
        elif self._question is not None and answer.packet_id == self._question[0]:
            with self._changed:
                self._session.confirm(self._question[1])
                self._changed.notify_all()
            self._question = None

    def _publish(self, connection: Connection) -> None:
        """Publish what is due, as fast as the network takes it."""
        while not connection.congested:
            with self._changed:
                messages = self._session.due(now())
            if not messages:
                return
            for message in messages:
                connection.publish(message, retain=False)

    def _ask(self, connection: Connection) -> None:
        """Subscribe to the commands once more: the answer confirms the verdicts that were sent before it."""
        if self._question is not None or monotonic() < self._ask_again_at_s:
            return
        with self._changed:
            count = self._session.unconfirmed
        if not count:
            return
        packet_id = connection.subscribe((self._topics.ncmd,))
        if packet_id is not None:
            self._question = (packet_id, count)
        self._ask_again_at_s = 0.0 if self._thread.closing else monotonic() + CONFIRM_INTERVAL_S

    def _report_state(self) -> None:
        if self._open:
            with self._changed:
                born = self._session.born
            waiting = f"waits for primary host {self._topics.primary_host}"
            self.reporter.work(f"online as {self._topics.nbirth}" if born else waiting)

    def _must_leave(self) -> bool:
        with self._changed:
            host_left, busy, kept = self._session.must_leave, self._session.busy, self._session.kept
        if not self._thread.closing or host_left:
            return host_left
        hopeful = busy or (kept > 0 and not self._open)
        return not hopeful or self._thread.left_s <= 0

    def _leave(self, connection: Connection) -> None:
        """A death, then DISCONNECT; without a session no word at all: the broker then publishes the death."""
        if not self._open:
            self._useless = True
            return
        self._leaving = True
        with self._changed:
            messages = self._session.farewell(now())
        for message in messages:
            connection.publish(message, retain=False)
        connection.disconnect()


def now() -> Moment:
    """By both clocks."""
    return Moment(wall_ms=round(time.time() * 1000), monotonic_s=monotonic())
