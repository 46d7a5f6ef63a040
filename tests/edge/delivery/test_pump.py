"""A real outbox, a real publisher, real brokers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.rig.brokers import PATIENCE_S, Broker, Mosquitto, Received, RecordingBroker, Subscriber, wait_until
from edge.delivery.outbox.outbox import Outbox
from edge.delivery.outbox.records import OutboxLimits
from edge.delivery.pump import Pump
from edge.protocol.messages import crop_messages, verdict_message
from edge.protocol.topics import StationTopics
from edge.publishers.mqtt.reasons import NOT_AUTHORIZED, PACKET_TOO_LARGE
from edge.records import Box, Crop, FrameIdentity, Message, Outcome, Verdict
from edge.settings.sections import MqttSettings, OutboxSettings, SendOrder
from tests.disks import MakeDisk

TOPICS = StationTopics(root="patchline", site="s", line="l", name="n")
MAXIMUM_PACKET_SIZE_2000 = b"\x27\x00\x00\x07\xd0"
QUOTA_EXCEEDED = 0x97
WINDOW = 10
JPEG = bytes(range(256)) * 4
VERDICT = Verdict(
    identity=FrameIdentity(sequence=0, captured_at_s=0.0, captured_monotonic_s=0.0),
    outcome=Outcome.FAIL,
    score=2.0,
    threshold=1.0,
    recipe="bottle",
    model="0123456789ab",
)
WITH_CROP = replace(VERDICT, crops=(Crop(index=0, box=Box(1, 2, 3, 4), jpeg=JPEG, sha256="ab" * 32),))

Open = Callable[..., Outbox]


@pytest.fixture
def open_outbox(tmp_path: Path) -> Iterator[Open]:
    """Open the one outbox, with other limits where the test gives them; closed at the end."""
    opened: list[Outbox] = []

    def open_it(**limits: int) -> Outbox:
        for outbox in opened:
            outbox.close()
        limits = {"min_free_bytes": 0, "ballast_bytes": 0, **limits}
        opened.append(Outbox.open(tmp_path / "outbox", OutboxLimits(**limits)))
        return opened[-1]

    yield open_it
    for outbox in opened:
        outbox.close()


def store(outbox: Outbox, count: int, verdict: Verdict = VERDICT) -> None:
    for _ in range(count):
        outbox.append(
            lambda epoch, seq: (
                verdict_message(TOPICS, verdict, epoch, seq),
                *crop_messages(TOPICS, verdict, epoch, seq),
            )
        )


@contextmanager
def pumping(
    outbox: Outbox, broker: Broker | RecordingBroker, order: SendOrder = SendOrder.LIVE_FIRST, **mqtt: object
) -> Iterator[Pump]:
    connection = {"host": broker.host, "port": broker.port, "keepalive_s": 5, "window": WINDOW, **mqtt}
    pump = Pump(outbox, TOPICS, OutboxSettings(order=order), MqttSettings.model_validate(connection))
    try:
        pump.start(lambda _: None)
        yield pump
    finally:
        pump.close(PATIENCE_S)
        pump.publisher.close(PATIENCE_S)


def connected(pump: Pump) -> None:
    wait_until(lambda: pump.publisher.link is not None, "the pump's publisher connects")


def decode(payloads: list[bytes]) -> list[tuple[int, int]]:
    """(seq, backlog) of verdicts."""
    verdicts = [json.loads(payload) for payload in payloads]
    return [(verdict["seq"], verdict["backlog"]) for verdict in verdicts]


def first_arrivals(broker: RecordingBroker) -> list[int]:
    """Numbers in order of first arrival."""
    seqs = [seq for seq, _ in decode([one.payload for one in broker.received if one.topic.endswith("/verdict")])]
    return list(dict.fromkeys(seqs))


def waiting(outbox: Outbox) -> int:
    return outbox.statistics().pending


# What arrives.


def test_what_was_stored_before_and_after_the_connection_arrives_and_is_forgotten(
    broker: Broker, open_outbox: Open
) -> None:
    outbox = open_outbox()
    store(outbox, 3)
    with Subscriber(broker) as subscriber, pumping(outbox, broker) as pump:
        assert pump.flush(PATIENCE_S)
        store(outbox, 2, WITH_CROP)
        pump.wake()
        assert pump.flush(PATIENCE_S)

        assert decode(subscriber.wait_for(5, "/verdict")) == [(1, 1), (2, 1), (3, 1), (4, 0), (5, 0)]
        assert subscriber.wait_for(2, "/crop/0") == [JPEG, JPEG]
        assert waiting(outbox) == 0
        assert pump.report()["pump_delivered"] == 7


def test_the_newest_verdict_is_repeated_after_it_was_delivered(broker: Broker, open_outbox: Open) -> None:
    outbox = open_outbox()
    store(outbox, 30)
    with Subscriber(broker) as subscriber, pumping(outbox, broker) as pump:
        assert pump.flush(PATIENCE_S)

        newest = subscriber.wait_for(30, "/verdict")[-1]
        wait_until(lambda: newest in subscriber.payloads("/last"), "the newest verdict waits for late joiners")


def test_only_crops_of_the_backlog_expire(start_mosquitto: Callable[[], Mosquitto], open_outbox: Open) -> None:
    broker, outbox = start_mosquitto(), open_outbox()
    store(outbox, 1, WITH_CROP)
    with Subscriber(broker) as subscriber, pumping(outbox, broker) as pump:
        assert pump.flush(PATIENCE_S)
        store(outbox, 1, WITH_CROP)
        assert pump.flush(PATIENCE_S)
        subscriber.wait_for(2, "/crop/0")
        subscriber.wait_for(2, "/verdict")

        def expiries(suffix: str) -> list[int]:
            arrived = [one for one in subscriber.messages if one.topic.endswith(suffix)]
            return [getattr(one.properties, "MessageExpiryInterval", 0) for one in arrived]

        late, live = expiries("/crop/0")
        assert 0 < late <= OutboxSettings().crop_expiry_s
        assert live == 0
        assert expiries("/verdict") == [0, 0]


def test_other_messages_go_with_their_retain_flag(broker: Broker, open_outbox: Open) -> None:
    outbox = open_outbox()
    outbox.append_message(Message(topic=TOPICS.alarm("disk_low"), payload=b"{}", qos=1, retain=True))
    with pumping(outbox, broker) as pump:
        assert pump.flush(PATIENCE_S)
    with Subscriber(broker) as late:
        assert late.wait_for(1, "/alarm/disk_low") == [b"{}"]


# Losing the broker, and being killed.


def test_resets_lose_nothing_and_keep_the_order_within_live_and_backlog(open_outbox: Open) -> None:
    outbox = open_outbox()
    store(outbox, 300)
    with RecordingBroker() as broker, pumping(outbox, broker) as pump:
        for count in (50, 150, 250):
            wait_until(lambda count=count: len(first_arrivals(broker)) >= count, "verdicts arrive")  # type: ignore[misc]
            broker.cut()
            store(outbox, 20)
        assert pump.flush(PATIENCE_S)

        assert sorted(first_arrivals(broker)) == list(range(1, 361))
        firsts: dict[int, int] = {}
        for seq, backlog in decode([one.payload for one in broker.received if one.topic.endswith("/verdict")]):
            firsts.setdefault(seq, backlog)
        for backlog in (0, 1):
            in_class = [seq for seq, its_backlog in firsts.items() if its_backlog == backlog]
            assert in_class == sorted(in_class)
        assert broker.largest_unanswered <= WINDOW


def test_in_strict_order_resets_invert_nothing(open_outbox: Open) -> None:
    outbox = open_outbox()
    store(outbox, 200)
    with RecordingBroker() as broker, pumping(outbox, broker, SendOrder.STRICT) as pump:
        for count in (50, 120):
            wait_until(lambda count=count: len(first_arrivals(broker)) >= count, "verdicts arrive")  # type: ignore[misc]
            broker.cut()
            store(outbox, 30)
        assert pump.flush(PATIENCE_S)

        assert first_arrivals(broker) == list(range(1, 261))


def test_live_verdicts_overtake_a_long_backlog(open_outbox: Open) -> None:
    outbox = open_outbox()
    store(outbox, 300)
    live_is_there = threading.Event()

    def hesitate(received: Received) -> int:
        if received.topic.endswith("/verdict"):
            live_is_there.wait(PATIENCE_S)
        return 0

    with RecordingBroker(hesitate) as broker, pumping(outbox, broker) as pump:
        wait_until(lambda: len(first_arrivals(broker)) >= 1, "the backlog is on its way")
        store(outbox, 30)
        live_is_there.set()
        assert pump.flush(PATIENCE_S)

        arrived = first_arrivals(broker)
        assert sorted(arrived) == list(range(1, 331))
        assert arrived.index(330) < 60  # up to ten were on their way, then three live ones for each of the backlog


def test_a_kill_repeats_no_more_than_the_window(open_outbox: Open) -> None:
    """What the broker has and the outbox has not yet forgotten is what a kill at that moment would repeat."""
    outbox = open_outbox()
    total = 400
    store(outbox, total)
    repeated: list[int] = []

    def count(received: Received) -> int:
        if received.topic.endswith("/verdict"):
            left = outbox.statistics().verdicts
            repeated.append(len(broker.topics("/verdict")) - (total - left))
        return 0

    with RecordingBroker(count) as broker, pumping(outbox, broker) as pump:
        assert pump.flush(PATIENCE_S)

    assert len(repeated) == total
    assert 1 < max(repeated) <= WINDOW


def test_what_a_former_process_had_sent_without_an_answer_is_sent_again_first(open_outbox: Open) -> None:
    outbox = open_outbox()
    store(outbox, 20)
    never = threading.Event()

    def silent(received: Received) -> int:
        if received.topic.endswith("/verdict"):
            never.wait(PATIENCE_S)
        return 0

    with RecordingBroker(silent) as broker:
        connection = MqttSettings(host=broker.host, port=broker.port, keepalive_s=5)
        former = Pump(outbox, TOPICS, OutboxSettings(), connection)
        former.start(lambda _: None)
        wait_until(lambda: len(first_arrivals(broker)) == WINDOW, "the window is full")
        former.close(0.0)
        former.publisher.close(0.0)
        never.set()
    outbox = open_outbox()
    with RecordingBroker() as broker, pumping(outbox, broker) as pump:
        assert pump.flush(PATIENCE_S)

        assert first_arrivals(broker) == list(range(1, 21))


def test_flushing_ends_soon_while_the_broker_is_away_and_everything_stays(
    start_mosquitto: Callable[[], Mosquitto], open_outbox: Open
) -> None:
    broker, outbox = start_mosquitto(), open_outbox()
    broker.close()
    store(outbox, 5)
    with pumping(outbox, broker) as pump:
        assert not pump.flush(600.0)
        pump.close(600.0)

        assert not pump.alive
        assert waiting(outbox) == 5


# Refusals.


def test_what_is_refused_for_good_is_buried_and_the_rest_goes_on_announcing_no_crop(open_outbox: Open) -> None:
    outbox = open_outbox()
    with (
        RecordingBroker(lambda one: NOT_AUTHORIZED if "/crop/" in one.topic else 0) as broker,
        pumping(outbox, broker) as pump,
    ):
        connected(pump)
        for _ in range(3):
            store(outbox, 1, WITH_CROP)
            pump.wake()
            assert pump.flush(PATIENCE_S)

        announced = [json.loads(payload)["crop_sha256"] for payload in broker.topics("/verdict")]
        assert announced == ["ab" * 32, "", ""]
    letters = outbox.dead_letters()
    assert [(letter.reason_code, letter.entry.message.payload) for letter in letters] == [(NOT_AUTHORIZED, JPEG)] * 3
    assert (waiting(outbox), pump.report()["pump_buried"]) == (0, 3)


def test_a_refused_verdict_has_a_tombstone_and_comes_as_backlog_when_it_is_sent_again(open_outbox: Open) -> None:
    outbox = open_outbox()
    refuses = True

    def answer(received: Received) -> int:
        return NOT_AUTHORIZED if refuses and received.topic.endswith("/verdict") else 0

    with RecordingBroker(answer) as broker, pumping(outbox, broker) as pump:
        connected(pump)
        store(outbox, 2)
        wait_until(lambda: len(broker.topics("/tombstone")) > 0 and not waiting(outbox), "the gap is explained")
        stones = [json.loads(payload) for payload in broker.topics("/tombstone")]
        assert {stone["reason"] for stone in stones} == {"refused"}
        assert sum(stone["count"] for stone in stones) == 2
        refuses = False
        given = [letter.entry.message.payload for letter in outbox.dead_letters()]
        assert len(outbox.resend([letter.entry.row_id for letter in outbox.dead_letters()])) == 2
        store(outbox, 1)
        assert pump.flush(PATIENCE_S)
        came = broker.topics("/verdict")[-3:]
    assert decode(came) == [(1, 1), (2, 1), (3, 0)]
    assert [payload.replace(b'"backlog":1', b'"backlog":0') for payload in came[:2]] == given
    assert outbox.dead_letters() == ()


def test_a_crop_that_the_broker_cannot_take_is_not_announced(open_outbox: Open) -> None:
    outbox = open_outbox()
    large = replace(WITH_CROP, crops=(replace(WITH_CROP.crops[0], jpeg=bytes(3000)),))
    with RecordingBroker(limits=MAXIMUM_PACKET_SIZE_2000) as broker, pumping(outbox, broker) as pump:
        for verdict in (large, WITH_CROP):  # the second one is read when the answer to the first is known
            store(outbox, 1, verdict)
            pump.wake()
            assert pump.flush(PATIENCE_S)

        announced = [json.loads(payload)["crop_sha256"] for payload in broker.topics("/verdict")]
        assert announced == ["", "ab" * 32]
        assert broker.topics("/crop/0") == [JPEG]
    assert [letter.reason_code for letter in outbox.dead_letters()] == [PACKET_TOO_LARGE]


def test_a_crop_that_gave_way_is_not_announced(open_outbox: Open) -> None:
    outbox = open_outbox(max_rows=4)
    store(outbox, 3, WITH_CROP)
    with RecordingBroker() as broker, pumping(outbox, broker) as pump:
        assert pump.flush(PATIENCE_S)

        announced = [json.loads(payload)["crop_sha256"] for payload in broker.topics("/verdict")]
        assert announced == ["", "", "ab" * 32]


def test_a_quota_refusal_is_no_dead_letter(open_outbox: Open) -> None:
    outbox = open_outbox()
    store(outbox, 5)
    refusals = [QUOTA_EXCEEDED, QUOTA_EXCEEDED]
    with (
        RecordingBroker(lambda one: refusals.pop() if one.topic.endswith("/verdict") and refusals else 0) as broker,
        pumping(outbox, broker) as pump,
    ):
        assert pump.flush(PATIENCE_S)

        assert sorted(first_arrivals(broker)) == [1, 2, 3, 4, 5]
    assert outbox.dead_letters() == ()
    assert waiting(outbox) == 0


# Tombstones.


def test_a_gap_is_explained_before_anything_else_is_sent(open_outbox: Open) -> None:
    outbox = open_outbox(max_rows=5)
    store(outbox, 12)
    with RecordingBroker() as broker, pumping(outbox, broker) as pump:
        assert pump.flush(PATIENCE_S)

        sent = [one for one in broker.received if one.qos and not one.topic.endswith("/status")]
        assert json.loads(sent[0].payload) == {
            "v": 1,
            "station": "n",
            "epoch": outbox.epoch,
            "first": 1,
            "last": 7,
            "count": 7,
            "reason": "evicted",
        }
        assert first_arrivals(broker) == [8, 9, 10, 11, 12]
    assert outbox.tombstones() == ()


def test_a_refused_tombstone_holds_nothing_up_and_is_tried_on_the_next_connection(open_outbox: Open) -> None:
    outbox = open_outbox(max_rows=5)
    store(outbox, 12)
    refuses = True

    def answer(received: Received) -> int:
        return NOT_AUTHORIZED if refuses and received.topic.endswith("/tombstone") else 0

    with RecordingBroker(answer) as broker, pumping(outbox, broker) as pump:
        assert pump.flush(PATIENCE_S)
        assert first_arrivals(broker) == [8, 9, 10, 11, 12]
        assert len(outbox.tombstones()) == 1
        refuses = False
        broker.cut()
        wait_until(lambda: waiting(outbox) == 0, "the gap is explained")


# Faults of the disk.


def test_while_the_disk_cannot_forget_verdicts_are_sent_all_the_same(make_disk: MakeDisk) -> None:
    disk, count = make_disk(8192), 5 * WINDOW
    limits = OutboxLimits(min_free_bytes=0, ballast_bytes=0)
    with Outbox.open(disk / "outbox", limits) as outbox:
        store(outbox, count)
    with Outbox.open(disk / "outbox", limits) as outbox, RecordingBroker() as broker:
        fill(disk / "filler")
        with pumping(outbox, broker):
            wait_until(lambda: len(first_arrivals(broker)) == count, "every verdict arrives")
            assert outbox.statistics().verdicts == count

            (disk / "filler").unlink()
            wait_until(lambda: waiting(outbox) == 0, "what the broker has is forgotten at last")
            assert first_arrivals(broker) == list(range(1, count + 1))


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as stream, suppress(OSError):
        while stream.write(bytes(4096)):
            pass
