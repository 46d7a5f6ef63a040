"""One MQTT 5 connection that listens at QoS 1, driven by one thread through paho's external loop.

A message is acknowledged when the caller says so and not when it was received, so that the caller can put it on
disk first. paho's callbacks only append to a list, which the same thread reads afterwards.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge.audit.messages import Heard
from edge.mqtt.connection import CONNECT_TIMEOUT_S, read_password, take_leave, tls_context
from edge.settings import MqttSettings

_FAREWELL_S = 2.0
_MOST_PACKETS = 500  # read in one turn, so that acknowledging and showing are not put off for ever


@dataclass(frozen=True, slots=True)
class Session:
    """Whose messages the broker keeps, and for how long after the connection ended."""

    client_id: str
    expiry_s: int
    lasting: bool  # False: the session ends when the audit takes leave


@dataclass(frozen=True, slots=True)
class Welcome:
    """The broker's CONNACK."""

    reason: ReasonCode  # a failure: we are not connected
    session_present: bool  # what was published since the last connection is kept and will come


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The broker's SUBACK."""

    reasons: tuple[ReasonCode, ...]  # one for each filter: the QoS granted, or a refusal


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The end of the connection."""

    reason: ReasonCode
    from_broker: bool  # it said so, instead of falling silent


Event = Welcome | Subscribed | Heard | Goodbye


class Subscription:
    """Open from construction to `leave` or `cut`."""

    def __init__(self, settings: MqttSettings, session: Session, filters: Sequence[str]) -> None:
        """Connect, which takes up to twice `CONNECT_TIMEOUT_S`; everything the broker says is an event.

        Args:
            settings: the broker; its `client_id` is the station's and is not used.
            session: ours.
            filters: topic filters to subscribe to as soon as the broker has welcomed us.

        Raises:
            SettingsError: a certificate, key or password file cannot be used.
            OSError: nobody answers, or not whom we trust.
            ValueError: the host is no valid name.
        """
        self._filters = filters
        self._session = session
        self._events: list[Event] = []
        self._client = self._make_client(settings)
        properties = _properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = session.expiry_s
        # Never a clean start: the session is looked for, and the broker says whether it was there.
        self._client.connect(
            settings.host, settings.port, settings.keepalive_s, clean_start=False, properties=properties
        )

    def turn(self, timeout_s: float) -> bool:
        """Wait for the network, then read and write what is possible. False: the connection has ended."""
        for _ in range(_MOST_PACKETS):
            connection = self._client.socket()
            if connection is None:
                return False
            buffered = isinstance(connection, ssl.SSLSocket) and connection.pending() > 0
            writers = [connection] if self._client.want_write() else []
            readable, writable, _ = select.select([connection], writers, [], 0 if buffered else timeout_s)
            if readable or buffered:
                self._client.loop_read()
            if writable:
                self._client.loop_write()
            if not readable and not buffered and not writable:
                break
            timeout_s = 0
        self._client.loop_misc()
        return self._client.socket() is not None

    def take_events(self) -> list[Event]:
        """What happened since the last call, in order."""
        events, self._events = self._events, []
        return events

    def acknowledge(self, heard: Heard) -> None:
        """Tell the broker that it need not send this message again."""
        self._client.ack(heard.packet_id, 1)

    def leave(self) -> None:
        """Take leave; the session stays at the broker only if it is a lasting one."""
        properties = _properties(PacketTypes.DISCONNECT)
        properties.SessionExpiryInterval = self._session.expiry_s if self._session.lasting else 0
        take_leave(self._client, properties, _FAREWELL_S)

    def cut(self) -> None:
        """End without a word, unless it has ended."""
        connection = self._client.socket()
        if connection is not None:
            connection.close()

    def _make_client(self, settings: MqttSettings) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._session.client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            manual_ack=True,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.on_socket_open = _acknowledge_at_once
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        if settings.user is not None:
            client.username_pw_set(settings.user, read_password(settings))
        if (context := tls_context(settings)) is not None:
            client.tls_set_context(context)
        return client

    def _on_connect(
        self, client: Client, _userdata: object, flags: ConnectFlags, reason: ReasonCode, _limits: Properties | None
    ) -> None:
        self._events.append(Welcome(reason, flags.session_present))
        if not reason.is_failure:
            client.subscribe([(topic, SubscribeOptions(qos=1)) for topic in self._filters])

    def _on_subscribe(
        self, _client: Client, _userdata: object, _packet_id: int, reasons: list[ReasonCode], _properties: Properties
    ) -> None:
        self._events.append(Subscribed(tuple(reasons)))

    def _on_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        received_at_s = time.time()
        properties = tuple(getattr(message.properties, "UserProperty", ()))
        # paho raises where a topic is not UTF-8, which no broker should pass on.
        topic = bytes(message._topic).decode("utf-8", "replace")  # noqa: SLF001 — the only way to the raw bytes
        self._events.append(
            Heard(
                topic=topic,
                payload=bytes(message.payload),
                received_at_s=received_at_s,
                redelivered=message.dup,
                retained=message.retain,
                packet_id=message.mid,
                user_properties=properties,
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
        self._events.append(Goodbye(reason, flags.is_disconnect_packet_from_server))


def _acknowledge_at_once(_client: Client, _userdata: object, connection: object) -> None:
    """Without this the broker waits up to 40 ms for an acknowledgement (Nagle) with its window full."""
    assert isinstance(connection, socket.socket)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _properties(packet_type: int) -> Properties:
    return Properties(packet_type)  # type: ignore[no-untyped-call]  # paho leaves it out
