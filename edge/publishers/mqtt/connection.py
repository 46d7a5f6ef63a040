"""One MQTT 5 connection of a station: will, limits, answers, commands."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from time import monotonic

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge.protocol.commands import Request
from edge.protocol.messages import status_message
from edge.protocol.topics import StationTopics, Status
from edge.publishers.mqtt.client import DrivenClient, mqtt_properties, take_leave
from edge.publishers.mqtt.reasons import PROTOCOL_ERROR
from edge.records import Message
from edge.settings.sections import MqttSettings

PROTOCOL_MAX_PACKET_BYTES = 268_435_460  # MQTT 5, section 2.1.4: four bytes of length, and the header
# What we take: commands have at most 1 KB, the rest is topics and properties; the broker keeps larger ones to itself.
OUR_MAX_PACKET_BYTES = 16_384
OUR_RECEIVE_MAXIMUM = 16
FAREWELL_S = 1.0  # after our DISCONNECT the broker closes at once
PROTOCOL_RECEIVE_MAXIMUM = 65_535  # section 3.2.2.3.3: when the broker names none


@dataclass(frozen=True, slots=True)
class Welcome:
    """The broker's CONNACK."""

    reason: ReasonCode  # a failure: we are not connected
    receive_maximum: int  # messages
    max_packet_bytes: int


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """A PUBACK; for a QoS 0 message, that it was written."""

    packet_id: int
    reason: ReasonCode


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The end of the connection."""

    reason: ReasonCode
    from_broker: bool  # it said so, instead of falling silent
    welcomed: bool  # it had answered our CONNECT, with whatever reason


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The broker's answer to a subscription."""

    reason: ReasonCode  # a failure: nothing will come


@dataclass(frozen=True, slots=True)
class Violation:
    """The broker broke the protocol, and we ended the connection."""

    what: str


Event = Welcome | Acknowledgement | Goodbye | Subscribed | Violation | Request


class Connection(DrivenClient[Event]):
    """Open from construction to `cut`. Belongs to one thread."""

    def __init__(self, settings: MqttSettings, topics: StationTopics, wake: socket.socket, *, retain: bool) -> None:
        """Connect, which takes up to twice `CONNECT_TIMEOUT_S`; the broker's answer is an event.

        Args:
            settings: the broker.
            topics: the station, for the will.
            wake: a byte on this socket ends the waiting in `turn`.
            retain: False where the broker keeps no retained messages.

        Raises:
            SettingsError: a certificate, key or password file cannot be used.
            OSError: nobody answers, or not whom we trust.
            ValueError: the host is no valid name.
        """
        self._retain = retain
        self._welcomed = False
        self._violated = False
        super().__init__(self._make_client(settings, topics), settings, wake)
        properties = mqtt_properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = settings.session_expiry_s
        properties.MaximumPacketSize = OUR_MAX_PACKET_BYTES
        properties.ReceiveMaximum = OUR_RECEIVE_MAXIMUM
        # A session would keep our unanswered messages, but we keep them ourselves: it always starts clean.
        self._client.connect(
            settings.host, settings.port, settings.keepalive_s, clean_start=True, properties=properties
        )

    def turn(self, timeout_s: float, packets: int = 1) -> bool:
        """See `DrivenClient.turn`; also the end: the broker broke the protocol."""
        is_open = super().turn(timeout_s, packets)
        if self._violated and is_open:
            self._client.disconnect(ReasonCode(PacketTypes.DISCONNECT, identifier=PROTOCOL_ERROR))
        return is_open and not self._violated

    def publish(self, message: Message) -> int:
        """Hand `message` over; its packet identifier."""
        retain = message.retain and self._retain
        properties = publish_properties(message)
        return self._client.publish(message.topic, message.payload, message.qos, retain, properties).mid

    def subscribe(self, topic_filter: str) -> None:
        """Ask for messages, retained ones only if they come as such; each is an event."""
        options = SubscribeOptions(
            qos=1, noLocal=True, retainAsPublished=True, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND
        )
        self._client.subscribe(topic_filter, options=options)

    def disconnect(self) -> None:
        """Take leave: the broker then keeps the will to itself. Takes up to `FAREWELL_S`."""
        take_leave(self._client, None, FAREWELL_S)

    def _make_client(self, settings: MqttSettings, topics: StationTopics) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=settings.client_id or f"patchline-{topics.site}-{topics.line}-{topics.name}",
            protocol=MQTTProtocolVersion.MQTTv5,
        )
        client.max_inflight_messages = 0  # no limit here: the window is ours
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        will = status_message(topics, Status.OFFLINE)
        properties = mqtt_properties(PacketTypes.WILLMESSAGE)
        properties.ContentType = will.content_type
        client.will_set(will.topic, will.payload, will.qos, self._retain, properties)
        return client

    def _on_connect(
        self,
        _client: Client,
        _userdata: object,
        _flags: ConnectFlags,
        reason: ReasonCode,
        limits: Properties | None,
    ) -> None:
        if self._welcomed:  # MQTT 5, section 3.2: the connection is to be closed (section 4.13)
            self._violated = True
            self._events.append(Violation("it welcomed us twice on one connection"))
            return
        self._welcomed = True
        self._retain = self._retain and bool(getattr(limits, "RetainAvailable", 1))
        self._events.append(
            Welcome(
                reason,
                receive_maximum=getattr(limits, "ReceiveMaximum", PROTOCOL_RECEIVE_MAXIMUM),
                max_packet_bytes=getattr(limits, "MaximumPacketSize", PROTOCOL_MAX_PACKET_BYTES),
            )
        )

    def _on_publish(
        self, _client: Client, _userdata: object, packet_id: int, reason: ReasonCode, _properties: Properties
    ) -> None:
        self._events.append(Acknowledgement(packet_id, reason))

    def _on_subscribe(
        self, _client: Client, _userdata: object, _packet_id: int, reasons: list[ReasonCode], _properties: Properties
    ) -> None:
        self._events.extend(Subscribed(reason) for reason in reasons)

    def _on_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        self._events.append(
            Request(
                topic=message.topic,
                payload=bytes(message.payload),
                retained=message.retain,
                response_topic=getattr(message.properties, "ResponseTopic", ""),
                correlation=getattr(message.properties, "CorrelationData", b""),
                received_s=monotonic(),
            )
        )

    def _on_disconnect(
        self,
        _client: Client,
        _userdata: object,
        flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if not self._violated:
            self._events.append(Goodbye(reason, flags.is_disconnect_packet_from_server, self._welcomed))


def publish_properties(message: Message) -> Properties:
    """The MQTT 5 properties of `message`."""
    properties = mqtt_properties(PacketTypes.PUBLISH)
    properties.ContentType = message.content_type
    if message.expiry_s is not None:
        properties.MessageExpiryInterval = message.expiry_s
    if message.correlation:
        properties.CorrelationData = message.correlation
    if message.user_properties:
        properties.UserProperty = list(message.user_properties)
    return properties


def packet_bytes(message: Message) -> int:
    """Size of the whole PUBLISH packet, which a broker's Maximum Packet Size limits."""
    properties = publish_properties(message).pack()  # type: ignore[no-untyped-call]  # paho leaves it out
    packet_id = 2 if message.qos else 0
    rest = 2 + len(message.topic.encode()) + packet_id + len(properties) + len(message.payload)
    length_field = 1 + (rest >= 1 << 7) + (rest >= 1 << 14) + (rest >= 1 << 21)
    return 1 + length_field + rest
