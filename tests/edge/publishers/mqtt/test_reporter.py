"""What people are told of a connection that does not come about, or does not last: one line, and what to do."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from benchmarks.rig.brokers import Certificates, Mosquitto, RecordingBroker, wait_until
from edge.protocol.topics import StationTopics
from edge.publishers.mqtt.publisher import MqttPublisher
from tests.edge.publishers.mqtt.test_publisher import (
    MAXIMUM_PACKET_SIZE_2000,
    TOPICS,
    settings_for,
    tls_listener,
    verdicts,
)

StartMosquitto = Callable[..., Mosquitto]
MAXIMUM_QOS_0 = b"\x24\x00"
MAXIMUM_QOS_1 = b"\x24\x01"


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno > logging.INFO]


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (0x86, "check the user, its password and the client id"),
        (0x87, "check the user, its password and the client id"),
        (0x85, "choose another mqtt.client_id"),
        (0x90, "allow the topics of this station"),
        (0x9B, "allow QoS 1 at the broker"),
        (0x9C, "put the other broker's name into mqtt.host"),
        (0x80, "the broker log may say why"),
    ],
)
def test_a_refusal_is_one_line_with_what_to_do_about_this_one(
    caplog: pytest.LogCaptureFixture, code: int, advice: str
) -> None:
    with RecordingBroker(accept=code) as broker, MqttPublisher(settings_for(broker), TOPICS) as publisher:
        wait_until(lambda: broker.connections >= 2, "the publisher keeps trying")
        assert f"(0x{code:02X})" in publisher.trouble
    (line,) = complaints(caplog)
    assert f"refuses us: {publisher.trouble.removeprefix('refuses us: ')}" in line
    assert advice in line


def test_a_broker_that_acknowledges_nothing_is_refused_and_gets_no_verdict(caplog: pytest.LogCaptureFixture) -> None:
    with (
        RecordingBroker(limits=MAXIMUM_QOS_0) as broker,
        MqttPublisher(settings_for(broker), TOPICS) as publisher,
    ):
        wait_until(lambda: broker.connections >= 3, "the publisher keeps trying")
        assert not publisher.send(verdicts(1)[0], timeout_s=0)
        assert publisher.trouble
    assert broker.received == []
    (line,) = complaints(caplog)
    assert "takes messages at QoS 0 only (Maximum QoS 0)" in line


@pytest.mark.parametrize("limits", [MAXIMUM_QOS_1, MAXIMUM_PACKET_SIZE_2000])
def test_a_broker_that_acknowledges_is_no_trouble(limits: bytes) -> None:
    with RecordingBroker(limits=limits) as broker, MqttPublisher(settings_for(broker), TOPICS) as publisher:
        wait_until(lambda: publisher.trouble == "", "all is well")


def test_two_stations_with_one_client_id_are_told_so_once_though_they_connect_again_and_again(
    start_mosquitto: StartMosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    settings = settings_for(start_mosquitto(), client_id="camera")
    other = StationTopics(root="patchline", site="s", line="l", name="other")
    with MqttPublisher(settings, TOPICS) as first, MqttPublisher(settings, other) as second:
        wait_until(lambda: "does another client use" in first.trouble + second.trouble, "somebody suspects it")
        suspect = first if "does another client use" in first.trouble else second
        at_first = suspect.counters.reconnects
        wait_until(lambda: suspect.counters.reconnects > at_first, "it connects once more")
        assert "does another client use the client id camera?" in suspect.trouble  # though the broker is there
    said = [line for line in complaints(caplog) if "does another client use the client id camera?" in line]
    assert 1 <= len(said) <= 2  # each of them


def test_a_broker_that_says_who_took_the_session_is_believed(caplog: pytest.LogCaptureFixture) -> None:
    taken_over = b"\xe0\x02\x8e\x00"
    with (
        RecordingBroker(then=lambda _, connection: connection.sendall(taken_over)) as broker,
        MqttPublisher(settings_for(broker), TOPICS),
    ):
        wait_until(lambda: broker.connections >= 2, "the publisher keeps trying")
    assert "Session taken over (0x8E); another client uses our client id" in complaints(caplog)[0]


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tls_to_a_plain_port_is_told(start_mosquitto: StartMosquitto, caplog: pytest.LogCaptureFixture) -> None:
    broker = start_mosquitto()
    with MqttPublisher(settings_for(broker, tls=True), TOPICS):
        wait_until(lambda: broker.contacts() >= 3, "the publisher keeps trying")
    assert all(line.endswith("does the broker speak TLS on mqtt.port?") for line in complaints(caplog))
    assert complaints(caplog)


def test_plain_text_to_a_port_for_tls_is_told(
    start_mosquitto: StartMosquitto, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    broker = start_mosquitto(listener=tls_listener(certificates))
    with MqttPublisher(settings_for(broker), TOPICS):
        wait_until(lambda: broker.contacts() >= 3, "the publisher keeps trying")
    (line,) = complaints(caplog)
    assert "does it expect TLS there (mqtt.tls)" in line
