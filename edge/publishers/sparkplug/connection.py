"""One MQTT 3.1.1 connection of an edge node: the version that every Sparkplug host and broker speaks."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge.publishers.mqtt.client import DrivenClient
from edge.records import Message
from edge.settings.sections import MqttSettings


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


class Connection(DrivenClient[Event]):
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
        super().__init__(self._make_client(client_id, will), settings, wake)
        self._client.connect(settings.host, settings.port, settings.keepalive_s)

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

    def _make_client(self, client_id: str, will: Message) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=True,
            protocol=MQTTProtocolVersion.MQTTv311,
        )
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        client.will_set(will.topic, will.payload, will.qos, retain=False)
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
