"""The example broker settings, as they are: who may do what, and that nothing acknowledged is lost."""

from __future__ import annotations

import functools
import json
import os
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from benchmarks.rig.brokers import HOST, PATIENCE_S, Certificates, Mosquitto, find_mosquitto, wait_until
from demo.broker import free_port
from edge.protocol.commands import Answer, Reader, Request
from edge.protocol.messages import crop_messages, health_message, status_message, verdict_message
from edge.protocol.topics import StationTopics
from edge.protocol.topics import Status as StationStatus
from edge.publishers.mqtt.publisher import MqttPublisher
from edge.publishers.mqtt.reasons import NOT_AUTHORIZED
from edge.records import Message
from edge.settings.sections import CommandSettings, DefectSettings, MqttSettings
from tests.clients import Requester
from tests.edge.publishers.mqtt.test_publisher import VERDICT, write_private
from tests.places import ROOT

EXAMPLE = ROOT / "configs" / "mosquitto"
TOPICS = StationTopics(root="patchline", site="plant1", line="line1", name="station1")
OTHER = StationTopics(root="patchline", site="plant1", line="line1", name="station2")
USERS = ("station1", "plc1", "reader", "operator")


class ExampleBroker(Mosquitto):
    """mosquitto with the example's files; only paths, port and user are others."""

    def __init__(self, directory: Path, certificates: Certificates) -> None:
        self.host = "localhost"
        self.port = free_port()
        self._log = directory / "mosquitto.log"
        self._configuration = directory / "patchline.conf"
        self._process = None
        self._install(directory, certificates)
        self.start()

    def _install(self, directory: Path, certificates: Certificates) -> None:
        (directory / "certs").mkdir()
        shutil.copy(certificates.path("ca.crt"), directory / "certs" / "ca.crt")
        for kind in ("crt", "key"):
            shutil.copy(certificates.path(f"localhost.{kind}"), directory / "certs" / f"broker.{kind}")
        shutil.copy(EXAMPLE / "acl", directory / "acl")
        for user in USERS:
            create = [] if (directory / "passwords").exists() else ["-c"]
            subprocess.run(
                ["mosquitto_passwd", "-b", *create, directory / "passwords", user, f"secret-{user}"], check=True
            )
        text = (EXAMPLE / "patchline.conf").read_text()
        for old, new in (
            ("/etc/mosquitto/", f"{directory}/"),
            ("/var/lib/mosquitto/", f"{directory}/"),
            ("listener 8883", f"listener {self.port} {HOST}"),
        ):
            assert old in text
            text = text.replace(old, new)
        # Started by root it would become a user who cannot read our files.
        self._configuration.write_text(f"user root\n{text}" if os.getuid() == 0 else text)


@pytest.fixture
def broker(tmp_path: Path, certificates: Certificates) -> Iterator[ExampleBroker]:
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed (Debian: apt-get install mosquitto)")
    with ExampleBroker(tmp_path, certificates) as running:
        yield running


@pytest.fixture
def context(certificates: Certificates) -> ssl.SSLContext:
    found = ssl.create_default_context(cafile=certificates.path("ca.crt"))
    found.load_cert_chain(certificates.path("station.crt"), certificates.path("station.key"))
    return found


def settings(
    broker: ExampleBroker, certificates: Certificates, tmp_path: Path, user: str | None = "station1"
) -> MqttSettings:
    write_private(tmp_path / "password", f"secret-{user}\n".encode())
    return MqttSettings(
        host=broker.host,
        port=broker.port,
        user=user,
        password_file=None if user is None else tmp_path / "password",
        tls=True,
        ca_file=certificates.path("ca.crt"),
        certificate_file=certificates.path("station.crt"),
        key_file=certificates.path("station.key"),
    )


class Listener:
    """Any user who subscribes."""

    def __init__(self, broker: ExampleBroker, user: str, context: ssl.SSLContext, topic_filter: str) -> None:
        self.messages: list[MQTTMessage] = []
        self.ready: list[int] = []
        self._client = Client(CallbackAPIVersion.VERSION2, client_id=user, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.username_pw_set(user, f"secret-{user}")
        self._client.tls_set_context(context)
        self._client.on_connect = lambda client, *_: client.subscribe(topic_filter, qos=1)
        self._client.on_subscribe = lambda *_: self.ready.append(1)
        self._client.on_message = lambda _client, _userdata, message: self.messages.append(message)
        self._client.connect(broker.host, broker.port)
        self._client.loop_start()
        wait_until(lambda: bool(self.ready), "the subscription is answered")

    def topics(self) -> list[str]:
        return [message.topic for message in list(self.messages)]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def test_a_station_writes_its_own_topics_and_is_refused_elsewhere(
    broker: ExampleBroker, certificates: Certificates, tmp_path: Path, context: ssl.SSLContext
) -> None:
    codes: dict[str, int] = {}

    verdict = verdict_message(TOPICS, VERDICT, 0, 1)
    own = [verdict, *crop_messages(TOPICS, VERDICT, 0, 1), Message(TOPICS.alarm("x"), b"{}", 1, retain=True)]
    foreign = [
        verdict_message(OTHER, VERDICT, 0, 1),
        status_message(OTHER, StationStatus.OFFLINE),
        Message(f"{OTHER.base}/cmd/pause", b"", 1),
        Message("spBv1.0/x", b"", 1),
    ]
    subscriber = Listener(broker, "reader", context, "patchline/#")
    with MqttPublisher(settings(broker, certificates, tmp_path), TOPICS) as publisher:
        for message in [*own, *foreign, health_message(TOPICS, {"fps": 1.0})]:
            assert publisher.send(message, PATIENCE_S, functools.partial(codes.__setitem__, message.topic))
        assert publisher.flush(PATIENCE_S)
    assert {topic: code for topic, code in codes.items() if code < 0x80}.keys() == {one.topic for one in own}
    assert {codes[message.topic] for message in foreign} == {NOT_AUTHORIZED}
    wait_until(lambda: subscriber.topics().count(TOPICS.status) == 2, "online and stopped arrive")
    subscriber.close()
    assert {TOPICS.verdict, TOPICS.crop(0), TOPICS.alarm("x"), TOPICS.health} <= set(subscriber.topics())
    assert not any(topic.startswith(OTHER.base) for topic in subscriber.topics())


def test_commands_reach_the_station_that_they_are_for_and_nobody_else(
    broker: ExampleBroker, certificates: Certificates, tmp_path: Path, context: ssl.SSLContext
) -> None:
    reader = Reader(CommandSettings(enabled=True), TOPICS.base)
    heard: list[Request] = []
    elsewhere: list[Request] = []
    spy = Listener(broker, "reader", context, "patchline/#")
    with MqttPublisher(settings(broker, certificates, tmp_path), TOPICS) as publisher:

        def answer(request: Request) -> None:
            (heard if request.topic.startswith(TOPICS.base) else elsewhere).append(request)
            publisher.reply(reader.reply(request, Answer()))

        publisher.listen("patchline/+/+/+/cmd/+", answer)  # a station that wants to hear everything
        with (
            Requester(broker, TOPICS.base, name="operator", password="secret-operator", tls=context) as operator,
            Requester(broker, TOPICS.base, name="plc1", password="secret-plc1", tls=context) as plc,
        ):
            operator.await_listener("pause")
            operator.base = OTHER.base
            operator.send("pause", b"for another station")
            plc.send("pause", b"a PLC may only trigger")
            assert json.loads(plc.ask("trigger", b"{}", correlation=b"1").payload)["ok"] == 1
    spy.close()
    assert elsewhere == []
    assert {request.topic for request in heard} == {f"{TOPICS.base}/cmd/pause", f"{TOPICS.base}/cmd/trigger"}
    assert all(request.payload != b"a PLC may only trigger" for request in heard)
    assert not any("/cmd/" in topic or "/reply/" in topic for topic in spy.topics())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # sockets that paho leaves behind
@pytest.mark.parametrize("user", [None, "stranger"])
def test_who_is_not_known_is_never_connected(
    broker: ExampleBroker, certificates: Certificates, tmp_path: Path, user: str | None
) -> None:
    with MqttPublisher(settings(broker, certificates, tmp_path, user), TOPICS) as publisher:
        wait_until(lambda: broker.contacts() >= 4, "the publisher keeps trying")
        assert not publisher.counters.connected
    assert "New client connected" not in broker.log()


def test_what_was_acknowledged_survives_a_restart_of_the_broker(
    broker: ExampleBroker, certificates: Certificates, tmp_path: Path, context: ssl.SSLContext
) -> None:
    with MqttPublisher(settings(broker, certificates, tmp_path), TOPICS) as publisher:
        assert publisher.send(Message(TOPICS.alarm("x"), b"{}", 1, retain=True), PATIENCE_S)
        assert publisher.flush(PATIENCE_S)
    broker.close()
    broker.start()

    late = Listener(broker, "reader", context, "patchline/#")
    wait_until(lambda: {TOPICS.alarm("x"), TOPICS.status} <= set(late.topics()), "retained messages are still there")
    late.close()


def test_the_limits_let_the_largest_messages_of_a_station_through() -> None:
    lines = dict(
        line.split(maxsplit=1)
        for line in (EXAMPLE / "patchline.conf").read_text().splitlines()
        if line and not line.startswith("#")
    )
    largest_crop = DefectSettings().crop_max_bytes + 2048
    assert int(lines["max_packet_size"]) >= largest_crop
    assert int(lines["message_size_limit"]) >= largest_crop
    assert int(lines["max_inflight_messages"]) >= MqttSettings().window
    assert lines["allow_anonymous"] == "false"
    assert lines["require_certificate"] == "true"
