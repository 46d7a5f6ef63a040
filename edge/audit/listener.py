"""The subscriber: one session over any number of connections; the ledger has a message before the broker is told."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from paho.mqtt.reasoncodes import ReasonCode

from edge.audit.ledger import Expectation, Ledger
from edge.audit.messages import CROP_SUFFIX, SUFFIXES, Heard
from edge.audit.options import AuditOptions, Session
from edge.audit.report import Report, make_report
from edge.audit.store import LedgerFile
from edge.audit.view import View
from edge.errors import DeliveryError, SettingsError
from edge.publishers.mqtt import reasons
from edge.publishers.mqtt.connection import Connection
from edge.publishers.mqtt.events import Connack, Disconnected, Event, Introduction, Received, Suback
from edge.publishers.mqtt.reconnect import keep_connected
from edge.publishers.mqtt.reporter import STABLE_S
from edge.publishers.mqtt.words import explain, explain_silence, name_reason, with_advice
from edge.settings.tree import Settings
from edge.terminal import say

_TICK_S = 0.2  # longest wait for the network without a look at whether to stop
_MAX_PACKET_BYTES = 2 * 2**20  # crops have 1 MB at the most
_RECEIVE_MAXIMUM = 1000  # messages that the broker sends before it waits for us
_MOST_PACKETS = 500  # read at once, so that acknowledging and showing are not put off for ever
# What waiting does not mend.
_FINAL = frozenset(
    {
        reasons.UNSUPPORTED_PROTOCOL,
        reasons.CLIENT_ID_INVALID,
        reasons.BAD_PASSWORD,
        reasons.NOT_AUTHORIZED,
        reasons.BANNED,
        reasons.BAD_AUTHENTICATION_METHOD,
    }
)
_GRANTED_QOS_1 = 1


class Listener:
    """One run. Belongs to one thread."""

    packets = _MOST_PACKETS

    def __init__(
        self,
        settings: Settings,
        options: AuditOptions,
        store: LedgerFile | None,
        *,
        topic: str,
        session: Session,
        stop: threading.Event,
        view: View,
    ) -> None:
        expectation = Expectation(options.from_seq, options.until_seq, options.crops)
        suffixes = (*SUFFIXES, CROP_SUFFIX) if options.crops else SUFFIXES
        self._stop = stop
        self._view = view
        self._settings = settings.mqtt
        self._store = store
        self._session = session
        self._filters = tuple(f"{topic}/{suffix}" for suffix in suffixes)
        self._ledger = Ledger(expectation) if store is None else store.load(expectation)
        self._address = f"{settings.mqtt.host}:{settings.mqtt.port}"
        self._started = _now()
        self._ends_at_s = None if options.for_s is None else time.monotonic() + options.for_s
        self._welcomed_at_s: float | None = None  # monotonic; None: not yet in this run
        self._resumed_at_s: float | None = None  # wall clock; None: the connection began without a session
        self._useless = False  # this connection
        self._said = ""

    def listen(self) -> None:
        """Until it is over.

        Raises:
            DeliveryError: the broker refuses us for a reason that waiting does not mend.
            PatchlineError: the ledger cannot be written any more.
        """
        keep_connected(self, self)
        self._view(self._ledger)

    # When it is over: see `reconnect.Ending`.

    def is_set(self) -> bool:
        """Everything is there, the time is over, or somebody said so."""
        out_of_time = self._ends_at_s is not None and time.monotonic() >= self._ends_at_s
        return self._stop.is_set() or out_of_time or self._ledger.complete

    def wait(self, timeout: float) -> bool:
        """Up to so many seconds."""
        self._stop.wait(self._time_left(timeout))
        return self.is_set()

    def report(self) -> Report:
        """What the ledger says now."""
        return make_report(
            self._ledger,
            broker=self._address,
            filters=self._filters,
            client_id=self._session.client_id,
            started=self._started,
            ended=_now(),
        )

    # What is heard: see `reconnect.Speaker`.

    def connect(self) -> Connection:
        """Never a clean start: the session is looked for, and the broker says whether it was there."""
        introduction = Introduction(
            self._session.client_id,
            clean_start=False,
            session_expiry_s=self._session.expiry_s,
            manual_ack=True,
            max_packet_bytes=_MAX_PACKET_BYTES,
            receive_maximum=_RECEIVE_MAXIMUM,
        )
        return Connection(self._settings, introduction)

    def take(self, events: Sequence[Event], connection: Connection) -> None:
        """A message is acknowledged when it is on disk, and not when it was received."""
        received: list[Received] = []
        for event in events:
            match event:
                case Received():
                    self._ledger.take(_heard(event), self._resumed_at_s)
                    received.append(event)
                case Connack():
                    self._greet(event, connection)
                case Suback():
                    self._check_granted(event)
                case Disconnected():
                    self._part(event)
        if received and self._store is not None:
            self._store.commit(self._ledger)
        for message in received:
            connection.acknowledge(message)
        self._view(self._ledger)

    def work(self, connection: Connection) -> bool:
        """False: it is over, or this connection is of no use."""
        if self._useless:
            return False
        if self.is_set():
            connection.disconnect(self._session.expiry_s if self._session.lasting else 0)
            return False
        return True

    def patience_s(self) -> float:
        """Not beyond the end."""
        return self._time_left(_TICK_S)

    def part(self) -> None:
        """The broker is away."""
        self._useless = False

    def complain(self, error: SettingsError | OSError | ValueError) -> None:
        """There is no connection.

        Raises:
            DeliveryError: at the first one, and waiting does not mend it.
        """
        if isinstance(error, ssl.SSLCertVerificationError) and self._welcomed_at_s is None:
            raise DeliveryError(f"{self._address}: {explain(error)}; is mqtt.ca_file the right one?") from error
        self._say(f"cannot connect: {explain(error, tls=self._settings.tls)}")

    def _greet(self, connack: Connack, connection: Connection) -> None:
        if connack.reason.is_failure:
            self._refuse(connack.reason)
            return
        self._welcomed_at_s = time.monotonic()
        self._resumed_at_s = time.time() if connack.session_present else None
        if self._ledger.counts["connections"] and not connack.session_present:
            self._ledger.interrupt()
        self._ledger.counts["connections"] += 1
        if self._store is not None:
            self._store.commit(self._ledger)
        connection.subscribe(self._filters)
        kept = "the session was kept" if connack.session_present else "no session was kept"
        self._say(f"listening to {', '.join(self._filters)} ({kept})")

    def _check_granted(self, answer: Suback) -> None:
        for topic, reason in zip(self._filters, answer.reasons, strict=False):
            if reason.is_failure or reason.value < _GRANTED_QOS_1:
                raise DeliveryError(
                    f"{self._address}: {topic}: expected a subscription at QoS 1, got {name_reason(reason)}; "
                    "may this user read that topic?"
                )
        if len(answer.reasons) != len(self._filters):
            self._useless = True
            self._say("the broker breaks the protocol: it answers another subscription than ours; connecting again")

    def _part(self, end: Disconnected) -> None:
        if end.from_broker and end.reason.value == reasons.SESSION_TAKEN_OVER:
            raise DeliveryError(
                f"{self._address}: another client uses the session {self._session.client_id}: "
                "give each audit its own --client-id and --ledger"
            )
        if end.violation:
            self._say(f"the broker breaks the protocol: {end.violation}; connecting again")
        elif not end.answered:
            self._say(explain_silence(end.reason, tls=self._settings.tls))
        elif end.from_broker:
            self._say(f"the broker ended the connection: {with_advice(end.reason)}")
        elif not self._useless:
            # Not every broker says so.
            hint = f"; does another client use the session {self._session.client_id}?" if self._is_young() else ""
            self._say(f"connection lost: {end.reason}{hint}")

    def _refuse(self, reason: ReasonCode) -> None:
        problem = f"the broker refuses us: {with_advice(reason)}"
        if self._welcomed_at_s is None and reason.value in _FINAL:
            raise DeliveryError(f"{self._address}: {problem}")
        self._useless = True
        self._say(problem)

    def _is_young(self) -> bool:
        return self._welcomed_at_s is not None and time.monotonic() - self._welcomed_at_s < STABLE_S

    def _time_left(self, at_most_s: float) -> float:
        if self._ends_at_s is None:
            return at_most_s
        return max(0.0, min(at_most_s, self._ends_at_s - time.monotonic()))

    def _say(self, state: str) -> None:
        """One line for each change."""
        if state != self._said:
            self._said = state
            say(f"{self._address}: {state}")


def _heard(received: Received) -> Heard:
    return Heard(
        topic=received.topic,
        payload=received.payload,
        received_at_s=received.received_at_s,
        redelivered=received.redelivered,
        retained=received.retained,
        packet_id=received.packet_id,
        user_properties=received.user_properties,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
