"""The publisher against mosquitto, heard by a host that reads with the published schema.

Tests named `test_tck_id_…` cover that assertion of Sparkplug 3.0.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from benchmarks.rig.brokers import PATIENCE_S, Certificates, Mosquitto, wait_until
from edge.errors import SettingsError
from edge.publishers.sparkplug.publisher import BDSEQ_FILE, SparkplugPublisher
from edge.records import Box, Crop, FrameIdentity, Outcome, Reason, Verdict
from edge.settings.sections import MqttSettings, SparkplugSettings, StationSettings
from tests.edge.publishers.sparkplug.host import HOST_ID, NCMD, Host, rebirth_request

StartMosquitto = Callable[..., Mosquitto]
STATION = StationSettings(site="plant", line="line3", name="camera2")
CLIENT_ID = "patchline-plant-line3-camera2-sparkplug"
JPEG = b"\xff\xd8" + b"a picture of a defect" * 100


def verdict(seq: int) -> Verdict:
    return Verdict(
        identity=FrameIdentity(sequence=seq, captured_at_s=1000.0 + seq, captured_monotonic_s=0.0, part_id="½ ✓"),
        outcome=Outcome.FAIL,
        score=2.5,
        threshold=1.5,
        recipe="bottle",
        model="0123456789ab",
        crops=(Crop(index=0, box=Box(1, 2, 3, 4), jpeg=JPEG, sha256="ab" * 32),),
    )


def made(broker: Mosquitto, *, state_dir: Path | None = None, **values: object) -> SparkplugPublisher:
    settings = SparkplugSettings.model_validate({"enabled": True, "rebirth_interval_s": 0, **values})
    mqtt = MqttSettings(host=broker.host, port=broker.port, keepalive_s=5)
    return SparkplugPublisher(settings, mqtt, STATION, state_dir=state_dir)


def is_born(publisher: SparkplugPublisher) -> None:
    wait_until(lambda: publisher.report()["sparkplug_born"] == 1, "the edge node is born")


def take_over(broker: Mosquitto, client_id: str = CLIENT_ID) -> None:
    """Connect under the same client id: the broker ends the other connection and publishes its will."""
    client = Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTProtocolVersion.MQTTv311)
    client.connect(broker.host, broker.port)
    client.loop(0.2)
    client.disconnect()


def test_tck_id_message_flow_device_birth_publish_nbirth_wait(start_mosquitto: StartMosquitto) -> None:
    broker = start_mosquitto()
    with Host(broker) as host, made(broker) as publisher:
        is_born(publisher)
        publisher.take(verdict(1), 7, 1)
        [data] = host.wait_for("DDATA")
        assert [(one.topic, one.payload.seq) for one in host.heard("NBIRTH", "DBIRTH", "DDATA")] == [
            ("spBv1.0/plant/NBIRTH/line3-camera2", 0),
            ("spBv1.0/plant/DBIRTH/line3-camera2/camera2", 1),
            ("spBv1.0/plant/DDATA/line3-camera2/camera2", 2),
        ]
        assert data.historical == {False}
        assert {key: data.values[key] for key in ("epoch", "seq", "score", "ok", "verdict", "part_id", "time")} == {
            "epoch": 7,
            "seq": 1,
            "score": 2.5,
            "ok": False,
            "verdict": "FAIL",
            "part_id": "½ ✓",
            "time": 1_001_000,
        }
        assert JPEG[:20] not in data.payload.SerializeToString()


def test_tck_id_payloads_ddata_qos(start_mosquitto: StartMosquitto) -> None:
    """Every kind of message that the edge node publishes itself: QoS 0 and, for one who comes late, not retained."""
    broker = start_mosquitto()
    with Host(broker) as host, made(broker) as publisher:
        is_born(publisher)
        publisher.publish_health({"fps": 1.0})
        host.wait_for("NBIRTH", 2)
        publisher.publish_health({"fps": 2.0})
        publisher.take(verdict(1), 7, 1)
        host.wait_for("NDATA")
        host.wait_for("DDATA")
        publisher.publish_health({}, source_present=False)
        host.wait_for("DDEATH")
        for kind in ("NBIRTH", "DBIRTH", "NDATA", "DDATA", "DDEATH"):
            assert {(one.qos, one.retain) for one in host.heard(kind)} == {(0, False)}, kind
        with Host(broker, "late") as late:
            publisher.publish_health({}, source_present=True)
            late.wait_for("DBIRTH")
            assert [one.kind for one in late.heard("NBIRTH", "DBIRTH", "NDATA", "DDATA", "DDEATH")] == ["DBIRTH"]


def test_tck_id_message_flow_edge_node_birth_publish_will_message(start_mosquitto: StartMosquitto) -> None:
    broker = start_mosquitto()
    with Host(broker) as host, made(broker) as publisher:
        is_born(publisher)
        take_over(broker)
        births = host.wait_for("NBIRTH", 2)
        [death] = host.heard("NDEATH")
        assert death.topic == "spBv1.0/plant/NDEATH/line3-camera2"
        assert death.qos == 1
        assert death.values == {"bdSeq": 0}
        assert not death.payload.HasField("seq")
        assert [birth.values["bdSeq"] for birth in births] == [0, 1]
        assert [birth.payload.seq for birth in births] == [0, 0]
        with Host(broker, "late") as late:
            publisher.take(verdict(1), 7, 1)
            late.wait_for("DDATA")
            assert late.heard("NDEATH") == []  # not retained


def test_tck_id_principles_persistence_clean_session_311(start_mosquitto: StartMosquitto) -> None:
    broker = start_mosquitto()
    with made(broker) as publisher:
        is_born(publisher)
        assert f"as {CLIENT_ID} (p2, c1, k5)" in broker.log()  # MQTT 3.1.1, clean session, keep-alive


def test_tck_id_message_flow_edge_node_ncmd_subscribe(start_mosquitto: StartMosquitto) -> None:
    """Subscribed at QoS 1, before the birth."""
    broker = start_mosquitto("log_type all")
    with Host(broker) as host, made(broker, primary_host=HOST_ID) as publisher:
        host.announce(online=True, timestamp=1)
        is_born(publisher)
        host.wait_for("DBIRTH")
        log = broker.log()
        birth = log.index(f"Received PUBLISH from {CLIENT_ID}")
        for topic in (NCMD, f"spBv1.0/STATE/{HOST_ID}"):
            assert log.index(f"{CLIENT_ID} 1 {topic}") < birth


def test_tck_id_operational_behavior_data_commands_rebirth_action_2(start_mosquitto: StartMosquitto) -> None:
    broker = start_mosquitto()
    with Host(broker) as host, made(broker) as publisher:
        is_born(publisher)
        host.wait_for("DBIRTH")
        host.say(NCMD, rebirth_request())
        host.wait_for("DBIRTH", 2)
        publisher.take(verdict(1), 7, 1)
        host.wait_for("DDATA")
        messages = host.heard("NBIRTH", "DBIRTH", "DDATA")
        assert [one.kind for one in messages] == ["NBIRTH", "DBIRTH", "NBIRTH", "DBIRTH", "DDATA"]
        assert [one.payload.seq for one in messages] == [0, 1, 0, 1, 2]
        assert [one.values["bdSeq"] for one in host.heard("NBIRTH")] == [0, 0]
        assert host.heard("NDEATH") == []


def test_tck_id_payloads_ndeath_will_message_publisher_disconnect_mqtt311(start_mosquitto: StartMosquitto) -> None:
    """Closing says what is left, then the deaths, then DISCONNECT: the broker publishes no will."""
    broker = start_mosquitto()
    with Host(broker) as host:
        with made(broker) as publisher:
            is_born(publisher)
            for seq in range(1, 31):
                assert publisher.take(verdict(seq), 7, seq)
        host.wait_for("NDEATH")
        take_over(broker, "somebody-else")  # gives the broker time for a will, had it one
        host.say(NCMD, b"")
        kinds = [one.kind for one in host.heard("NBIRTH", "DBIRTH", "DDATA", "DDEATH", "NDEATH")]
        assert kinds == ["NBIRTH", "DBIRTH", *["DDATA"] * 30, "DDEATH", "NDEATH"]
        assert publisher.report()["sparkplug_kept"] == 0
        assert not publisher.alive


def test_tck_id_operational_behavior_edge_node_birth_sequence_wait(start_mosquitto: StartMosquitto) -> None:
    broker = start_mosquitto()
    with Host(broker) as host, made(broker, primary_host=HOST_ID) as publisher:
        wait_until(lambda: CLIENT_ID in broker.log(), "the edge node is connected")
        for seq in (1, 2, 3):
            assert publisher.take(verdict(seq), 7, seq)
        host.announce(online=False, timestamp=10)
        host.announce(online=True, timestamp=9)  # older: a dead host's
        host.say("spBv1.0/STATE/other", b'{"online":true,"timestamp":11}')
        wait_until(lambda: publisher.report()["sparkplug_ignored"] == 1, "the outdated STATE is heard")
        assert host.heard("NBIRTH", "DBIRTH", "DDATA") == []
        host.announce(online=True, timestamp=12)
        verdicts = host.wait_for("DDATA", 3)
        assert [one.values["seq"] for one in verdicts] == [1, 2, 3]
        assert [one.historical for one in verdicts] == [{True}] * 3
        assert [one.payload.metrics[0].timestamp for one in verdicts] == [1_001_000, 1_002_000, 1_003_000]
        assert host.heard("DBIRTH")[0].values["seq"] == 3


def test_tck_id_operational_behavior_edge_node_termination_host_offline(start_mosquitto: StartMosquitto) -> None:
    broker = start_mosquitto()
    with Host(broker) as host, made(broker, primary_host=HOST_ID) as publisher:
        host.announce(online=True, timestamp=1)
        is_born(publisher)
        host.announce(online=False, timestamp=2)
        [death] = host.wait_for("NDEATH")
        assert death.values == {"bdSeq": 0}
        wait_until(lambda: publisher.report()["sparkplug_reconnects"] == 1, "it connects again")
        publisher.take(verdict(1), 7, 1)
        assert host.heard("DDATA") == []
        host.announce(online=True, timestamp=3)
        assert host.wait_for("NBIRTH", 2)[1].values["bdSeq"] == 1
        assert host.wait_for("DDATA")[0].historical == {True}
        assert len(host.heard("NDEATH")) == 1


def test_tck_id_operational_behavior_device_ddeath(start_mosquitto: StartMosquitto) -> None:
    broker = start_mosquitto()
    with Host(broker) as host, made(broker) as publisher:
        is_born(publisher)
        publisher.publish_health({}, source_present=False)
        host.wait_for("DDEATH")
        publisher.take(verdict(1), 7, 1)
        publisher.publish_health({}, source_present=True)
        host.wait_for("DDATA")
        messages = host.heard("NBIRTH", "DBIRTH", "DDEATH", "DDATA")
        assert [one.kind for one in messages] == ["NBIRTH", "DBIRTH", "DDEATH", "DBIRTH", "DDATA"]
        assert [one.payload.seq for one in messages] == [0, 1, 2, 3, 4]


def test_tck_id_payloads_sequence_num_incrementing(start_mosquitto: StartMosquitto) -> None:
    broker = start_mosquitto("max_queued_messages 10000")
    with Host(broker) as host, made(broker) as publisher:
        is_born(publisher)
        for seq in range(1, 601):
            assert publisher.take(verdict(seq), 7, seq)
        host.wait_for("DDATA", 600)
        messages = host.heard("NBIRTH", "DBIRTH", "DDATA")
        assert [one.payload.seq for one in messages] == [index % 256 for index in range(602)]
        assert publisher.flush(PATIENCE_S)


def test_verdicts_lost_in_a_dead_broker_are_sent_again_as_history(start_mosquitto: StartMosquitto) -> None:
    """QoS 0: written to the socket, never read. They are kept until the broker has shown that it read them."""
    broker = start_mosquitto()
    with Host(broker) as host, made(broker) as publisher:
        is_born(publisher)
        publisher.take(verdict(1), 7, 1)
        assert publisher.flush(PATIENCE_S)
        broker.freeze()
        for seq in range(2, 12):
            publisher.take(verdict(seq), 7, seq)
        wait_until(lambda: publisher.report()["sparkplug_sent"] == 11, "they are written")
        assert publisher.report()["sparkplug_kept"] == 10
        publisher.publish_health({}, source_present=False)  # until the host, too, is back
        again = host.reconnected()
        broker.kill()
        broker.start()
        wait_until(again, "the host subscribes again")
        assert host.heard("DDATA")[-1].values["seq"] == 1
        publisher.publish_health({}, source_present=True)
        verdicts = host.wait_for("DDATA", 11)
        assert [one.values["seq"] for one in verdicts] == list(range(1, 12))
        assert [one.historical for one in verdicts] == [{False}, *[{True}] * 10]
        assert publisher.flush(PATIENCE_S)


def test_verdicts_beyond_the_capacity_are_refused_and_counted(start_mosquitto: StartMosquitto) -> None:
    broker = start_mosquitto()
    publisher = made(broker, capacity=10)
    assert [publisher.take(verdict(seq), 7, seq) for seq in range(12)] == [True] * 10 + [False] * 2
    assert publisher.report()["sparkplug_refused"] == 2
    with Host(broker) as host, publisher:
        host.wait_for("DDATA", 10)
        assert publisher.flush(PATIENCE_S)
        assert publisher.take(verdict(12), 7, 12)


def test_a_verdict_of_the_backlog_is_history(start_mosquitto: StartMosquitto) -> None:
    broker = start_mosquitto()
    with Host(broker) as host, made(broker) as publisher:
        is_born(publisher)
        publisher.take(verdict(1), 7, 1, is_backlog=True)
        assert host.wait_for("DDATA")[0].historical == {True}


def test_bdseq_goes_on_where_the_process_before_ended(start_mosquitto: StartMosquitto, tmp_path: Path) -> None:
    broker = start_mosquitto()
    with Host(broker) as host:
        for _ in range(3):
            with made(broker, state_dir=tmp_path / "state") as publisher:
                is_born(publisher)
        host.wait_for("NDEATH", 3)
        assert [one.values["bdSeq"] for one in host.heard("NBIRTH")] == [0, 1, 2]
        assert [one.values["bdSeq"] for one in host.heard("NDEATH")] == [0, 1, 2]
    assert (tmp_path / "state" / BDSEQ_FILE).read_text() == "3\n"


def test_a_spoilt_number_file_begins_at_zero(start_mosquitto: StartMosquitto, tmp_path: Path) -> None:
    broker = start_mosquitto()
    (tmp_path / BDSEQ_FILE).write_bytes(b"\xffmany")
    with Host(broker) as host, made(broker, state_dir=tmp_path) as publisher:
        is_born(publisher)
        assert host.wait_for("NBIRTH")[0].values["bdSeq"] == 0


def test_over_mutual_tls(start_mosquitto: StartMosquitto, certificates: Certificates) -> None:
    broker = start_mosquitto(
        listener=f"cafile {certificates.path('ca.crt')}\ncertfile {certificates.path('localhost.crt')}\n"
        f"keyfile {certificates.path('localhost.key')}\nrequire_certificate true\nuse_identity_as_username true"
    )
    mqtt = MqttSettings(
        host="localhost",
        port=broker.port,
        tls=True,
        ca_file=certificates.path("ca.crt"),
        certificate_file=certificates.path("station.crt"),
        key_file=certificates.path("station.key"),
    )
    with SparkplugPublisher(SparkplugSettings(enabled=True), mqtt, STATION) as publisher:
        is_born(publisher)
        publisher.take(verdict(1), 7, 1)
        assert publisher.flush(PATIENCE_S)


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_broker_of_another_authority_gets_no_verdict(
    start_mosquitto: StartMosquitto, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    broker = start_mosquitto(
        listener=f"certfile {certificates.path('localhost.crt')}\nkeyfile {certificates.path('localhost.key')}\n"
        "allow_anonymous true"
    )
    mqtt = MqttSettings(host="localhost", port=broker.port, tls=True, ca_file=certificates.path("other-ca.crt"))
    with (
        caplog.at_level(logging.INFO, "patchline.sparkplug"),
        SparkplugPublisher(SparkplugSettings(enabled=True), mqtt, STATION) as publisher,
    ):
        publisher.take(verdict(1), 7, 1)
        wait_until(lambda: "certificate is refused" in caplog.text, "the refusal is logged")
        assert publisher.report()["sparkplug_sent"] == 0
        assert publisher.report()["sparkplug_kept"] == 1


def refuse_subscriptions(listener: socket.socket) -> None:
    """An MQTT 3.1.1 broker that accepts every client and none of its subscriptions (mosquitto 2.0 refuses none)."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection, contextlib.suppress(OSError):  # the client may reset it
            connection.recv(4096)  # CONNECT
            connection.sendall(b"\x20\x02\x00\x00")
            subscribe = connection.recv(4096)
            connection.sendall(b"\x90\x03" + subscribe[2:4] + b"\x80")
            connection.recv(4096)


def test_a_refused_subscription_is_named_and_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    broker = threading.Thread(target=refuse_subscriptions, args=(listener,))
    broker.start()
    mqtt = MqttSettings(port=listener.getsockname()[1])
    with SparkplugPublisher(SparkplugSettings(enabled=True), mqtt, STATION) as publisher:
        wait_until(lambda: publisher.report()["sparkplug_reconnects"] >= 1, "it tries again")
        assert publisher.report()["sparkplug_births"] == 0
    assert caplog.text.count(f"refuses a subscription: allow {CLIENT_ID} to read {NCMD}") == 1
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    broker.join(PATIENCE_S)


def test_a_wrong_password_is_logged_and_tried_again(
    start_mosquitto: StartMosquitto, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "users").write_text("")
    broker = start_mosquitto(f"password_file {tmp_path / 'users'}", listener="allow_anonymous false")
    with caplog.at_level(logging.INFO, "patchline.sparkplug"), made(broker) as publisher:
        wait_until(lambda: publisher.report()["sparkplug_reconnects"] >= 1, "it tries again")
        assert "check the user, its password and the client id" in caplog.text
        assert publisher.alive


def test_closing_without_a_broker_ends_at_once_and_says_what_is_left(caplog: pytest.LogCaptureFixture) -> None:
    publisher = SparkplugPublisher(SparkplugSettings(enabled=True), MqttSettings(port=1), STATION)
    publisher.take(verdict(1), 7, 1)
    publisher.start()
    publisher.close()
    publisher.close()
    assert not publisher.alive
    assert not publisher.take(verdict(2), 7, 2)
    assert "closed with 1 verdicts that the broker does not have" in caplog.text


def test_a_publisher_that_was_never_started_can_be_closed() -> None:
    publisher = SparkplugPublisher(SparkplugSettings(enabled=True), MqttSettings(), STATION)
    publisher.close()
    assert not publisher.alive


def test_files_are_checked_before_anything_is_started(tmp_path: Path) -> None:
    mqtt = MqttSettings(user="station", password_file=tmp_path / "nowhere")
    with pytest.raises(SettingsError, match=r"mqtt.password_file .*nowhere: cannot be read"):
        SparkplugPublisher(SparkplugSettings(enabled=True), mqtt, STATION)


def test_a_broker_of_its_own_stands_over_the_shared_one(start_mosquitto: StartMosquitto) -> None:
    broker = start_mosquitto()
    settings = SparkplugSettings(
        enabled=True, mqtt=MqttSettings(host=broker.host, port=broker.port, client_id="my-edge-node")
    )
    with SparkplugPublisher(settings, MqttSettings(port=1), STATION) as publisher:
        is_born(publisher)
    assert "as my-edge-node (" in broker.log()


def test_a_no_result_says_its_reason(start_mosquitto: StartMosquitto) -> None:
    broker = start_mosquitto()
    late = Verdict(
        identity=FrameIdentity(sequence=1, captured_at_s=1.0, captured_monotonic_s=0.0, trigger_id="T-17"),
        outcome=Outcome.NO_RESULT,
        score=0.0,
        threshold=1.5,
        recipe="bottle",
        model="0123456789ab",
        reason=Reason.DEADLINE_MISSED,
    )
    with Host(broker) as host, made(broker) as publisher:
        is_born(publisher)
        publisher.take(late, 7, 1)
        values = host.wait_for("DDATA")[0].values
        assert (values["verdict"], values["reason"], values["trigger_id"]) == ("NO_RESULT", "deadline_missed", "T-17")
