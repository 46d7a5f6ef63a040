"""The Sparkplug publisher: what a station's threads use. `speaker` speaks, `session` is between.

Verdicts are taken at any time and kept in memory until the broker has them, over any number of connections.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from edge import __version__
from edge.protocol.messages import verdict_payload
from edge.publishers.base import Numbered
from edge.publishers.mqtt.credentials import read_password, tls_context
from edge.publishers.mqtt.reconnect import ConnectionThread
from edge.publishers.sparkplug.schema import payload_class
from edge.publishers.sparkplug.session import NUMBERS, Session
from edge.publishers.sparkplug.speaker import EdgeNodeSpeaker, now
from edge.publishers.sparkplug.topics import SparkplugTopics
from edge.records import Scalar, Verdict
from edge.settings.sections import MqttSettings, SparkplugSettings, StationSettings

log = logging.getLogger("patchline.sparkplug")

CLOSE_TIMEOUT_S = 5.0
BDSEQ_FILE = "sparkplug-bdseq"


class SparkplugPublisher:
    """Publishes for one station as one edge node with one device; see `base.Publisher`.

    Connects in the background from `start` on and keeps trying for ever. The other methods may be called from any
    thread, before `start` too.
    """

    name = "sparkplug"

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
        broker = settings.mqtt or mqtt
        read_password(broker)
        tls_context(broker)
        self._station = station.name
        self._address = f"{broker.host}:{broker.port}"
        bdseq_path = None if state_dir is None else state_dir / BDSEQ_FILE
        topics = sparkplug_topics(settings, station)
        self._changed = threading.Condition()  # guards these two
        self._session = Session(
            topics,
            version=__version__,
            capacity=settings.capacity,
            rebirth_interval_s=settings.rebirth_interval_s,
            next_bdseq=_read_bdseq(bdseq_path),
            describe_data=settings.describe_data,
        )
        self._refused = 0
        self._thread = ConnectionThread("sparkplug", log, self._address)
        self._speaker = EdgeNodeSpeaker(
            broker,
            _client_id(settings, mqtt, station),
            topics,
            session=self._session,
            changed=self._changed,
            thread=self._thread,
            bdseq_path=bdseq_path,
        )

    @property
    def alive(self) -> bool:
        """The network thread is running; False before `start` and after `close`."""
        return self._thread.alive

    @property
    def trouble(self) -> str:
        """Why there is no connection, or why there may as well be none; "": nothing."""
        if trouble := self._speaker.reporter.trouble:
            return trouble
        with self._changed:
            return f"{self._session.kept} verdicts wait for the hosts" if self._session.is_full else ""

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start(self._speaker)

    def publish(self, numbered: Numbered, timeout_s: float = 0.0) -> bool:  # noqa: ARG002 — takes at once or not
        """Take a verdict; at once, whatever the network does. False: `settings.capacity` are kept already."""
        return self.take(numbered.verdict, numbered.epoch, numbered.seq)

    def take(self, verdict: Verdict, epoch: int, seq: int, is_backlog: bool = False) -> bool:
        """Take `verdict`; at once, whatever the network does. False: `settings.capacity` are kept already.

        Args:
            verdict: one frame's answer; its crops are left out.
            epoch: grows when the numbering of `seq` begins anew.
            seq: counts the station's verdicts within the epoch.
            is_backlog: it waited elsewhere: to be published as history, never as the current value.
        """
        values = verdict_payload(self._station, verdict, epoch, seq, backlog=is_backlog)
        with self._changed:
            taken = not self._thread.closing and self._session.take(values, is_backlog=is_backlog)
            self._refused += int(not taken)
        self._thread.wakeup.send()
        return taken

    def publish_health(self, values: Mapping[str, Scalar], *, source_present: bool = True) -> None:
        """Publish what changed of `values`, the flat keys of `/health`, and whether the camera is there."""
        with self._changed:
            self._session.note_health(values, now())
            self._session.set_device(present=source_present)
        self._thread.wakeup.send()

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
                "sparkplug_reconnects": max(0, self._speaker.connections - 1),
            }

    def flush(self, timeout_s: float) -> bool:
        """Wait until the broker has every verdict. False: `timeout_s` seconds were not enough."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._session.kept, timeout_s)

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Send what can be sent, say that device and edge node are gone, and disconnect. May be called twice.

        After `timeout_s` seconds nothing more is waited for.
        """
        first_time = not self._thread.closing
        self._thread.close(timeout_s)
        if first_time and self._session.kept:
            log.warning("%s: closed with %d verdicts that the broker does not have", self._address, self._session.kept)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


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
