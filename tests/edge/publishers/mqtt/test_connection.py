"""One connection against a broker that says whatever a test wants, over a real socket."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from paho.mqtt.enums import MQTTProtocolVersion

from benchmarks.rig.brokers import HOST, PATIENCE_S, connack
from edge.publishers.mqtt.client import MAX_UNSENT_PACKETS, BoundedClient, Violation
from edge.publishers.mqtt.connection import Connection
from edge.publishers.mqtt.events import COMMAND_PACKET_BYTES, Connack, Disconnected, Event, Introduction, Received
from edge.publishers.mqtt.reasons import QUOTA_EXCEEDED
from edge.settings.sections import MqttSettings

MQTT_5, MQTT_3 = MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311
VERSIONS = pytest.mark.parametrize("version", [MQTT_5, MQTT_3], ids=["mqtt5", "mqtt3"])
TOPIC = b"\x00\x05n/cmd"
MEGABYTE = bytes(2**20)
Say = Callable[[socket.socket], None]


@contextmanager
def connection_to(say: Say, version: MQTTProtocolVersion, *, accept: bool = True) -> Iterator[Connection]:
    """Connected to a broker that accepts, unless told otherwise, then does what `say` does, and reads until the end."""
    with socket.create_server((HOST, 0)) as listener:

        def serve() -> None:
            stream, _ = listener.accept()
            with stream, contextlib.suppress(OSError):
                stream.recv(65_536)
                stream.sendall((connack() if version == MQTT_5 else b"\x20\x02\0\0") if accept else b"")
                say(stream)
                stream.shutdown(socket.SHUT_WR)
                while stream.recv(65_536):
                    pass

        broker = threading.Thread(target=serve)
        broker.start()
        connection = Connection(MqttSettings(port=listener.getsockname()[1]), Introduction("n", protocol=version))
        try:
            yield connection
        finally:
            connection.abort()
            broker.join(PATIENCE_S)


def events_of(connection: Connection) -> list[Event]:
    """All of them, until it ends."""
    events: list[Event] = []
    while connection.loop(PATIENCE_S):
        events += connection.take_events()
    return events + connection.take_events()


def publish(payload: bytes, version: MQTTProtocolVersion, qos: int = 0) -> bytes:
    body = TOPIC + (b"\x00\x01" if qos else b"") + (b"\x00" if version == MQTT_5 else b"") + payload
    return bytes([0x30 | qos << 1]) + variable(len(body)) + body


def variable(number: int) -> bytes:
    """MQTT's variable byte integer."""
    encoded = b""
    while True:
        number, low = divmod(number, 128)
        encoded += bytes([low | (0x80 if number else 0)])
        if not number:
            return encoded


def test_a_packet_larger_than_was_announced_ends_the_connection_before_it_is_read() -> None:
    sent = 0

    def stream(broker: socket.socket) -> None:
        nonlocal sent
        broker.sendall(b"\x30\xff\xff\xff\x7f" + TOPIC + b"\0")
        while sent < 256:
            broker.sendall(MEGABYTE)
            sent += 1

    with connection_to(stream, MQTT_5) as connection:
        *_, end = events_of(connection)
        assert isinstance(end, Disconnected)
        assert end.violation == (
            f"it sends 268435455 bytes in one packet, though we announced {COMMAND_PACKET_BYTES} at the most"
        )
    assert sent < 16  # what the sockets hold


def test_where_no_limit_can_be_announced_only_the_beginning_of_a_packet_is_kept() -> None:
    def stream(broker: socket.socket) -> None:
        broker.sendall(b"\x30" + variable(len(TOPIC) + 64 * len(MEGABYTE)) + TOPIC)
        for _ in range(64):
            broker.sendall(MEGABYTE)
        broker.sendall(publish(b"the next", MQTT_3))

    with connection_to(stream, MQTT_3) as connection:
        received = [event for event in events_of(connection) if isinstance(event, Received)]
    assert [one.topic for one in received] == ["n/cmd", "n/cmd"]
    assert COMMAND_PACKET_BYTES < len(received[0].payload) < 10 * COMMAND_PACKET_BYTES
    assert received[1].payload == b"the next"


@VERSIONS
def test_a_packet_of_the_greatest_size_is_taken(version: MQTTProtocolVersion) -> None:
    overhead = len(TOPIC) + (version == MQTT_5)
    largest = bytes(COMMAND_PACKET_BYTES - overhead)
    with connection_to(lambda broker: broker.sendall(publish(largest, version)), version) as connection:
        (received,) = [event for event in events_of(connection) if isinstance(event, Received)]
    assert received.payload == largest


@VERSIONS
def test_a_message_at_a_quality_that_nobody_asked_for_ends_the_connection(version: MQTTProtocolVersion) -> None:
    """It would have to be kept until the broker lets it go, and a second one, and a third."""
    flood = publish(b"x", version, qos=2) * 10_000
    with connection_to(lambda broker: broker.sendall(flood), version) as connection:
        *_, end = events_of(connection)
    assert isinstance(end, Disconnected)
    assert end.violation == "it sends at QoS 2, though we subscribed at QoS 1"


def test_a_broker_that_asks_and_never_reads_our_answers_is_left() -> None:
    client = BoundedClient("n", MQTT_5, COMMAND_PACKET_BYTES, manual_ack=True)
    for _ in range(MAX_UNSENT_PACKETS):
        client.ack(1, 1)
    before = client.violation
    client.ack(1, 1)

    assert before is None
    assert client.violation == Violation("it asks and does not read our answers", QUOTA_EXCEEDED)


@VERSIONS
def test_an_answer_to_connect_says_what_the_broker_can(version: MQTTProtocolVersion) -> None:
    with connection_to(lambda _: None, version) as connection:
        first, *_ = events_of(connection)
    assert isinstance(first, Connack)
    assert (first.max_qos, first.retains, first.session_present) == (2, True, False)


PACKET = st.builds(
    lambda first, body: bytes([first, len(body)]) + body,
    st.integers(0, 255),
    st.one_of(st.binary(max_size=30), st.binary(max_size=20).map(TOPIC.__add__)),
)


@VERSIONS
@settings(max_examples=40)
@given(garbage=st.lists(st.one_of(PACKET, st.binary(max_size=12)), min_size=1, max_size=5), accept=st.booleans())
@example(garbage=[b"\x30\x09\x00\x02\xff\xfe\x00ab"], accept=True)  # a topic that is not UTF-8
@example(garbage=[b"\x40\x04\x00\x01\x42\x00"], accept=True)  # a reason code that does not exist
@example(garbage=[b"\x20\x03\x00\x00\x00", b"\xe0\x01\xff"], accept=False)
def test_whatever_comes_is_an_event_or_the_end(
    version: MQTTProtocolVersion, garbage: list[bytes], accept: bool
) -> None:
    with connection_to(lambda broker: broker.sendall(b"".join(garbage)), version, accept=accept) as connection:
        *_, end = events_of(connection)
    assert isinstance(end, Disconnected)
