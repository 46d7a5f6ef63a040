"""One MQTT 5 connection: the life of one paho client, driven by one thread through paho's external loop.

Nothing of paho's own thread, reconnecting or resending is used: in 2.2 they resend beyond the broker's
Receive Maximum, reconnect for ever on a message the broker cannot take, and die in silence. The callbacks
only append to a list, which the same thread reads afterwards.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import stat
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge.commands import Request
from edge.errors import SettingsError
from edge.messages import StationTopics, Status, status_message
from edge.mqtt.reasons import PROTOCOL_ERROR
from edge.records import Message
from edge.settings import CREDENTIALS, MqttSettings

CONNECT_TIMEOUT_S = 5.0  # for TCP and again for TLS; paho's default
PROTOCOL_MAX_PACKET_BYTES = 268_435_460  # MQTT 5, section 2.1.4: four bytes of length, and the header
# What we take: commands have at most 1 KB, the rest is topics and properties; the broker keeps larger ones to itself.
OUR_MAX_PACKET_BYTES = 16_384
OUR_RECEIVE_MAXIMUM = 16
FAREWELL_S = 1.0  # after our DISCONNECT the broker closes at once
PROTOCOL_RECEIVE_MAXIMUM = 65_535  # section 3.2.2.3.3: when the broker names none

_CREDENTIALS_HINT = f"; {CREDENTIALS} is systemd's, for a service with LoadCredential= in its unit"


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


class Connection:
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
        self._wake = wake
        self._retain = retain
        self._events: list[Event] = []
        self._welcomed = False
        self._violated = False
        self._client = self._make_client(settings, topics)
        properties = _properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = settings.session_expiry_s
        properties.MaximumPacketSize = OUR_MAX_PACKET_BYTES
        properties.ReceiveMaximum = OUR_RECEIVE_MAXIMUM
        # A session would keep our unanswered messages, but we keep them ourselves: it always starts clean.
        self._client.connect(
            settings.host, settings.port, settings.keepalive_s, clean_start=True, properties=properties
        )

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
        if self._violated:
            self._client.disconnect(ReasonCode(PacketTypes.DISCONNECT, identifier=PROTOCOL_ERROR))
            return False
        return self._client.socket() is not None

    def take_events(self) -> list[Event]:
        """What happened since the last call, in order."""
        events, self._events = self._events, []
        return events

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

    def cut(self) -> None:
        """End without a word, unless it has ended: the broker then publishes the will."""
        connection = self._client.socket()
        if connection is not None:
            connection.close()

    def _make_client(self, settings: MqttSettings, topics: StationTopics) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=settings.client_id or f"patchline-{topics.site}-{topics.line}-{topics.name}",
            protocol=MQTTProtocolVersion.MQTTv5,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.max_inflight_messages = 0  # no limit here: the window is ours
        client.on_socket_open = _send_at_once
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        will = status_message(topics, Status.OFFLINE)
        properties = _properties(PacketTypes.WILLMESSAGE)
        properties.ContentType = will.content_type
        client.will_set(will.topic, will.payload, will.qos, self._retain, properties)
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


def take_leave(client: Client, properties: Properties | None, patience_s: float) -> None:
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


def publish_properties(message: Message) -> Properties:
    """The MQTT 5 properties of `message`."""
    properties = _properties(PacketTypes.PUBLISH)
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


def read_password(settings: MqttSettings) -> str | None:
    """First line of the password file; None without one.

    Raises:
        SettingsError: the file cannot be read, or by everybody, or its first line is empty.
    """
    path = settings.password_file
    if path is None:
        return None
    try:
        _refuse_public("password_file", path)
        first_line = path.read_text(encoding="utf-8").partition("\n")[0]
    except OSError as error:
        raise SettingsError(
            f"mqtt.password_file {path}: cannot be read ({error.strerror}); "
            "expected a readable text file with the password on its first line"
            f"{_CREDENTIALS_HINT if str(path).startswith(CREDENTIALS) else ''}"
        ) from error
    except UnicodeDecodeError:
        # Without the cause: its message would show bytes of the file.
        raise SettingsError(
            f"mqtt.password_file {path}: is not UTF-8; expected a text file with the password on its first line"
        ) from None
    if not first_line:
        raise SettingsError(f"mqtt.password_file {path}: expected the password on its first line, got none")
    return first_line


def tls_context(settings: MqttSettings) -> ssl.SSLContext | None:
    """TLS 1.2 or newer that verifies the broker's certificate and name; None for plain text.

    Raises:
        SettingsError: a certificate or key file cannot be used.
    """
    if not settings.tls:
        return None
    context = _trust(settings.ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.certificate_file is not None:
        try:
            _refuse_public("key_file", settings.key_file)
            # With a password given, an encrypted key is refused instead of asked for on the terminal.
            context.load_cert_chain(settings.certificate_file, settings.key_file, password="")
        except OSError as error:
            raise SettingsError(
                f"mqtt.certificate_file {settings.certificate_file} with mqtt.key_file {settings.key_file}: "
                f"cannot be used ({explain(error)}); expected a PEM certificate and its unencrypted PEM key"
            ) from error
    return context


def explain(error: Exception) -> str:
    """What went wrong, for people."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the broker's certificate is refused: {error.verify_message}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)


def _refuse_public(name: str, path: Path | None) -> None:
    """Whoever has an account on the machine could speak as the station.

    Raises:
        SettingsError: everybody may read or change the file.
        OSError: it cannot be looked at.
    """
    if path is not None and (mode := path.stat().st_mode) & (stat.S_IROTH | stat.S_IWOTH):
        raise SettingsError(
            f"mqtt.{name} {path}: everybody on this machine may read or change it "
            f"(mode {stat.S_IMODE(mode):04o}); chmod 0400, owned by the service's user"
        )


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise SettingsError(
            f"mqtt.ca_file {ca_file}: cannot be used ({explain(error)}); expected readable PEM certificates"
        ) from error


def _send_at_once(_client: Client, _userdata: object, connection: object) -> None:
    """Without this a verdict waits up to 40 ms for the broker's system to confirm the one before (Nagle)."""
    assert isinstance(connection, socket.socket)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _properties(packet_type: int) -> Properties:
    return Properties(packet_type)  # type: ignore[no-untyped-call]  # paho leaves it out
