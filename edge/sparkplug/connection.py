"""One MQTT 3.1.1 connection of an edge node, driven by one thread through paho's external loop.

The version is the one that every Sparkplug host and broker speaks. The callbacks only append to a list, which the
same thread reads afterwards; see `edge.mqtt.connection` for why nothing of paho's own thread is used.
"""

from __future__ import annotations

import select
import socket
import ssl
from dataclasses import dataclass

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge.mqtt.connection import CONNECT_TIMEOUT_S, read_password, tls_context
from edge.records import Message
from edge.settings import MqttSettings


@dataclass(frozen=True, slots=True)
class Welcome:
    """The broker's CONNACK."""

    reason: ReasonCode  # a failure: we are not connected


@dataclass(frozen=True, slots=True)
class Subscribed:
    """A SUBACK: the broker has read everything that was sent before."""

    packet_id: int
    refused: bool  # at least one of the topics


@dataclass(frozen=True, slots=True)
class Heard:
    """A message for us."""

    topic: str
    payload: bytes
    retained: bool


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The end of the connection."""

    reason: ReasonCode


Event = Welcome | Subscribed | Heard | Goodbye


class Connection:
    """Open from construction to `cut`. Belongs to one thread."""

    def __init__(self, settings: MqttSettings, client_id: str, will: Message, wake: socket.socket) -> None:
        """Connect, which takes up to twice `CONNECT_TIMEOUT_S`; the broker's answer is an event.

        Args:
            settings: the broker.
            client_id: unique at the broker.
            will: the edge node's death.
            wake: a byte on this socket ends the waiting in `turn`.

        Raises:
            SettingsError: a certificate, key or password file cannot be used.
            OSError: nobody answers, or not whom we trust.
            ValueError: the host is no valid name.
        """
        self._wake = wake
        self._events: list[Event] = []
        self._client = self._make_client(settings, client_id, will)
        self._client.connect(settings.host, settings.port, settings.keepalive_s)

    @property
    def congested(self) -> bool:
        """Bytes are waiting for the network."""
        return self._client.want_write()

    def turn(self, timeout_s: float) -> bool:
        """Wait for the network or a wake-up, then read and write what is possible. False: it has ended."""
        connection = self._client.socket()
        if connection is None:
            return False
        buffered = isinstance(connection, ssl.SSLSocket) and connection.pending() > 0
        writers = [connection] if self._client.want_write() else []
        readable, _, _ = select.select([connection, self._wake], writers, [], 0 if buffered else timeout_s)
        if self._wake in readable:
            self._wake.recv(4096)
        if connection in readable or buffered:
            self._client.loop_read()
        self._client.loop_write()
        self._client.loop_misc()
        return self._client.socket() is not None

    def take_events(self) -> list[Event]:
        """What happened since the last call, in order."""
        events, self._events = self._events, []
        return events

    def subscribe(self, topics: tuple[str, ...]) -> int | None:
        """Subscribe at QoS 1; the packet identifier, or None: the connection has ended."""
        _, packet_id = self._client.subscribe([(topic, 1) for topic in topics])
        return packet_id

    def publish(self, message: Message) -> None:
        """Hand `message` over; never retained."""
        self._client.publish(message.topic, message.payload, message.qos)

    def disconnect(self) -> None:
        """Take leave: the broker then keeps the will to itself."""
        self._client.disconnect()

    def cut(self) -> None:
        """End without a word, unless it has ended: the broker then publishes the will."""
        connection = self._client.socket()
        if connection is not None:
            connection.close()

    def _make_client(self, settings: MqttSettings, client_id: str, will: Message) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=True,
            protocol=MQTTProtocolVersion.MQTTv311,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.on_socket_open = _send_at_once
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        client.will_set(will.topic, will.payload, will.qos, retain=False)
        if settings.user is not None:
            client.username_pw_set(settings.user, read_password(settings))
        if (context := tls_context(settings)) is not None:
            client.tls_set_context(context)
        return client

    def _on_connect(
        self,
        _client: Client,
        _userdata: object,
        _flags: ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._events.append(Welcome(reason))

    def _on_subscribe(
        self,
        _client: Client,
        _userdata: object,
        packet_id: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        self._events.append(Subscribed(packet_id, any(reason.is_failure for reason in reasons)))

    def _on_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        self._events.append(Heard(message.topic, bytes(message.payload), message.retain))

    def _on_disconnect(
        self,
        _client: Client,
        _userdata: object,
        _flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._events.append(Goodbye(reason))


def _send_at_once(_client: Client, _userdata: object, connection: object) -> None:
    """Without this a verdict waits up to 40 ms for the broker's system to confirm the one before (Nagle)."""
    assert isinstance(connection, socket.socket)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
