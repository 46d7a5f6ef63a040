"""What the settings name is opened here, and closed at the end: outbox, broker, lines, hosts."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

from edge.delivery.delivery import Delivery
from edge.delivery.direct import Direct
from edge.delivery.outbox.outbox import Outbox
from edge.delivery.outbox.records import OutboxLimits
from edge.delivery.pump import Pump
from edge.delivery.stored import Stored
from edge.files.places import default_state_dir
from edge.health.statistics import Statistics
from edge.protocol.topics import StationTopics
from edge.publishers.jsonl import JsonLinesPublisher
from edge.publishers.mqtt.publisher import MqttPublisher
from edge.publishers.sparkplug.publisher import SparkplugPublisher
from edge.settings.sections import OutboxSettings, PublisherKind
from edge.settings.tree import Settings

Kind = TypeVar("Kind")


@contextlib.contextmanager
def open_delivery(settings: Settings, topics: StationTopics, statistics: Statistics) -> Iterator[Delivery]:
    """Open what `settings.publish` names, and close it at the end.

    Raises:
        OutboxError: the outbox is in use, or its directory cannot be used.
        SettingsError: a certificate, key or password file cannot be used.
    """
    with contextlib.ExitStack() as resources:
        stored, broker = None, None
        if PublisherKind.MQTT in settings.publish:
            if settings.outbox.enabled:
                outbox = resources.enter_context(_open_outbox(settings.outbox, topics))
                stored = Stored(outbox, Pump(outbox, topics, settings.outbox, settings.mqtt), topics, statistics)
                broker = stored.pump.publisher
            else:
                broker = MqttPublisher(settings.mqtt, topics)
        lines = JsonLinesPublisher(sys.stdout.buffer) if PublisherKind.JSON_LINES in settings.publish else None
        hosts = _open_hosts(settings, topics) if settings.sparkplug.enabled else None
        delivery = Delivery(
            topics,
            statistics,
            broker=broker,
            stored=stored,
            # Where there are lines alone, they are no onlooker: what their reader does not take stays with the line.
            direct=Direct(
                broker or lines,
                topics,
                _begin_epoch if stored is None else stored.outbox.reserve_epoch,
                publish_last=broker is not None and settings.mqtt.publish_last,
            ),
            publishers=_present(lines if broker is not None else None, hosts),
            parts=_present(broker, lines, hosts),
        )
        resources.callback(delivery.close)
        if hosts is not None:
            hosts.start()
        if stored is not None:
            stored.start()
        yield delivery


def outbox_directory(settings: OutboxSettings, topics: StationTopics) -> Path:
    """Where the station's outbox is."""
    return settings.directory or default_state_dir(topics.base.replace("/", "-")) / "outbox"


def _open_outbox(settings: OutboxSettings, topics: StationTopics) -> Outbox:
    limits = {field.name: getattr(settings, field.name) for field in fields(OutboxLimits)}
    return Outbox.open(outbox_directory(settings, topics), OutboxLimits(**limits))


def _open_hosts(settings: Settings, topics: StationTopics) -> SparkplugPublisher:
    directory = outbox_directory(settings.outbox, topics)
    directory.mkdir(parents=True, exist_ok=True)
    return SparkplugPublisher(settings.sparkplug, settings.mqtt, settings.station, state_dir=directory)


def _begin_epoch() -> int:
    return int(time.time())


def _present(*parts: Kind | None) -> tuple[Kind, ...]:
    return tuple(part for part in parts if part is not None)
