"""Publishing over MQTT 5 at QoS 1: what a station's threads use. `station` speaks, `traffic` is between."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict
from types import TracebackType
from typing import Self

from edge.protocol.commands import Request
from edge.protocol.topics import StationTopics
from edge.publishers.base import OnAnswer
from edge.publishers.mqtt.credentials import read_password, tls_context
from edge.publishers.mqtt.reconnect import ConnectionThread
from edge.publishers.mqtt.station import StationSpeaker
from edge.publishers.mqtt.traffic import Link, MqttCounters, Traffic
from edge.records import Message
from edge.settings.sections import MqttSettings

log = logging.getLogger("patchline.mqtt")

CLOSE_TIMEOUT_S = 5.0


class MqttPublisher:
    """Publishes for one station; says `online`, `stopped`, or by its will `offline`, on `/status`.

    It connects in the background and keeps trying for ever, whatever the broker says. All methods may be called from
    any thread.
    """

    name = "mqtt"

    def __init__(self, settings: MqttSettings, topics: StationTopics) -> None:
        """Check the files that `settings` names and begin to connect.

        Raises:
            SettingsError: a certificate, key or password file cannot be used.
        """
        read_password(settings)
        tls_context(settings)
        self._traffic = Traffic(settings.window)
        self._thread = ConnectionThread("mqtt", log, f"{settings.host}:{settings.port}")
        self._speaker = StationSpeaker(settings, topics, self._traffic, self._thread, log)
        self._thread.start(self._speaker)

    @property
    def alive(self) -> bool:
        """The network thread is running; False after `close`."""
        return self._thread.alive

    @property
    def link(self) -> Link | None:
        """The connection; None while the broker is away."""
        return self._traffic.link

    @property
    def trouble(self) -> str:
        """Why the broker is away, or why it may as well be; "": nothing."""
        return self._speaker.reporter.trouble

    @property
    def counters(self) -> MqttCounters:
        """A snapshot."""
        return self._traffic.counters

    def report(self) -> dict[str, int]:
        """The counters, as `/health` and the log show them."""
        return {f"mqtt_{name}": int(value) for name, value in asdict(self.counters).items()}

    def send(self, message: Message, timeout_s: float, on_answer: OnAnswer | None = None) -> bool:
        """Take `message`; False: the broker was away or the window full for `timeout_s` seconds.

        A QoS 0 message is always taken, and dropped if it cannot go at once.

        Args:
            message: what to publish.
            timeout_s: how long to wait for room.
            on_answer: told once what became of a QoS 1 message, on the network thread: it must not wait.
        """
        if message.qos == 0:
            self._traffic.take_unacknowledged(message)
        elif not self._traffic.take(message, timeout_s, on_answer):
            return False
        self._thread.wakeup.send()
        return True

    def listen(self, topic_filter: str, on_request: Callable[[Request], None]) -> None:
        """From now on, on every connection, hand over what comes on `topic_filter`; nothing that was sent before.

        `on_request` is called on the network thread: it must only put the request somewhere, without waiting.
        """
        self._speaker.listener = topic_filter, on_request
        self._thread.wakeup.send()

    def reply(self, message: Message) -> bool:
        """Take the answer to a command, for the present connection alone. False: it cannot go, and is counted."""
        taken = self._traffic.take_reply(message)
        self._thread.wakeup.send()
        return taken

    def flush(self, timeout_s: float) -> bool:
        """Wait until every message has its answer. False: `timeout_s` seconds were not enough."""
        return self._traffic.flush(timeout_s)

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Deliver what was taken, say `stopped` and disconnect. May be called twice.

        After `timeout_s` seconds the connection is cut instead, so that the broker says `offline`.
        """
        first_time = not self._thread.closing
        self._traffic.stop_taking()
        self._thread.close(timeout_s)
        if first_time and self._traffic.held:
            log.warning(
                "%s: closed with %d messages unacknowledged", self._speaker.reporter.address, self._traffic.held
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
