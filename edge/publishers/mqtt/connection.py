"""One MQTT connection, of whoever needs one: station, edge node, audit. Events are named after the packets.

It is driven by one thread through paho's external loop. Nothing of paho's own thread, reconnecting or resending is
used: in 2.2 they resend beyond the broker's Receive Maximum, reconnect for ever on a message the broker cannot take,
and die in silence. The callbacks only append to a list, which the same thread reads afterwards.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import time
from collections.abc import Sequence
from time import monotonic

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge.publishers.mqtt.client import BoundedClient, Violation
from edge.publishers.mqtt.credentials import read_password, tls_context
from edge.publishers.mqtt.events import (
    PROTOCOL_MAX_PACKET_BYTES,
    PROTOCOL_RECEIVE_MAXIMUM,
    Connack,
    Disconnected,
    Event,
    Introduction,
    Puback,
    Received,
    Suback,
)
from edge.publishers.mqtt.packets import mqtt_properties, publish_properties
from edge.publishers.mqtt.reasons import MALFORMED_PACKET, PROTOCOL_ERROR
from edge.records import Message
from edge.settings.sections import MqttSettings

CONNECT_TIMEOUT_S = 5.0  # for TCP and again for TLS; paho's default
FAREWELL_S = 2.0  # after our DISCONNECT the broker closes at once
_MOST_BYTES = 4 * 2**20  # of messages taken at once


class Connection:
    """Open from construction to `abort`. Belongs to one thread."""

    def __init__(self, broker: MqttSettings, introduction: Introduction, wake: socket.socket | None = None) -> None:
        """Connect, which takes up to twice `CONNECT_TIMEOUT_S`; the broker's answer is an event.

        Args:
            broker: where; its `client_id` is not used.
            introduction: who we are.
            wake: a byte on this socket ends the waiting in `loop`.

        Raises:
            SettingsError: a certificate, key or password file cannot be used.
            OSError: nobody answers, or not whom we trust.
            ValueError: the host is no valid name.
        """
        self._wake = wake
        self._events: list[Event] = []
        self._taken_bytes = 0  # of messages in `_events`
        self._answered = False
        self._violation: Violation | None = None
        self._client = BoundedClient(
            introduction.client_id,
            introduction.protocol,
            introduction.max_packet_bytes,
            manual_ack=introduction.manual_ack,
        )
        self._listen_to_client()
        self._identify(broker)
        self._connect(broker, introduction)

    @property
    def congested(self) -> bool:
        """Bytes are waiting for the network."""
        return self._client.want_write()

    def loop(self, timeout_s: float, packets: int = 1) -> bool:
        """Wait for the network or a wake-up, then read and write what is possible. False: it has ended.

        Reads up to so many `packets`, if they are there already.
        """
        for number in range(packets):
            if not self._exchange(0 if number else timeout_s) or self._taken_bytes > _MOST_BYTES:
                break
        self._client.loop_misc()
        violation = self._violation or self._client.violation
        if violation is not None and self._client.socket() is not None:
            self._refuse(violation)
            return False
        return self._client.socket() is not None

    def take_events(self) -> list[Event]:
        """What happened since the last call, in order."""
        events, self._events, self._taken_bytes = self._events, [], 0
        return events

    def publish(self, message: Message, *, retain: bool) -> int:
        """Hand `message` over; its packet identifier."""
        is_mqtt_5 = self._client.protocol == MQTTProtocolVersion.MQTTv5
        properties = publish_properties(message) if is_mqtt_5 else None
        return self._client.publish(message.topic, message.payload, message.qos, retain, properties).mid

    def subscribe(self, topic_filters: Sequence[str], options: SubscribeOptions | None = None) -> int | None:
        """Ask for messages at QoS 1; the packet identifier, or None: the connection has ended."""
        if self._client.protocol == MQTTProtocolVersion.MQTTv5:
            asked = [(topic, options or SubscribeOptions(qos=1)) for topic in topic_filters]
            return self._client.subscribe(asked)[1]
        return self._client.subscribe([(topic, 1) for topic in topic_filters])[1]

    def acknowledge(self, received: Received) -> None:
        """Tell the broker that it need not send this message again."""
        self._client.ack(received.packet_id, 1)

    def disconnect(self, session_expiry_s: int | None = None) -> None:
        """Take leave: the broker then keeps the will to itself. Takes up to `FAREWELL_S`.

        Args:
            session_expiry_s: for how long the broker is to keep our session; None: as it was told.
        """
        properties = None
        if session_expiry_s is not None:
            properties = mqtt_properties(PacketTypes.DISCONNECT)
            properties.SessionExpiryInterval = session_expiry_s
        _say_goodbye(self._client, properties, FAREWELL_S)

    def abort(self) -> None:
        """End without a word, unless it has ended: the broker then publishes the will."""
        connection = self._client.socket()
        if connection is not None:
            connection.close()

    # How it begins.

    def _listen_to_client(self) -> None:
        client = self._client
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.max_inflight_messages = 0  # no limit here: the window is ours
        client.on_socket_open = _send_at_once
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect

    def _identify(self, broker: MqttSettings) -> None:
        if broker.user is not None:
            self._client.username_pw_set(broker.user, read_password(broker))
        if (context := tls_context(broker)) is not None:
            self._client.tls_set_context(context)

    def _connect(self, broker: MqttSettings, introduction: Introduction) -> None:
        self._set_will(introduction)
        if introduction.protocol != MQTTProtocolVersion.MQTTv5:
            self._client.connect(broker.host, broker.port, broker.keepalive_s)
            return
        properties = mqtt_properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = introduction.session_expiry_s
        properties.MaximumPacketSize = introduction.max_packet_bytes
        properties.ReceiveMaximum = introduction.receive_maximum
        self._client.connect(
            broker.host,
            broker.port,
            broker.keepalive_s,
            clean_start=introduction.clean_start,
            properties=properties,
        )

    def _set_will(self, introduction: Introduction) -> None:
        will = introduction.will
        if will is None:
            return
        properties = None
        if introduction.protocol == MQTTProtocolVersion.MQTTv5:
            properties = mqtt_properties(PacketTypes.WILLMESSAGE)
            properties.ContentType = will.content_type
        self._client.will_set(will.topic, will.payload, will.qos, will.retain, properties)

    # How it goes on.

    def _exchange(self, timeout_s: float) -> bool:
        """Read one packet and write what waits. False: there was nothing to read."""
        connection = self._client.socket()
        if connection is None:
            return False
        buffered = isinstance(connection, ssl.SSLSocket) and connection.pending() > 0
        readers = [connection] if self._wake is None else [connection, self._wake]
        writers = [connection] if self._client.want_write() else []
        readable, _, _ = select.select(readers, writers, [], 0 if buffered else timeout_s)
        if self._wake is not None and self._wake in readable:
            self._wake.recv(4096)
        has_input = buffered or connection in readable
        if has_input:
            self._client.loop_read()
        self._client.loop_write()
        return has_input and self._client.violation is None

    def _refuse(self, violation: Violation) -> None:
        """End the connection, saying why where the protocol has words for it."""
        self._violation = violation
        if self._client.protocol == MQTTProtocolVersion.MQTTv5:
            self._client.disconnect(ReasonCode(PacketTypes.DISCONNECT, identifier=violation.reason_code))
        if self._client.socket() is not None:  # paho closes as soon as the DISCONNECT is written
            self._events.append(self._end(ReasonCode(PacketTypes.DISCONNECT, identifier=violation.reason_code)))
            self.abort()

    def _end(self, reason: ReasonCode, *, from_broker: bool = False) -> Disconnected:
        what = "" if self._violation is None else self._violation.what
        return Disconnected(reason, from_broker, self._answered, what)

    # paho's callbacks.

    def _on_connect(
        self,
        _client: Client,
        _userdata: object,
        flags: ConnectFlags,
        reason: ReasonCode,
        limits: Properties | None,
    ) -> None:
        if self._answered:  # MQTT 5, section 3.2: the connection is to be closed (section 4.13)
            self._violation = Violation("it answers CONNECT twice on one connection", PROTOCOL_ERROR)
            return
        self._answered = True
        self._events.append(
            Connack(
                reason,
                flags.session_present,
                receive_maximum=getattr(limits, "ReceiveMaximum", PROTOCOL_RECEIVE_MAXIMUM),
                max_packet_bytes=getattr(limits, "MaximumPacketSize", PROTOCOL_MAX_PACKET_BYTES),
                max_qos=getattr(limits, "MaximumQoS", 2),
                retains=bool(getattr(limits, "RetainAvailable", 1)),
            )
        )

    def _on_publish(
        self, _client: Client, _userdata: object, packet_id: int, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        self._events.append(Puback(packet_id, reason))

    def _on_subscribe(
        self,
        _client: Client,
        _userdata: object,
        packet_id: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        self._events.append(Suback(packet_id, tuple(reasons)))

    def _on_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        properties = message.properties
        self._taken_bytes += len(message.payload)
        self._events.append(
            Received(
                # paho raises where a topic is not UTF-8, which no broker should pass on.
                topic=bytes(message._topic).decode("utf-8", "replace"),  # noqa: SLF001 — the only way to the raw bytes
                payload=bytes(message.payload),
                packet_id=message.mid,
                retained=message.retain,
                redelivered=message.dup,
                response_topic=getattr(properties, "ResponseTopic", ""),
                correlation=getattr(properties, "CorrelationData", b""),
                user_properties=tuple(getattr(properties, "UserProperty", ())),
                received_at_s=time.time(),
                received_monotonic_s=monotonic(),
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
        from_broker = flags.is_disconnect_packet_from_server
        if not from_broker and reason.value == PROTOCOL_ERROR and self._violation is None:
            self._violation = Violation("it sends what is no packet of MQTT", MALFORMED_PACKET)
        self._events.append(self._end(reason, from_broker=from_broker))


def _say_goodbye(client: Client, properties: Properties | None, patience_s: float) -> None:
    """Send DISCONNECT and let the broker read it, which takes up to `patience_s`.

    Closing while the broker still sends resets the connection, and the broker may throw away what it has not read:
    our last acknowledgements, and the DISCONNECT itself, so that it publishes the will.
    """
    connection = client.socket()
    if connection is None:
        return
    with socket.socket(fileno=os.dup(connection.fileno())) as open_end:
        client.disconnect(properties=properties)
        if client.socket() is None:  # paho closes its own end at once; otherwise older bytes go first
            _wait_for_the_end(open_end, patience_s)


def _wait_for_the_end(connection: socket.socket, patience_s: float) -> None:
    give_up_at_s = monotonic() + patience_s
    connection.settimeout(patience_s)
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65_536) and monotonic() < give_up_at_s:
            pass


def _send_at_once(_client: Client, _userdata: object, connection: object) -> None:
    """Without this a verdict waits up to 40 ms for the broker's system to confirm the one before (Nagle)."""
    assert isinstance(connection, socket.socket)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
