from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from benchmarks.rig.brokers import (
    CLOSE,
    PATIENCE_S,
    SILENCE,
    Broker,
    Certificates,
    Doorkeeper,
    Mosquitto,
    Received,
    RecordingBroker,
    Subscriber,
    connack,
    wait_until,
)
from edge.errors import SettingsError
from edge.protocol.messages import crop_messages, health_message, last_message, verdict_message
from edge.protocol.topics import StationTopics
from edge.publishers.mqtt.credentials import tls_context
from edge.publishers.mqtt.packets import packet_bytes
from edge.publishers.mqtt.publisher import MqttPublisher
from edge.publishers.mqtt.traffic import Link
from edge.publishers.mqtt.window import MAX_STRIKES
from edge.records import Box, Crop, FrameIdentity, Message, Outcome, Verdict
from edge.settings.sections import MqttSettings

TOPICS = StationTopics(root="patchline", site="s", line="l", name="n")
JPEG = b"\xff\xd8" + bytes(range(256)) * 384
VERDICT = Verdict(
    identity=FrameIdentity(sequence=0, captured_at_s=0.0, captured_monotonic_s=0.0, part_id="Flasche ½ ✓"),
    outcome=Outcome.FAIL,
    score=2.0,
    threshold=1.0,
    recipe="bottle",
    model="0123456789ab",
    crops=(Crop(index=0, box=Box(1, 2, 3, 4), jpeg=JPEG, sha256=hashlib.sha256(JPEG).hexdigest()),),
)
StartMosquitto = Callable[..., Mosquitto]

# CONNACK properties of MQTT 5, section 3.2.2.3.
RECEIVE_MAXIMUM_3 = b"\x21\x00\x03"
MAXIMUM_PACKET_SIZE_2000 = b"\x27\x00\x00\x07\xd0"
QUOTA_EXCEEDED = 0x97
NOT_AUTHORIZED = 0x87
PACKET_TOO_LARGE = 0x95
PROTOCOL_ERROR = 0x82


def settings_for(broker: Broker | RecordingBroker, **values: object) -> MqttSettings:
    return MqttSettings.model_validate({"host": broker.host, "port": broker.port, "keepalive_s": 5, **values})


def connected(settings: MqttSettings) -> MqttPublisher:
    publisher = MqttPublisher(settings, TOPICS)
    wait_until(lambda: publisher.counters.connected, "the publisher connects")
    return publisher


def verdicts(count: int, start: int = 0) -> list[Message]:
    return [verdict_message(TOPICS, VERDICT, 0, seq) for seq in range(start, start + count)]


Answers = list[tuple[Message, int]]


def send_all(publisher: MqttPublisher, messages: list[Message], answers: Answers | None = None) -> None:
    """Send `messages`; what becomes of each goes to `answers`."""
    for message in messages:
        note = None if answers is None else functools.partial(_note, answers, message)
        assert publisher.send(message, PATIENCE_S, note), f"{message.topic} was not taken"


def _note(answers: Answers, message: Message, code: int) -> None:
    answers.append((message, code))


def payloads(messages: list[Message]) -> list[bytes]:
    return [message.payload for message in messages]


# What arrives.


def test_a_verdict_and_its_crop_arrive_byte_for_byte_with_their_properties(broker: Broker) -> None:
    verdict = verdict_message(TOPICS, VERDICT, 0, 7)
    (crop,) = crop_messages(TOPICS, VERDICT, 0, 7)
    with Subscriber(broker) as subscriber, connected(settings_for(broker)) as publisher:
        send_all(publisher, [verdict, crop])
        assert publisher.flush(PATIENCE_S)

        assert subscriber.wait_for(1, "/verdict") == [verdict.payload]
        assert subscriber.wait_for(1, "/crop/0") == [JPEG]
        assert publisher.counters.acknowledged == 2
        arrived = next(message for message in subscriber.messages if message.topic.endswith("/crop/0"))
        assert arrived.properties is not None
        properties = vars(arrived.properties)
        assert properties["ContentType"] == "image/jpeg"
        assert tuple(properties["UserProperty"]) == crop.user_properties


def test_a_message_that_expires_says_after_what_time(start_mosquitto: StartMosquitto) -> None:
    broker = start_mosquitto()
    crop = dataclasses.replace(crop_messages(TOPICS, VERDICT, 0, 7)[0], expiry_s=600)
    with Subscriber(broker) as subscriber, connected(settings_for(broker)) as publisher:
        send_all(publisher, [crop])

        subscriber.wait_for(1, "/crop/0")
        arrived = next(message for message in subscriber.messages if message.topic.endswith("/crop/0"))
        assert 0 < vars(arrived.properties)["MessageExpiryInterval"] <= 600


def test_every_connection_has_a_number_and_tells_the_brokers_limit() -> None:
    with RecordingBroker(limits=MAXIMUM_PACKET_SIZE_2000) as broker, connected(settings_for(broker)) as publisher:
        assert publisher.link == Link(1, 2000)
        broker.cut()
        wait_until(lambda: publisher.link == Link(2, 2000), "the publisher comes back")
    assert publisher.link is None


def test_the_newest_verdict_waits_for_late_joiners(broker: Broker) -> None:
    first, second = (last_message(TOPICS, verdict) for verdict in verdicts(2))
    with connected(settings_for(broker)) as publisher:
        send_all(publisher, [first, second])
        assert publisher.flush(PATIENCE_S)
        send_all(publisher, verdicts(1))  # its answer says that the broker has read what went before
        assert publisher.flush(PATIENCE_S)

        with Subscriber(broker) as late:
            assert late.wait_for(1, "/last") == [second.payload]


def test_a_station_says_online_then_stopped(broker: Broker) -> None:
    with Subscriber(broker) as subscriber:
        with connected(settings_for(broker)):
            assert subscriber.wait_for(1, "/status") == [b"online"]

        assert subscriber.wait_for(2, "/status") == [b"online", b"stopped"]
    with Subscriber(broker) as late:
        assert late.wait_for(1, "/status") == [b"stopped"]
        assert late.messages[0].retain


def test_the_broker_says_offline_when_the_station_is_killed(broker: Broker) -> None:
    program = textwrap.dedent(f"""
        import threading
        from edge.protocol.topics import StationTopics
        from edge.publishers.mqtt.publisher import MqttPublisher
        from edge.settings.sections import MqttSettings
        publisher = MqttPublisher(MqttSettings(port={broker.port}), StationTopics("patchline", "s", "l", "n"))
        threading.Event().wait()
    """)
    with Subscriber(broker) as subscriber:
        with subprocess.Popen([sys.executable, "-c", program]) as station:
            assert subscriber.wait_for(1, "/status") == [b"online"]
            station.send_signal(signal.SIGKILL)

        assert subscriber.wait_for(2, "/status") == [b"online", b"offline"]
    with Subscriber(broker) as late:
        assert late.wait_for(1, "/status") == [b"offline"]


def test_closing_delivers_what_was_taken_before_it_says_stopped(broker: Broker) -> None:
    sent = verdicts(10)
    with Subscriber(broker) as subscriber:
        with connected(settings_for(broker)) as publisher:
            send_all(publisher, sent)

        subscriber.wait_for(2, "/status")
        assert subscriber.payloads("/verdict") == payloads(sent)
        assert subscriber.messages[-1].payload == b"stopped"


# Losing the broker.


def test_a_restarted_broker_loses_no_message_and_no_order(start_mosquitto: StartMosquitto) -> None:
    broker = start_mosquitto()
    sent = verdicts(1000)
    with Subscriber(broker, "+/+/+/+/verdict") as subscriber, connected(settings_for(broker)) as publisher:
        sender = threading.Thread(target=send_all, args=(publisher, sent))
        sender.start()
        for count in (100, 300):
            subscriber.wait_for(count, "/verdict")
            broker.close()
            broker.start()
        sender.join()
        assert publisher.flush(PATIENCE_S)

        wait_until(lambda: set(subscriber.payloads("/verdict")) >= set(payloads(sent)), "every verdict arrives")
        assert list(dict.fromkeys(subscriber.payloads("/verdict"))) == payloads(sent)
        assert publisher.counters.reconnects == 2


def test_a_killed_broker_loses_only_what_it_had_acknowledged(start_mosquitto: StartMosquitto) -> None:
    # mosquitto acknowledges before it saves: what it had queued for a slower subscriber dies with it.
    broker = start_mosquitto()
    sent = verdicts(1000)
    answers: Answers = []
    with Subscriber(broker, "+/+/+/+/verdict") as subscriber, connected(settings_for(broker)) as publisher:
        sender = threading.Thread(target=send_all, args=(publisher, sent, answers))
        sender.start()
        subscriber.wait_for(100, "/verdict")
        broker.kill()
        wait_until(lambda: not publisher.counters.connected, "the loss is noticed")
        owed = payloads(sent[len(answers) :])
        broker.start()
        sender.join()
        assert publisher.flush(PATIENCE_S)

        wait_until(lambda: set(subscriber.payloads("/verdict")) >= set(owed), "what was not acknowledged arrives")
        arrived = dict.fromkeys(subscriber.payloads("/verdict"))
        assert list(arrived) == [payload for payload in payloads(sent) if payload in arrived]
        assert payloads([message for message, _ in answers]) == payloads(sent)


def test_resets_in_mid_stream_lose_nothing_keep_the_order_and_never_exceed_the_window() -> None:
    sent = verdicts(200)
    answers: Answers = []
    with RecordingBroker() as broker, connected(settings_for(broker, window=7)) as publisher:
        sender = threading.Thread(target=send_all, args=(publisher, sent, answers))
        sender.start()
        for fraction in (1, 2):
            wait_until(lambda count=60 * fraction: len(broker.topics("/verdict")) >= count, "messages arrive")  # type: ignore[misc]
            broker.cut()
        sender.join()
        assert publisher.flush(PATIENCE_S)

        assert broker.topics("/verdict") == payloads(sent)
        assert broker.largest_unanswered == 7
        assert broker.topics("/status") == [b"online"]
        assert publisher.counters.acknowledged == len(sent)
    assert sorted(map(id, sent)) == sorted(id(message) for message, _ in answers)
    assert {code for _, code in answers} == {0}


def test_online_is_said_first_on_every_connection() -> None:
    with RecordingBroker() as broker, connected(settings_for(broker)) as publisher:
        send_all(publisher, verdicts(3))
        assert publisher.flush(PATIENCE_S)
        broker.cut()
        wait_until(lambda: publisher.counters.reconnects == 1, "the publisher comes back")
        send_all(publisher, verdicts(3, start=3))
        assert publisher.flush(PATIENCE_S)

        for connection in (1, 2):
            first = next(one for one in broker.received if one.connection == connection)
            assert (first.payload, first.retain, first.qos) == (b"online", True, 1)


def test_a_broker_that_comes_late_is_found(start_mosquitto: StartMosquitto) -> None:
    broker = start_mosquitto()
    broker.close()
    with MqttPublisher(settings_for(broker), TOPICS) as publisher:
        assert not publisher.send(verdicts(1)[0], timeout_s=0.3)
        broker.start()

        assert publisher.send(verdicts(1)[0], PATIENCE_S)
        assert publisher.flush(PATIENCE_S)


def test_while_the_broker_is_away_qos_0_is_dropped_and_counted(start_mosquitto: StartMosquitto) -> None:
    broker = start_mosquitto()
    broker.close()
    with MqttPublisher(settings_for(broker), TOPICS) as publisher:
        assert publisher.send(health_message(TOPICS, {"fps": 1.0}), timeout_s=0)

        assert publisher.counters.dropped == 1
        assert publisher.flush(timeout_s=0)


def test_a_frozen_broker_is_noticed_by_the_keep_alive(start_mosquitto: StartMosquitto) -> None:
    broker = start_mosquitto()
    impatient = settings_for(broker).model_copy(update={"keepalive_s": 1})  # the settings begin at 5
    with connected(impatient) as publisher:
        broker.freeze()
        wait_until(lambda: not publisher.counters.connected, "the silence is noticed")
        assert publisher.alive
        broker.thaw()

        assert publisher.send(verdicts(1)[0], PATIENCE_S)
        assert publisher.flush(PATIENCE_S)


def test_before_a_frozen_broker_qos_0_is_dropped_instead_of_piling_up(start_mosquitto: StartMosquitto) -> None:
    broker = start_mosquitto()
    health = health_message(TOPICS, {"text": "x" * 100_000})
    with connected(settings_for(broker)) as publisher:
        broker.freeze()
        for _ in range(300):  # 30 MB: more than the sockets hold
            assert publisher.send(health, timeout_s=0)
        dropped = publisher.counters.dropped
        broker.thaw()

        assert dropped > 0
        send_all(publisher, verdicts(1))
        assert publisher.flush(PATIENCE_S)


def test_a_cut_connection_is_not_a_goodbye_when_closing_takes_too_long() -> None:
    release = threading.Event()

    def hesitate(received: Received) -> int:
        if received.topic.endswith("/verdict"):
            release.wait(PATIENCE_S)
        return 0

    with RecordingBroker(hesitate) as broker:
        publisher = connected(settings_for(broker))
        send_all(publisher, verdicts(1))
        wait_until(lambda: len(broker.topics("/verdict")) == 1, "the verdict arrives")
        publisher.close(timeout_s=0.2)
        release.set()

        assert not publisher.alive
    assert broker.farewells == []
    assert b"stopped" not in broker.topics("/status")


def test_an_answer_that_is_lost_is_asked_for_again_on_another_connection(caplog: pytest.LogCaptureFixture) -> None:
    sent = verdicts(5)
    lost = [sent[2].payload]

    def answer(received: Received) -> int:
        if received.payload in lost:
            lost.remove(received.payload)
            return SILENCE
        return 0

    with RecordingBroker(answer) as broker, connected(settings_for(broker, answer_timeout_s=1)) as publisher:
        send_all(publisher, sent)
        assert publisher.flush(PATIENCE_S)

        again = [one.payload for one in broker.received if one.connection == 2]
        assert again == [b"online", sent[2].payload]
        assert broker.topics("/verdict") == payloads(sent)
        assert (publisher.counters.acknowledged, publisher.counters.rejected) == (5, 0)
        assert publisher.counters.reconnects == 1
    assert caplog.text.count("no answer to patchline/s/l/n/verdict for 1 s: connecting again") == 1


def test_a_message_that_is_never_answered_is_not_given_up_and_holds_up_no_other() -> None:
    first, others = verdicts(1)[0], verdicts(20, start=1)
    healed = threading.Event()

    def answer(received: Received) -> int:
        return SILENCE if received.payload == first.payload and not healed.is_set() else 0

    with (
        RecordingBroker(answer) as broker,
        # The settings begin at 1.
        connected(settings_for(broker).model_copy(update={"answer_timeout_s": 0.2})) as publisher,
    ):
        send_all(publisher, [first])
        wait_until(lambda: broker.connections > MAX_STRIKES + 1, "it connects again and again")
        send_all(publisher, others)
        wait_until(lambda: publisher.counters.acknowledged == len(others), "the others are answered")
        assert publisher.counters.rejected == 0
        healed.set()

        assert publisher.flush(PATIENCE_S)
        assert publisher.counters.acknowledged == 21


def test_an_announcement_that_is_not_answered_is_said_on_another_connection() -> None:
    with (
        RecordingBroker(lambda one: SILENCE if one.connection == 1 else 0) as broker,
        connected(settings_for(broker, answer_timeout_s=1)) as publisher,
    ):
        wait_until(lambda: broker.connections == 2, "it connects again")
        send_all(publisher, verdicts(1))
        assert publisher.flush(PATIENCE_S)


def test_a_second_welcome_on_a_connection_ends_it_as_a_protocol_error(caplog: pytest.LogCaptureFixture) -> None:
    def welcome_again(received: Received, connection: socket.socket) -> None:
        if received.connection == 1 and received.topic.endswith("/verdict"):
            connection.sendall(connack(RECEIVE_MAXIMUM_3))

    sent = verdicts(6)
    with RecordingBroker(then=welcome_again) as broker, connected(settings_for(broker)) as publisher:
        send_all(publisher, sent[:1])
        wait_until(lambda: publisher.counters.reconnects == 1, "it connects again")
        send_all(publisher, sent[1:])
        assert publisher.flush(PATIENCE_S)

        assert broker.farewells == [PROTOCOL_ERROR]
        assert broker.topics("/verdict") == payloads(sent)
        assert broker.connections == 2
        assert publisher.counters.rejected == 0
    assert caplog.text.count("the broker breaks the protocol: it answers CONNECT twice") == 1


def test_what_the_broker_still_sends_at_the_end_does_not_keep_our_goodbye_from_it() -> None:
    health = b"\x30\x0a\x00\x05n/cmd\x00ab"  # a PUBLISH at QoS 0

    def talk_on(received: Received, connection: socket.socket) -> None:
        for _ in range(100 if received.payload == b"stopped" else 0):
            connection.sendall(health * 100)
            time.sleep(0.002)

    with RecordingBroker(then=talk_on) as broker:
        with connected(settings_for(broker)) as publisher:
            send_all(publisher, verdicts(3))
        wait_until(lambda: not publisher.alive, "it has taken leave")

    assert broker.farewells == [0]


# The broker's limits and refusals.


def test_the_brokers_receive_maximum_lowers_the_window() -> None:
    with RecordingBroker(limits=RECEIVE_MAXIMUM_3) as broker, connected(settings_for(broker)) as publisher:
        send_all(publisher, verdicts(40))
        assert publisher.flush(PATIENCE_S)

        assert broker.largest_unanswered == 3


def test_mosquittos_receive_maximum_is_kept(start_mosquitto: StartMosquitto) -> None:
    broker = start_mosquitto("max_inflight_messages 1")
    with Subscriber(broker) as subscriber, connected(settings_for(broker)) as publisher:
        sent = verdicts(20)
        send_all(publisher, sent)
        assert publisher.flush(PATIENCE_S)

        assert subscriber.wait_for(20, "/verdict") == payloads(sent)
        assert publisher.counters.reconnects == 0


def test_a_message_larger_than_the_announced_limit_is_discarded_without_a_reconnect(
    start_mosquitto: StartMosquitto,
) -> None:
    broker = start_mosquitto("max_packet_size 2000")
    answers: Answers = []
    (crop,) = crop_messages(TOPICS, VERDICT, 0, 0)
    with Subscriber(broker) as subscriber, connected(settings_for(broker)) as publisher:
        send_all(publisher, [crop, *verdicts(1)], answers)
        assert publisher.flush(PATIENCE_S)

        assert subscriber.wait_for(1, "/verdict") == payloads(verdicts(1))
        assert (publisher.counters.oversize, publisher.counters.reconnects) == (1, 0)
        assert publisher.counters.acknowledged == 1
    assert answers[0] == (crop, PACKET_TOO_LARGE)


@pytest.mark.parametrize("spare", [0, 1])
def test_the_size_limit_is_exact(spare: int) -> None:
    empty = Message(topic=TOPICS.crop(0), payload=b"", qos=1, content_type="image/jpeg")
    payload = bytes(2000 - packet_bytes(empty) - 1 + spare)  # one more byte: its length takes two
    message = Message(topic=TOPICS.crop(0), payload=payload, qos=1, content_type="image/jpeg")
    with RecordingBroker(limits=MAXIMUM_PACKET_SIZE_2000) as broker, connected(settings_for(broker)) as publisher:
        send_all(publisher, [message])
        assert publisher.flush(PATIENCE_S)

        assert publisher.counters.oversize == spare
        assert broker.largest_packet <= 2000
        assert (broker.largest_packet == 2000) is (spare == 0)


def test_a_limit_that_mosquitto_does_not_announce_discards_the_message_and_goes_on(
    start_mosquitto: StartMosquitto,
) -> None:
    broker = start_mosquitto("message_size_limit 2000")
    (crop,) = crop_messages(TOPICS, VERDICT, 0, 0)
    with Subscriber(broker) as subscriber, connected(settings_for(broker)) as publisher:
        send_all(publisher, [*verdicts(2), crop, *verdicts(2, start=2)])
        assert publisher.flush(PATIENCE_S)

        subscriber.wait_for(4, "/verdict")
        assert list(dict.fromkeys(subscriber.payloads("/verdict"))) == payloads(verdicts(4))
        assert subscriber.payloads("/crop/0") == []
        assert (publisher.counters.acknowledged, publisher.counters.rejected) == (4, 1)


def test_a_large_message_that_ends_every_connection_is_discarded_and_its_neighbours_arrive() -> None:
    (poison,) = crop_messages(TOPICS, VERDICT, 0, 2)
    with (
        RecordingBroker(lambda one: CLOSE if one.payload == poison.payload else 0) as broker,
        connected(settings_for(broker)) as publisher,
    ):
        send_all(publisher, [*verdicts(2), poison, *verdicts(2, start=2)])
        assert publisher.flush(PATIENCE_S)

        assert broker.topics("/verdict") == payloads(verdicts(4))
        assert (publisher.counters.acknowledged, publisher.counters.rejected) == (4, 1)


def test_a_broker_that_dies_on_a_verdict_again_and_again_has_it_at_last(start_mosquitto: StartMosquitto) -> None:
    broker, kills = start_mosquitto(), 0

    def die(data: bytes) -> bool:
        nonlocal kills
        if b"/verdict" not in data or kills > MAX_STRIKES:
            return True
        kills += 1
        broker.kill()
        broker.start()
        return False

    with (
        Subscriber(broker, "+/+/+/+/verdict") as subscriber,
        Doorkeeper(broker.port, die) as door,
        connected(settings_for(broker, port=door.port)) as publisher,
    ):
        send_all(publisher, verdicts(1))
        assert publisher.flush(PATIENCE_S)

        assert subscriber.wait_for(1, "/verdict") == payloads(verdicts(1))
        assert (kills, publisher.counters.acknowledged, publisher.counters.rejected) == (MAX_STRIKES + 1, 1, 0)


def test_a_topic_denied_by_acl_is_rejected_and_the_rest_goes_on(
    start_mosquitto: StartMosquitto, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rights = tmp_path / "acl"
    rights.write_text("topic read #\ntopic write patchline/s/l/n/verdict\ntopic write patchline/s/l/n/status\n")
    broker = start_mosquitto(f"acl_file {rights}")
    crops = list(crop_messages(TOPICS, VERDICT, 0, 0)) * 3
    with Subscriber(broker) as subscriber, connected(settings_for(broker)) as publisher:
        send_all(publisher, [*crops, *verdicts(2)])
        assert publisher.flush(PATIENCE_S)

        assert subscriber.wait_for(2, "/verdict") == payloads(verdicts(2))
        assert (publisher.counters.rejected, publisher.counters.acknowledged) == (3, 2)
    assert caplog.text.count("refuses patchline/s/l/n/crop/0: Not authorized (0x87)") == 1


def test_a_quota_refusal_is_tried_again_until_it_is_accepted() -> None:
    refusals = [QUOTA_EXCEEDED, QUOTA_EXCEEDED]

    def answer(received: Received) -> int:
        return refusals.pop() if received.topic.endswith("/verdict") and refusals else 0

    answers: Answers = []
    with RecordingBroker(answer) as broker, connected(settings_for(broker)) as publisher:
        send_all(publisher, verdicts(1), answers)
        assert publisher.flush(PATIENCE_S)

        assert [one.payload for one in broker.received if one.qos][1:] == payloads(verdicts(1)) * 3
        assert (publisher.counters.retried, publisher.counters.acknowledged) == (2, 1)
    assert [code for _, code in answers] == [0]


def test_what_is_not_authorized_is_not_tried_again() -> None:
    with (
        RecordingBroker(lambda one: 0 if one.topic.endswith("/status") else NOT_AUTHORIZED) as broker,
        connected(settings_for(broker)) as publisher,
    ):
        send_all(publisher, verdicts(3))
        assert publisher.flush(PATIENCE_S)

        assert len([one for one in broker.received if one.topic.endswith("/verdict")]) == 3
        assert publisher.counters.rejected == 3


def test_a_full_window_keeps_the_message_with_its_sender() -> None:
    release = threading.Event()

    def hesitate(received: Received) -> int:
        if received.topic.endswith("/verdict"):
            release.wait(PATIENCE_S)
        return 0

    with RecordingBroker(hesitate) as broker, connected(settings_for(broker, window=2)) as publisher:
        send_all(publisher, verdicts(2))
        assert not publisher.send(verdicts(1, start=2)[0], timeout_s=0.1)
        assert not publisher.flush(timeout_s=0.1)
        release.set()

        assert publisher.send(verdicts(1, start=2)[0], PATIENCE_S)
        assert publisher.flush(PATIENCE_S)
        assert broker.topics("/verdict") == payloads(verdicts(3))


def test_a_broker_without_retained_messages_is_served_without_them(start_mosquitto: StartMosquitto) -> None:
    broker = start_mosquitto("retain_available false")
    with Subscriber(broker) as subscriber, connected(settings_for(broker)) as publisher:
        send_all(publisher, verdicts(1))
        assert publisher.flush(PATIENCE_S)

        assert subscriber.wait_for(1, "/verdict") == payloads(verdicts(1))
        assert subscriber.payloads("/status") == [b"online"]


def test_a_receiver_of_answers_that_fails_does_not_end_the_network_thread(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(_code: int) -> None:
        raise RuntimeError("a fault in the outbox")

    with RecordingBroker() as broker, connected(settings_for(broker)) as publisher:
        for verdict in verdicts(3):
            assert publisher.send(verdict, PATIENCE_S, fail)
        assert publisher.flush(PATIENCE_S)
        wait_until(lambda: publisher.counters.connected, "the publisher comes back")

        assert publisher.alive
        assert broker.topics("/verdict") == payloads(verdicts(3))
    assert "a fault in the outbox" in caplog.text


def test_a_broker_that_talks_nonsense_does_not_end_the_network_thread() -> None:
    with RecordingBroker(limits=b"\xff\xff\xff") as broker, MqttPublisher(settings_for(broker), TOPICS) as publisher:
        wait_until(lambda: broker.connections >= 3, "the publisher keeps trying")

        assert publisher.alive
        assert not publisher.counters.connected


# Whom we trust, and who trusts us.


def test_a_password_from_a_file_opens_the_broker(start_mosquitto: StartMosquitto, tmp_path: Path) -> None:
    with password_broker(start_mosquitto, tmp_path) as broker:
        write_private(tmp_path / "secret", b"open sesame\n")
        settings = settings_for(broker, user="station", password_file=tmp_path / "secret")
        with connected(settings) as publisher:
            send_all(publisher, verdicts(1))
            assert publisher.flush(PATIENCE_S)


def test_a_wrong_password_is_never_online_and_never_logged(
    start_mosquitto: StartMosquitto, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with password_broker(start_mosquitto, tmp_path) as broker:
        write_private(tmp_path / "secret", b"hunter2\n")
        settings = settings_for(broker, user="station", password_file=tmp_path / "secret")
        with MqttPublisher(settings, TOPICS) as publisher:
            wait_until(lambda: broker.log().count("not authorised") >= 3, "the publisher keeps trying")

            assert not publisher.counters.connected
            assert publisher.alive
            write_private(tmp_path / "secret", b"open sesame\n")
            wait_until(lambda: publisher.counters.connected, "a corrected password is read again")
    assert caplog.text.count("refuses us: Not authorized (0x87)") == 1
    assert "hunter2" not in caplog.text


def write_private(path: Path, content: bytes) -> None:
    """A file as secrets must be: nobody else may read it."""
    path.touch(0o600)
    path.write_bytes(content)


def password_broker(start_mosquitto: StartMosquitto, directory: Path) -> Mosquitto:
    passwords = directory / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "station", "open sesame"], check=True)
    return start_mosquitto(listener=f"allow_anonymous false\npassword_file {passwords}")


def tls_listener(certificates: Certificates, server: str = "localhost") -> str:
    return (
        f"allow_anonymous true\ncertfile {certificates.path(f'{server}.crt')}\n"
        f"keyfile {certificates.path(f'{server}.key')}"
    )


def tls_settings(broker: Mosquitto, certificates: Certificates, **values: object) -> MqttSettings:
    return settings_for(broker, **{"host": "localhost", "tls": True, "ca_file": certificates.path("ca.crt"), **values})


def test_tls_with_our_own_authority_delivers(start_mosquitto: StartMosquitto, certificates: Certificates) -> None:
    broker = start_mosquitto(listener=tls_listener(certificates))
    (crop,) = crop_messages(TOPICS, VERDICT, 0, 0)
    with connected(tls_settings(broker, certificates)) as publisher:
        send_all(publisher, [*verdicts(30), crop])
        assert publisher.flush(PATIENCE_S)

        assert publisher.counters.acknowledged == 31


def test_mutual_tls_delivers(start_mosquitto: StartMosquitto, certificates: Certificates) -> None:
    demands = f"\ncafile {certificates.path('ca.crt')}\nrequire_certificate true"
    broker = start_mosquitto(listener=tls_listener(certificates) + demands)
    settings = tls_settings(
        broker,
        certificates,
        certificate_file=certificates.path("station.crt"),
        key_file=certificates.path("station.key"),
    )
    with connected(settings) as publisher:
        send_all(publisher, verdicts(1))
        assert publisher.flush(PATIENCE_S)


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("server", "authority", "complaint"),
    [
        ("localhost", "other-ca", "unable to get local issuer certificate"),
        ("expired", "ca", "certificate has expired"),
        ("elsewhere", "ca", "Hostname mismatch"),
    ],
)
def test_a_broker_that_proves_nothing_is_never_online(  # noqa: PLR0917 — fixtures and parameters
    start_mosquitto: StartMosquitto,
    certificates: Certificates,
    caplog: pytest.LogCaptureFixture,
    server: str,
    authority: str,
    complaint: str,
) -> None:
    broker = start_mosquitto(listener=tls_listener(certificates, server))
    settings = tls_settings(broker, certificates, ca_file=certificates.path(f"{authority}.crt"))
    with MqttPublisher(settings, TOPICS) as publisher:
        wait_until(lambda: broker.contacts() >= 4, "the publisher keeps trying")

        assert not publisher.counters.connected
        assert publisher.alive
    assert caplog.text.count("the broker's certificate is refused") == 1
    assert complaint in caplog.text
    assert "New client connected" not in broker.log()


def test_tls_1_1_is_refused(start_mosquitto: StartMosquitto, certificates: Certificates) -> None:
    # Not the broker's limit but ours: mosquitto 2.0 itself begins at 1.2.
    context = tls_context(tls_settings(start_mosquitto(listener=tls_listener(certificates)), certificates))

    assert context is not None
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_failing_to_connect_leaves_no_descriptors_behind(
    start_mosquitto: StartMosquitto, certificates: Certificates
) -> None:
    broker = start_mosquitto(listener=tls_listener(certificates))
    settings = tls_settings(broker, certificates, ca_file=certificates.path("other-ca.crt"))
    before = psutil.Process().num_fds()
    with MqttPublisher(settings, TOPICS):
        wait_until(lambda: broker.contacts() >= 5, "the publisher keeps trying")

    assert psutil.Process().num_fds() <= before


# Settings.


def test_a_missing_password_file_is_named(tmp_path: Path) -> None:
    settings = MqttSettings(user="station", password_file=tmp_path / "absent")

    with pytest.raises(SettingsError, match=r"mqtt.password_file .*absent: cannot be read \(No such file"):
        MqttPublisher(settings, TOPICS)


@pytest.mark.parametrize(("content", "complaint"), [(b"\n", "got none"), (b"\xff\xfe", "is not UTF-8")])
def test_a_useless_password_file_is_named(tmp_path: Path, content: bytes, complaint: str) -> None:
    write_private(tmp_path / "secret", content)

    with pytest.raises(SettingsError, match=f"mqtt.password_file .*secret.*{complaint}"):
        MqttPublisher(MqttSettings(user="station", password_file=tmp_path / "secret"), TOPICS)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602])
def test_a_password_file_for_everybody_is_refused(tmp_path: Path, mode: int) -> None:
    write_private(tmp_path / "secret", b"hunter2")
    (tmp_path / "secret").chmod(mode)

    with pytest.raises(SettingsError, match=f"mqtt.password_file .*everybody .*mode {mode:04o}.*chmod 0400") as refused:
        MqttPublisher(MqttSettings(user="station", password_file=tmp_path / "secret"), TOPICS)
    assert "hunter2" not in str(refused.value)


def test_a_key_for_everybody_is_refused(certificates: Certificates, tmp_path: Path) -> None:
    shutil.copy(certificates.path("station.key"), tmp_path / "station.key")
    (tmp_path / "station.key").chmod(0o644)
    settings = MqttSettings(
        tls=True, certificate_file=certificates.path("station.crt"), key_file=tmp_path / "station.key"
    )

    with pytest.raises(SettingsError, match=r"mqtt.key_file .*everybody on this machine may read"):
        MqttPublisher(settings, TOPICS)


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_a_useless_ca_file_is_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "ca.crt").write_text(content)

    with pytest.raises(SettingsError, match=r"mqtt.ca_file .*ca.crt: cannot be used"):
        MqttPublisher(MqttSettings(tls=True, ca_file=tmp_path / "ca.crt"), TOPICS)


def test_a_key_of_another_certificate_is_named(certificates: Certificates) -> None:
    settings = MqttSettings(
        tls=True,
        certificate_file=certificates.path("station.crt"),
        key_file=certificates.path("elsewhere.key"),
    )

    with pytest.raises(SettingsError, match=r"mqtt.key_file .*elsewhere.key: cannot be used"):
        MqttPublisher(settings, TOPICS)


def test_an_encrypted_key_is_refused_without_asking(certificates: Certificates, tmp_path: Path) -> None:
    encrypt = f"openssl ec -aes256 -passout pass:x -in {certificates.path('station.key')} -out {tmp_path}/locked.key"
    subprocess.run(encrypt.split(), check=True, capture_output=True)
    settings = MqttSettings(
        tls=True, certificate_file=certificates.path("station.crt"), key_file=tmp_path / "locked.key"
    )

    with pytest.raises(SettingsError, match=r"mqtt.key_file .*locked.key: cannot be used"):
        MqttPublisher(settings, TOPICS)
