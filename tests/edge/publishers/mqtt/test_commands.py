"""Listening and answering over real brokers: MQTT 5's requests and responses."""

from __future__ import annotations

import json
import queue
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.rig.brokers import PATIENCE_S, Broker, Mosquitto, RecordingBroker, wait_until
from edge.protocol.commands import Answer, Reader, Request
from edge.protocol.messages import verdict_message
from edge.publishers.mqtt.publisher import MqttPublisher
from edge.publishers.mqtt.traffic import MAX_REPLIES
from edge.settings.sections import CommandSettings, MqttSettings
from tests.clients import Requester
from tests.edge.publishers.mqtt.test_publisher import TOPICS, VERDICT, settings_for

READER = Reader(CommandSettings(enabled=True), TOPICS.base)


def connected(settings: MqttSettings) -> MqttPublisher:
    publisher = MqttPublisher(settings, TOPICS)
    wait_until(lambda: publisher.counters.connected, "the publisher connects")
    return publisher


def echo(publisher: MqttPublisher) -> queue.SimpleQueue[Request]:
    """Answer every request with `ok`; what was requested."""
    requests: queue.SimpleQueue[Request] = queue.SimpleQueue()

    def on_request(request: Request) -> None:
        requests.put(request)
        publisher.reply(READER.reply(request, Answer()))

    publisher.listen(READER.topic_filter, on_request)
    return requests


def test_a_command_arrives_with_all_that_an_answer_needs_and_the_answer_comes_back(broker: Broker) -> None:
    with connected(settings_for(broker)) as publisher, Requester(broker, TOPICS.base) as plc:
        requests = echo(publisher)
        plc.await_listener("trigger")
        while not requests.empty():
            requests.get()

        reply = plc.ask("trigger", b'{"trigger_id":"17"}', correlation=b"\x00\x01\xff")

        request = requests.get(timeout=PATIENCE_S)
        assert (request.topic, request.payload) == (f"{TOPICS.base}/cmd/trigger", b'{"trigger_id":"17"}')
        assert (request.response_topic, request.correlation) == (plc.response_topic, b"\x00\x01\xff")
        assert not request.retained
        assert json.loads(reply.payload)["ok"] == 1
        assert (reply.qos, reply.retain) == (1, False)


def test_without_a_listener_nothing_is_subscribed(start_mosquitto: Callable[..., Mosquitto]) -> None:
    broker = start_mosquitto("log_type all")
    with connected(settings_for(broker)) as publisher:
        assert publisher.flush(PATIENCE_S)
    assert "SUBSCRIBE" not in broker.log()


def test_the_subscription_is_made_again_on_every_connection(start_mosquitto: Callable[..., Mosquitto]) -> None:
    broker = start_mosquitto()
    with connected(settings_for(broker)) as publisher:
        echo(publisher)
        broker.close()
        broker.start()

        with Requester(broker, TOPICS.base) as plc:
            plc.await_listener("pause")


def test_what_was_sent_while_the_station_was_away_is_not_heard_later(
    start_mosquitto: Callable[..., Mosquitto],
) -> None:
    broker = start_mosquitto()
    with connected(settings_for(broker)) as publisher:
        echo(publisher)
        with Requester(broker, TOPICS.base) as plc:
            plc.await_listener("pause")
    with Requester(broker, TOPICS.base) as plc:
        plc.send("trigger", b"stale", retain=True)
        plc.send("trigger", b"stale")

        with connected(settings_for(broker)) as publisher:
            requests = echo(publisher)
            plc.await_listener("pause")
            heard = [requests.get() for _ in range(requests.qsize())]
    assert heard
    assert all(request.payload != b"stale" for request in heard)


def test_a_command_published_as_retained_is_recognised(start_mosquitto: Callable[..., Mosquitto]) -> None:
    broker = start_mosquitto()
    with connected(settings_for(broker)) as publisher, Requester(broker, TOPICS.base) as plc:
        requests = echo(publisher)
        plc.await_listener("pause")
        while not requests.empty():
            requests.get()
        plc.send("pause", b"", retain=True)

        assert requests.get(timeout=PATIENCE_S).retained


def test_a_command_larger_than_any_is_not_even_received(start_mosquitto: Callable[..., Mosquitto]) -> None:
    broker = start_mosquitto()
    with connected(settings_for(broker)) as publisher, Requester(broker, TOPICS.base) as plc:
        requests = echo(publisher)
        plc.await_listener("pause")
        plc.send("pause", bytes(100_000))
        plc.ask("pause", b"the next one", correlation=b"next")

        assert publisher.counters.reconnects == 0
        assert max(len(requests.get().payload) for _ in range(requests.qsize())) < 100


def test_answers_that_the_broker_forbids_are_counted_and_one_line_and_verdicts_go_on(
    start_mosquitto: Callable[..., Mosquitto], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rights = tmp_path / "acl"
    rights.write_text(f"topic write {TOPICS.status}\ntopic write {TOPICS.verdict}\n")
    broker = start_mosquitto(f"acl_file {rights}")
    with connected(settings_for(broker)) as publisher:
        for number in range(3):
            request = Request(f"{TOPICS.base}/cmd/pause", b"", False, f"{TOPICS.base}/reply/{number}", b"1", 0.0)
            assert publisher.reply(READER.reply(request, Answer()))
        assert publisher.send(verdict_message(TOPICS, VERDICT, 0, 1), PATIENCE_S)
        assert publisher.flush(PATIENCE_S)

        assert (publisher.counters.unreplied, publisher.counters.acknowledged) == (3, 1)
        assert publisher.counters.rejected == 0
    assert caplog.text.count("refuses answers to commands: Not authorized (0x87)") == 1


def test_answers_to_a_flood_are_bounded_and_do_not_hold_verdicts_back() -> None:
    request = Request(f"{TOPICS.base}/cmd/pause", b"", False, f"{TOPICS.base}/reply/x", b"1", 0.0)
    with RecordingBroker() as broker, connected(settings_for(broker)) as publisher:
        taken = sum(publisher.reply(READER.reply(request, Answer())) for _ in range(10_000))
        dropped = publisher.counters.unreplied
        assert publisher.send(verdict_message(TOPICS, VERDICT, 0, 1), PATIENCE_S)
        assert publisher.flush(PATIENCE_S)

        assert taken + dropped == 10_000
        assert dropped > 0
        assert taken >= MAX_REPLIES
        assert len(broker.topics("/verdict")) == 1
        assert len([one for one in broker.received if "/reply/" in one.topic]) == taken


def test_while_the_broker_is_away_no_answer_is_taken(start_mosquitto: Callable[..., Mosquitto]) -> None:
    broker = start_mosquitto()
    broker.close()
    request = Request(f"{TOPICS.base}/cmd/pause", b"", False, f"{TOPICS.base}/reply/x", b"1", 0.0)
    with MqttPublisher(settings_for(broker), TOPICS) as publisher:
        assert not publisher.reply(READER.reply(request, Answer()))
        assert publisher.counters.unreplied == 1


def test_answers_leave_in_the_order_of_the_commands() -> None:
    replies = [
        READER.reply(Request("", b"", False, f"{TOPICS.base}/reply/x", bytes([number]), 0.0), Answer(str(number)))
        for number in range(1, 9)
    ]
    with RecordingBroker() as broker, connected(settings_for(broker, window=1)) as publisher:
        for reply in replies:
            assert publisher.reply(reply)
        assert publisher.flush(PATIENCE_S)

        arrived = [one for one in broker.received if "/reply/" in one.topic]
    assert [one.payload for one in arrived] == [reply.payload for reply in replies]
