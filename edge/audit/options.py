"""What an audit is asked to listen to, as topic filter and session at the broker."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from edge.audit.messages import BASE_LEVELS
from edge.audit.store import LedgerFile
from edge.errors import SettingsError
from edge.settings.tree import Settings
from edge.settings.values import TOPIC_LEVEL

_PASSING_SESSION_S = 600  # how long an audit without a name of its own may be cut off and lose nothing


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


@dataclass(frozen=True, slots=True)
class Session:
    """Whose messages the broker keeps, and for how long after the connection ended."""

    client_id: str
    expiry_s: int
    lasting: bool  # False: the session ends when the audit takes leave


def choose_topic(settings: Settings, options: AuditOptions, store: LedgerFile | None) -> str:
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


def choose_session(settings: Settings, options: AuditOptions, store: LedgerFile | None) -> Session:
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
