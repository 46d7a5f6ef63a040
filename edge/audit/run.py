"""`patchline-edge audit`: a subscriber that keeps its own ledger and says whether every verdict arrived.

It trusts nobody: every message is checked, what it heard is on disk before the broker is told so, and what it
cannot know, because the broker had kept no session for it, is counted apart and never for good.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import secrets
import ssl
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from paho.mqtt.reasoncodes import ReasonCode
from rich.console import Console
from rich.live import Live

from edge.audit.ledger import Expectation, Ledger
from edge.audit.messages import BASE_LEVELS, CROP_SUFFIX, SUFFIXES, Heard
from edge.audit.report import Report, live_table, make_report, status_line
from edge.audit.store import LedgerFile
from edge.errors import DeliveryError, SettingsError
from edge.files.atomic import write_file
from edge.publishers.mqtt import reasons
from edge.publishers.mqtt.connection import (
    Connack,
    Connection,
    Disconnected,
    Event,
    Introduction,
    Received,
    Suback,
)
from edge.publishers.mqtt.credentials import read_password, tls_context
from edge.publishers.mqtt.reconnect import keep_connected
from edge.publishers.mqtt.reporter import STABLE_S
from edge.publishers.mqtt.words import explain, explain_silence, name_reason, with_advice
from edge.settings.tree import Settings
from edge.settings.values import TOPIC_LEVEL
from edge.terminal import say

_TICK_S = 0.2  # longest wait for the network without a look at whether to stop
_TABLE_INTERVAL_S = 0.5
_PASSING_SESSION_S = 600  # how long an audit without a name of its own may be cut off and lose nothing
_MAX_PACKET_BYTES = 2 * 2**20  # crops have 1 MB at the most
_RECEIVE_MAXIMUM = 1000  # messages that the broker sends before it waits for us
_MOST_PACKETS = 500  # read in one turn, so that acknowledging and showing are not put off for ever
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


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """What to listen to, and until when."""

    topic: str = ""  # bases of stations, four levels; empty: every station below the settings' root
    station: str = ""  # the last of the four levels instead of the filter's
    client_id: str = ""  # names a session that the broker keeps between two runs
    ledger: Path | None = None  # None: in memory
    for_s: float | None = None
    from_seq: int | None = None
    until_seq: int | None = None
    interval_s: float = 10.0  # between two lines where there is no terminal
    crops: bool = True


def run_audit(settings: Settings, options: AuditOptions, stop: threading.Event) -> Report:
    """Listen until the time is over, everything up to `until_seq` is there, or `stop` is set.

    Raises:
        SettingsError: an option, a certificate, key or password file, or the ledger file cannot be used.
        DeliveryError: the broker refuses us for a reason that waiting does not mend.
        PatchlineError: the ledger cannot be written any more.
    """
    read_password(settings.mqtt)
    tls_context(settings.mqtt)
    with contextlib.ExitStack() as resources:
        store = None if options.ledger is None else resources.enter_context(LedgerFile(options.ledger))
        topic, session = _topic(settings, options, store), _session(settings, options, store)
        view = resources.enter_context(_view(options.interval_s))
        audit = _Audit(settings, options, store, topic=topic, session=session, stop=stop, view=view)
        audit.listen()
        return audit.report()


def write_report(report: Report, path: Path) -> None:
    """Write `report` as JSON.

    Raises:
        SettingsError: the file cannot be written.
    """
    text = json.dumps(dataclasses.asdict(report), indent=2, ensure_ascii=False)
    try:
        write_file(path, f"{text}\n".encode())
    except OSError as error:
        raise SettingsError(f"--json {path}: cannot be written ({error.strerror})") from error


@dataclass(frozen=True, slots=True)
class Session:
    """Whose messages the broker keeps, and for how long after the connection ended."""

    client_id: str
    expiry_s: int
    lasting: bool  # False: the session ends when the audit takes leave


class _View(Protocol):
    def __call__(self, ledger: Ledger) -> None: ...


class _Audit:
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
        view: _View,
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


def _topic(settings: Settings, options: AuditOptions, store: LedgerFile | None) -> str:
    """The bases of stations to listen to.

    Raises:
        SettingsError: the filter has not four levels of allowed characters, or the ledger has another one.
    """
    default = f"{settings.station.root}/+/+/+"
    levels = (options.topic or default).split("/")
    if options.station:
        levels[-1] = options.station
    topic = "/".join(levels)
    if len(levels) != BASE_LEVELS or not all(level == "+" or re.fullmatch(TOPIC_LEVEL, level) for level in levels):
        raise SettingsError(
            f"--topic {topic}: expected the base of stations, <root>/<site>/<line>/<station>, "
            "each of letters, digits, _ and -, or + for any"
        )
    wanted = topic if options.topic or options.station else ""
    return topic if store is None else store.bind("--topic", wanted, default)


def _session(settings: Settings, options: AuditOptions, store: LedgerFile | None) -> Session:
    """Our session at the broker: it lasts where it has a name, or a ledger that remembers one.

    Raises:
        SettingsError: the name is the station's own, which would be thrown off the broker, or the ledger has another.
    """
    station, mqtt = settings.station, settings.mqtt
    own = mqtt.client_id or f"patchline-{station.site}-{station.line}-{station.name}"
    if options.client_id == own:
        raise SettingsError(f"--client-id {own}: is the station's own, which would be cut off; choose another name")
    passing = f"patchline-audit-{secrets.token_hex(6)}"
    if store is not None:
        return Session(store.bind("--client-id", options.client_id, passing), mqtt.session_expiry_s, lasting=True)
    if options.client_id:
        return Session(options.client_id, mqtt.session_expiry_s, lasting=True)
    return Session(passing, _PASSING_SESSION_S, lasting=False)


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


@contextlib.contextmanager
def _view(interval_s: float) -> Iterator[_View]:
    """On a terminal a table that stays in place; elsewhere a line now and then."""
    if sys.stderr.isatty():
        with Live(console=Console(stderr=True), auto_refresh=False) as live:
            yield _Paced(_TABLE_INTERVAL_S, lambda ledger: live.update(live_table(ledger, "audit"), refresh=True))
    else:
        yield _Paced(interval_s, lambda ledger: say(status_line(ledger)))


class _Paced:
    """Shows the ledger at most once an interval."""

    def __init__(self, interval_s: float, show: _View) -> None:
        self._interval_s = interval_s
        self._show = show
        self._due_at_s = time.monotonic() + interval_s

    def __call__(self, ledger: Ledger) -> None:
        if time.monotonic() >= self._due_at_s:
            self._due_at_s = time.monotonic() + self._interval_s
            self._show(ledger)
