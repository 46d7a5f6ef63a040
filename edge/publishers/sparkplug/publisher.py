"""The Sparkplug publisher: one thread that holds one connection after the other and says what `Session` has due.

Verdicts are taken at any time and kept in memory until the broker has them, over any number of connections. The
session is guarded by one condition, never held while paho runs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Self

from edge import __version__
from edge.files.atomic import write_file
from edge.protocol.messages import verdict_payload
from edge.publishers.mqtt.credentials import read_password, tls_context
from edge.publishers.mqtt.reconnect import Wakeup, keep_connected
from edge.publishers.sparkplug.connection import Connection, Event, Goodbye, Heard, Subscribed, Welcome
from edge.publishers.sparkplug.schema import payload_class
from edge.publishers.sparkplug.session import NUMBERS, Moment, Session
from edge.publishers.sparkplug.topics import SparkplugTopics
from edge.records import Scalar, Verdict
from edge.settings.sections import MqttSettings, SparkplugSettings, StationSettings

log = logging.getLogger("patchline.sparkplug")

TICK_S = 0.5  # how late the keep-alive, and a birth that had to wait, may be noticed
CONFIRM_INTERVAL_S = 1.0  # between two questions whether the broker has read what was sent
CLOSE_TIMEOUT_S = 5.0
BDSEQ_FILE = "sparkplug-bdseq"


class SparkplugPublisher:
    """Publishes for one station as one edge node with one device.

    Connects in the background from `start` on and keeps trying for ever. The other methods may be called from any
    thread, before `start` too.
    """

    def __init__(
        self,
        settings: SparkplugSettings,
        mqtt: MqttSettings,
        station: StationSettings,
        *,
        state_dir: Path | None = None,
    ) -> None:
        """Check what the settings name; connect to nobody yet.

        Args:
            settings: ids, primary host, bounds.
            mqtt: the broker, unless `settings.mqtt` names another.
            station: who speaks.
            state_dir: where the connections are numbered over restarts; none: every start begins at 0.

        Raises:
            SettingsError: protobuf is not installed, or a certificate, key or password file cannot be used.
        """
        payload_class()
        self._mqtt = settings.mqtt or mqtt
        read_password(self._mqtt)
        tls_context(self._mqtt)
        self._station = station.name
        self._topics = sparkplug_topics(settings, station)
        self._client_id = _client_id(settings, mqtt, station)
        self._address = f"{self._mqtt.host}:{self._mqtt.port}"
        self._bdseq_path = None if state_dir is None else state_dir / BDSEQ_FILE

        self._changed = threading.Condition()  # guards these
        self._session = Session(
            self._topics,
            version=__version__,
            capacity=settings.capacity,
            rebirth_interval_s=settings.rebirth_interval_s,
            next_bdseq=_read_bdseq(self._bdseq_path),
        )
        self._refused = 0
        self._connections = 0

        self._question: tuple[int, int] | None = None  # network thread only, as all of these: packet id, verdicts
        self._ask_again_at_s = 0.0
        self._open = False  # subscribed
        self._leaving = False  # DISCONNECT was sent
        self._given_up = False  # this connection is of no use
        self._said = ""

        self._closing = threading.Event()
        self._close_by_s = 0.0
        self._wakeup = Wakeup()
        self._thread = threading.Thread(target=self._run, name="sparkplug", daemon=True)

    @property
    def alive(self) -> bool:
        """The network thread is running; False before `start` and after `close`."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def publish(self, verdict: Verdict, epoch: int, seq: int, is_backlog: bool = False) -> bool:
        """Take `verdict`; at once, whatever the network does. False: `settings.capacity` are kept already.

        Args:
            verdict: one frame's answer; its crops are left out.
            epoch: grows when the numbering of `seq` begins anew.
            seq: counts the station's verdicts within the epoch.
            is_backlog: it waited elsewhere: to be published as history, never as the current value.
        """
        values = verdict_payload(self._station, verdict, epoch, seq, backlog=is_backlog)
        with self._changed:
            taken = not self._closing.is_set() and self._session.take(values, is_backlog=is_backlog)
            self._refused += int(not taken)
        self._wakeup.send()
        return taken

    def publish_health(self, values: Mapping[str, Scalar]) -> None:
        """Publish what changed of `values`, the flat keys of `/health`."""
        with self._changed:
            self._session.note_health(values, _now())
        self._wakeup.send()

    def set_device(self, *, present: bool) -> None:
        """Tell the hosts that the camera is away, or has come back."""
        with self._changed:
            self._session.set_device(present=present)
        self._wakeup.send()

    def report(self) -> dict[str, int]:
        """Counters, as `/health` and the log show them."""
        with self._changed:
            session, counters = self._session, self._session.counters
            return {
                "sparkplug_born": int(session.born),
                "sparkplug_kept": session.kept,
                "sparkplug_refused": self._refused,
                "sparkplug_sent": counters.sent,
                "sparkplug_historical": counters.historical,
                "sparkplug_births": counters.births,
                "sparkplug_ignored": counters.ignored,
                "sparkplug_reconnects": max(0, self._connections - 1),
            }

    def flush(self, timeout_s: float) -> bool:
        """Wait until the broker has every verdict. False: `timeout_s` seconds were not enough."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._session.kept, timeout_s)

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Send what can be sent, say that device and edge node are gone, and disconnect. May be called twice.

        After `timeout_s` seconds nothing more is waited for.
        """
        if not self._closing.is_set():
            self._close_by_s = monotonic() + timeout_s
            self._closing.set()
            self._wakeup.send()
        if self._thread.ident is not None:
            self._thread.join(timeout_s + 2 * TICK_S)
        if self._thread.is_alive():
            log.warning("%s: still connecting; left behind", self._address)
            return
        self._wakeup.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # The network thread.

    def _run(self) -> None:
        keep_connected(
            self._hold_connection, self._end_connection, self._say, self._closing, address=self._address, log=log
        )
        if self._session.kept:
            log.warning("%s: closed with %d verdicts that the broker does not have", self._address, self._session.kept)

    def _hold_connection(self) -> None:
        """Connect, and stay until the connection ends.

        Raises:
            SettingsError: a certificate, key or password file cannot be used any more.
            OSError: nobody answers, or not whom we trust.
            ValueError: the host is no valid name.
        """
        with self._changed:
            will = self._session.will(_now())
        connection = Connection(self._mqtt, self._client_id, will, self._wakeup.receiver)
        try:
            self._count_connection()
            is_open = True
            while is_open and not self._given_up:
                is_open = connection.turn(self._patience_s())
                for event in connection.take_events():
                    self._handle(event, connection)
                if is_open and not self._leaving:
                    self._work(connection)
        finally:
            connection.cut()

    def _work(self, connection: Connection) -> None:
        self._pump(connection)
        self._ask(connection)
        self._report_state()
        if self._must_leave():
            self._leave(connection)

    def _count_connection(self) -> None:
        with self._changed:
            self._session.connect()
            self._connections += 1
            number = self._session.next_bdseq
        if self._bdseq_path is not None:
            try:
                write_file(self._bdseq_path, f"{number}\n".encode("ascii"))
            except OSError as error:
                log.warning("%s: cannot be written (%s): bdSeq may repeat", self._bdseq_path, error.strerror)

    def _patience_s(self) -> float:
        return min(TICK_S, max(0.0, self._close_by_s - monotonic())) if self._closing.is_set() else TICK_S

    def _handle(self, event: Event, connection: Connection) -> None:
        match event:
            case Welcome():
                self._greet(event, connection)
            case Subscribed():
                self._take_answer(event)
            case Heard():
                with self._changed:
                    self._session.hear(event.topic, event.payload, retained=event.retained)
            case Goodbye():
                level = logging.INFO if self._leaving else logging.WARNING
                self._say(level, "disconnected" if self._leaving else f"connection lost: {event.reason}")

    def _greet(self, welcome: Welcome, connection: Connection) -> None:
        if welcome.reason.is_failure:
            self._say(logging.ERROR, f"refuses us: {welcome.reason}; check user, password and client id")
        else:
            connection.subscribe(self._topics.subscriptions)

    def _take_answer(self, answer: Subscribed) -> None:
        if answer.refused:
            topics = " and ".join(self._topics.subscriptions)
            self._say(logging.ERROR, f"refuses a subscription: allow {self._client_id} to read {topics}")
            self._given_up = True
        elif not self._open:
            self._open = True
            with self._changed:
                self._session.open()
        elif self._question is not None and answer.packet_id == self._question[0]:
            with self._changed:
                self._session.confirm(self._question[1])
                self._changed.notify_all()
            self._question = None

    def _pump(self, connection: Connection) -> None:
        """Publish what is due, as fast as the network takes it."""
        while not connection.congested:
            with self._changed:
                messages = self._session.due(_now())
            if not messages:
                return
            for message in messages:
                connection.publish(message)

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
        self._ask_again_at_s = 0.0 if self._closing.is_set() else monotonic() + CONFIRM_INTERVAL_S

    def _report_state(self) -> None:
        if self._open:
            with self._changed:
                born = self._session.born
            waiting = f"waits for primary host {self._topics.primary_host}"
            self._say(logging.INFO, f"online as {self._topics.nbirth}" if born else waiting)

    def _must_leave(self) -> bool:
        with self._changed:
            host_left, busy, kept = self._session.must_leave, self._session.busy, self._session.kept
        if not self._closing.is_set() or host_left:
            return host_left
        hopeful = busy or (kept > 0 and not self._open)
        return not hopeful or monotonic() >= self._close_by_s

    def _leave(self, connection: Connection) -> None:
        """A death, then DISCONNECT; without a session no word at all: the broker then publishes the death."""
        if not self._open:
            self._given_up = True
            return
        self._leaving = True
        with self._changed:
            messages = self._session.farewell(_now())
        for message in messages:
            connection.publish(message)
        connection.disconnect()

    def _end_connection(self) -> None:
        self._question = None
        self._ask_again_at_s = 0.0
        self._open = self._leaving = self._given_up = False
        with self._changed:
            self._session.close()
            self._changed.notify_all()

    def _say(self, level: int, state: str) -> None:
        """One line for each change."""
        if state != self._said:
            self._said = state
            log.log(level, "%s: %s", self._address, state)


def sparkplug_topics(settings: SparkplugSettings, station: StationSettings) -> SparkplugTopics:
    """The ids of `settings`, those left empty taken from `station`."""
    return SparkplugTopics(
        group=settings.group or station.site,
        edge_node=settings.edge_node or f"{station.line}-{station.name}",
        device=settings.device or station.name,
        primary_host=settings.primary_host,
    )


def _client_id(settings: SparkplugSettings, mqtt: MqttSettings, station: StationSettings) -> str:
    """Never that of the JSON connection, which the broker would end."""
    if settings.mqtt is not None and settings.mqtt.client_id:
        return settings.mqtt.client_id
    return f"{mqtt.client_id or f'patchline-{station.site}-{station.line}-{station.name}'}-sparkplug"


def _read_bdseq(path: Path | None) -> int:
    """The next connection's number; 0 where none was written, or not by us."""
    try:
        return 0 if path is None else int(path.read_text(encoding="ascii")) % NUMBERS
    except (OSError, ValueError):
        return 0


def _now() -> Moment:
    return Moment(wall_ms=round(time.time() * 1000), monotonic_s=monotonic())
