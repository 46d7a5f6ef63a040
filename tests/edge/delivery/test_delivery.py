"""Real outboxes, brokers and disks; the service around them is tested in test_service.py and tests/faults."""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, redirect_stdout, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import IO

import pytest

from benchmarks.rig.brokers import PATIENCE_S, Mosquitto, Subscriber, wait_until
from demo.broker import free_port
from edge.delivery.delivery import Delivery
from edge.delivery.opening import open_delivery, outbox_directory
from edge.delivery.outbox.outbox import Outbox
from edge.delivery.outbox.records import OutboxLimits
from edge.health.alarms import AlarmChange, AlarmCode, Alarms
from edge.health.statistics import Statistics
from edge.protocol.topics import StationTopics
from edge.records import Box, Crop, FrameIdentity, Outcome, Severity, Verdict
from edge.settings.sections import AlarmSettings, OutboxSettings, PublisherKind
from edge.settings.tree import Settings
from tests.disks import MakeDisk

TOPICS = StationTopics(root="patchline", site="site", line="line", name="station")
StartMosquitto = Callable[..., Mosquitto]


def verdict(frame: int) -> Verdict:
    crop = Crop(index=0, box=Box(1, 2, 3, 4), jpeg=b"\xff\xd8" + bytes(500), sha256="ab" * 32)
    return Verdict(
        identity=FrameIdentity(sequence=frame, captured_at_s=time.time(), captured_monotonic_s=time.monotonic()),
        outcome=Outcome.FAIL,
        score=2.0,
        threshold=1.0,
        recipe="bottle",
        model="0123456789ab",
        crops=(crop,),
    )


@contextmanager
def delivering(
    port: int, directory: Path, publish: tuple[PublisherKind, ...] = (PublisherKind.MQTT,), **outbox: object
) -> Iterator[Delivery]:
    settings = Settings(
        publish=publish,
        mqtt={"port": port, "keepalive_s": 5},
        outbox={"directory": directory, "min_free_bytes": 0, "ballast_bytes": 0, **outbox},
    )
    with open_delivery(settings, TOPICS, Statistics()) as delivery:
        yield delivery


def deliver(delivery: Delivery, *frames: int, lost: int = 0) -> None:
    for frame in frames:
        wait_until(lambda frame=frame: delivery.deliver(verdict(frame), lost), f"verdict {frame} is taken")  # type: ignore[misc]


def connected(delivery: Delivery) -> None:
    wait_until(lambda: bool(delivery.conditions().connected), "the broker is there")


def decode(payloads: list[bytes]) -> list[dict[str, object]]:
    return [json.loads(payload) for payload in payloads]


def frames(payloads: list[bytes]) -> list[object]:
    return [values["frame"] for values in decode(payloads)]


def fill(path: Path) -> None:
    """Until the disk is full."""
    with path.open("wb", buffering=0) as stream, suppress(OSError):
        while stream.write(bytes(4096)):
            pass


def test_a_verdict_is_on_disk_before_anybody_hears_of_it(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    with delivering(free_port(), tmp_path / "o", (PublisherKind.MQTT, PublisherKind.JSON_LINES)) as delivery:
        deliver(delivery, 0, 1)
        wait_until(lambda: delivery.report()["jsonl_written"] == 2, "both lines are written")
        printed = capfdbinary.readouterr().out.splitlines()
    with Outbox.open(tmp_path / "o", OutboxLimits(min_free_bytes=0, ballast_bytes=0)) as outbox:
        stored = [entry.message.payload for entry in outbox.pending() if entry.message.topic == TOPICS.verdict]

    assert printed == stored
    assert frames(stored) == [0, 1]


def test_what_waits_is_neither_lost_nor_admitted_at_the_end(tmp_path: Path) -> None:
    with delivering(free_port(), tmp_path / "o") as delivery:
        deliver(delivery, 0, 1, 2)

        assert delivery.finish(0.2) == 0
        assert delivery.report()["outbox_verdicts"] == 3


def test_verdicts_are_timed_from_capture_to_the_brokers_answer(start_mosquitto: StartMosquitto, tmp_path: Path) -> None:
    statistics = Statistics()
    broker = start_mosquitto()
    settings = Settings(mqtt={"port": broker.port}, outbox={"directory": tmp_path / "o"})
    with open_delivery(settings, TOPICS, statistics) as delivery:
        connected(delivery)
        deliver(delivery, *range(5))
        assert delivery.finish(PATIENCE_S) == 0

    values = statistics.take()
    assert 0 < float(values["commit_p50_ms"]) < float(values["delivery_p50_ms"]) < float(values["acknowledged_p50_ms"])


# Without a disk.


def test_without_an_outbox_verdicts_go_to_the_broker_directly(start_mosquitto: StartMosquitto, tmp_path: Path) -> None:
    broker = start_mosquitto()
    with Subscriber(broker) as subscriber, delivering(broker.port, tmp_path / "o", enabled=False) as delivery:
        connected(delivery)
        deliver(delivery, 0, 1, 2)
        assert delivery.finish(PATIENCE_S) == 0

        assert frames(subscriber.wait_for(3, "/verdict")) == [0, 1, 2]
        assert len(subscriber.wait_for(3, "/crop/0")) == 3
        assert [values["seq"] for values in decode(subscriber.payloads("/verdict"))] == [1, 2, 3]
        assert not (tmp_path / "o").exists()


def test_without_an_outbox_and_a_broker_a_verdict_stays_with_the_caller(tmp_path: Path) -> None:
    with delivering(free_port(), tmp_path / "o", enabled=False) as delivery:
        assert not delivery.deliver(verdict(0), 0)


def test_without_an_outbox_what_was_lost_on_the_way_is_explained(
    start_mosquitto: StartMosquitto, tmp_path: Path
) -> None:
    broker = start_mosquitto()
    with Subscriber(broker) as subscriber, delivering(broker.port, tmp_path / "o", enabled=False) as delivery:
        connected(delivery)
        deliver(delivery, 0)
        deliver(delivery, 8, lost=7)
        deliver(delivery, 9, lost=7)
        assert delivery.finish(PATIENCE_S) == 0

        (stone,) = decode(subscriber.wait_for(1, "/tombstone"))
        assert (stone["first"], stone["last"], stone["count"], stone["reason"]) == (2, 8, 7, "memory_full")
        assert [values["seq"] for values in decode(subscriber.wait_for(3, "/verdict"))] == [1, 9, 10]


def test_messages_that_the_broker_never_answered_are_admitted(start_mosquitto: StartMosquitto, tmp_path: Path) -> None:
    broker = start_mosquitto()
    with delivering(broker.port, tmp_path / "o", enabled=False) as delivery:
        connected(delivery)
        broker.freeze()
        assert delivery.deliver(verdict(0), 0)

        assert delivery.finish(0.5) == 2  # the verdict and its crop
        broker.thaw()


# One publisher never waits for another.


@contextmanager
def standard_output(stream: IO[bytes]) -> Iterator[None]:
    """`stream` for a while."""
    text = TextIOWrapper(stream)
    try:
        with redirect_stdout(text):
            yield
    finally:
        text.detach()


def test_lines_whose_reader_stands_still_are_missed_and_the_broker_has_every_verdict(
    start_mosquitto: StartMosquitto, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    count = 1200  # more than the pipe and the publisher hold
    broker = start_mosquitto()
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    publish = (PublisherKind.MQTT, PublisherKind.JSON_LINES)
    with (
        os.fdopen(reader),
        os.fdopen(writer, "wb") as stream,
        standard_output(stream),
        Subscriber(broker, "+/+/+/+/verdict") as subscriber,
        delivering(broker.port, tmp_path / "o", publish, enabled=False) as delivery,
    ):
        connected(delivery)
        deliver(delivery, *range(count))
        assert delivery.finish(PATIENCE_S) == 0

        assert frames(subscriber.wait_for(count, "/verdict")) == list(range(count))
        assert int(delivery.report()["jsonl_missed"]) > 100
        assert "jsonl: the reader of standard output stands still" in str(delivery.conditions().publisher_trouble)
    assert caplog.text.count("jsonl takes no verdicts, the others do") == 1


def test_lines_whose_reader_has_gone_end_nothing_else(
    start_mosquitto: StartMosquitto, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broker = start_mosquitto()
    reader, writer = os.pipe()
    os.close(reader)
    publish = (PublisherKind.MQTT, PublisherKind.JSON_LINES)
    with (
        os.fdopen(writer, "wb", buffering=0) as stream,
        standard_output(stream),
        Subscriber(broker) as subscriber,
        delivering(broker.port, tmp_path / "o", publish) as delivery,
    ):
        deliver(delivery, 0)
        wait_until(lambda: bool(delivery.conditions().publisher_trouble), "it is noticed")
        deliver(delivery, 1, 2)

        assert frames(subscriber.wait_for(3, "/verdict")) == [0, 1, 2]
        assert delivery.without_progress(60.0) == ()
    assert caplog.text.count("the reader of standard output has gone") == 1


def test_where_there_are_lines_alone_what_the_reader_does_not_take_stays_with_the_caller(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    with (
        os.fdopen(reader, "rb"),
        os.fdopen(writer, "wb") as stream,
        standard_output(stream),
        delivering(free_port(), tmp_path / "o", (PublisherKind.JSON_LINES,)) as delivery,
    ):
        taken = 0
        while delivery.deliver(verdict(taken), 0):
            taken += 1

        written = int(delivery.report()["jsonl_written"])
        assert delivery.finish(0.1) == taken - written > 0
        assert not (tmp_path / "o").exists()


# With a disk that refuses.


def test_what_was_lost_before_the_disk_takes_verdicts_is_explained(
    start_mosquitto: StartMosquitto, tmp_path: Path
) -> None:
    broker = start_mosquitto()
    with Subscriber(broker) as subscriber, delivering(broker.port, tmp_path / "o") as delivery:
        deliver(delivery, 0)
        deliver(delivery, 6, 7, lost=5)
        assert delivery.finish(PATIENCE_S) == 0

        (stone,) = decode(subscriber.wait_for(1, "/tombstone"))
        assert (stone["first"], stone["last"], stone["count"]) == (2, 6, 5)
        assert [values["seq"] for values in decode(subscriber.wait_for(3, "/verdict"))] == [1, 7, 8]


def test_while_the_disk_refuses_verdicts_go_directly_in_an_epoch_of_their_own(
    start_mosquitto: StartMosquitto, make_disk: MakeDisk
) -> None:
    broker, disk = start_mosquitto(), make_disk(4096)
    with Subscriber(broker) as subscriber, delivering(broker.port, disk / "o") as delivery:
        connected(delivery)
        deliver(delivery, 0, 1)
        subscriber.wait_for(2, "/verdict")
        # Eviction makes room in a database, so it must be empty when the disk is full.
        wait_until(lambda: delivery.report()["outbox_messages"] == 0, "what was delivered is forgotten")
        fill(disk / "filler")
        count = 2
        while not delivery.conditions().outbox_refuses:
            deliver(delivery, count)
            count += 1
            assert count < 2000, "the disk never refused"
        deliver(delivery, *range(count, count + 3))
        assert delivery.report()["memory_only"] == 1

        (disk / "filler").unlink()
        count += 3
        while delivery.conditions().outbox_refuses:
            deliver(delivery, count)
            count += 1
            time.sleep(0.05)
        deliver(delivery, count)
        assert delivery.finish(PATIENCE_S) == 0
        received = decode(subscriber.wait_for(count + 1, "/verdict"))

    assert sorted(int(str(values["frame"])) for values in received) == list(range(count + 1))
    epochs = list(dict.fromkeys(values["epoch"] for values in sorted(received, key=lambda one: int(str(one["frame"])))))
    assert len(epochs) == 2
    for epoch in epochs:
        seqs = [values["seq"] for values in received if values["epoch"] == epoch]
        assert seqs == list(range(1, len(seqs) + 1))


# Alarms.


def test_a_broker_that_refuses_us_is_an_alarm_that_says_why(start_mosquitto: StartMosquitto, tmp_path: Path) -> None:
    (tmp_path / "users").write_text("")
    broker = start_mosquitto(f"password_file {tmp_path / 'users'}", listener="allow_anonymous false")
    alarms = Alarms(AlarmSettings(broker_away_s=0))
    with delivering(broker.port, tmp_path / "o") as delivery:
        wait_until(lambda: "refuses us" in delivery.conditions().broker_trouble, "the broker's answer is known")
        changes = alarms.look(delivery.conditions(), 0.0, 0.0)

    (raised,) = [found for found in changes if found.active]
    assert raised.code is AlarmCode.BROKER_AWAY
    assert "Not authorized (0x87); check the user, its password and the client id" in raised.text


def test_hosts_that_are_away_are_an_alarm_though_the_broker_is_there(
    start_mosquitto: StartMosquitto, tmp_path: Path
) -> None:
    broker = start_mosquitto()
    settings = Settings(
        mqtt={"port": broker.port, "keepalive_s": 5},
        sparkplug={"enabled": True, "mqtt": {"port": free_port()}},
        outbox={"directory": tmp_path / "o", "min_free_bytes": 0, "ballast_bytes": 0},
    )
    alarms = Alarms(AlarmSettings(broker_away_s=0))
    with open_delivery(settings, TOPICS, Statistics()) as delivery:
        connected(delivery)
        wait_until(lambda: "refused" in str(delivery.conditions().publisher_trouble), "nobody answers")
        changes = alarms.look(delivery.conditions(), 0.0, 0.0)

    (raised,) = [found for found in changes if found.active]
    assert raised.code is AlarmCode.PUBLISHER_AWAY
    assert "sparkplug: cannot connect: Connection refused" in raised.text


def change(code: AlarmCode, *, active: bool) -> AlarmChange:
    return AlarmChange(code, active, Severity.WARNING, since_s=0.0, text="t")


def test_an_alarm_reaches_the_broker_when_it_is_back_in_its_last_state(
    start_mosquitto: StartMosquitto, tmp_path: Path
) -> None:
    broker = start_mosquitto()
    broker.close()
    with delivering(broker.port, tmp_path / "o") as delivery:
        delivery.deliver_alarm(change(AlarmCode.BROKER_AWAY, active=True))
        delivery.deliver_alarm(change(AlarmCode.DISK_LOW, active=True))
        delivery.deliver_alarm(change(AlarmCode.BROKER_AWAY, active=False))
    broker.start()
    with Subscriber(broker) as subscriber:
        with delivering(broker.port, tmp_path / "o") as delivery:
            assert delivery.finish(PATIENCE_S) == 0

        assert [values["active"] for values in decode(subscriber.wait_for(1, "/alarm/broker_away"))] == [0]
        assert [values["active"] for values in decode(subscriber.wait_for(1, "/alarm/disk_low"))] == [1]


def test_without_an_outbox_an_alarm_is_said_until_the_broker_hears_it(
    start_mosquitto: StartMosquitto, tmp_path: Path
) -> None:
    broker = start_mosquitto()
    broker.close()
    with delivering(broker.port, tmp_path / "o", enabled=False) as delivery:
        delivery.deliver_alarm(change(AlarmCode.SOURCE_AWAY, active=True))
        broker.start()
        with Subscriber(broker) as subscriber:
            connected(delivery)
            delivery.deliver_waiting_alarms()
            delivery.deliver_waiting_alarms()

            assert len(subscriber.wait_for(1, "/alarm/source_away")) == 1
            assert delivery.finish(PATIENCE_S) == 0
            assert len(subscriber.payloads("/alarm/source_away")) == 1


def test_a_database_that_cannot_be_used_is_an_alarm_that_names_the_old_one(tmp_path: Path) -> None:
    with delivering(free_port(), tmp_path / "o") as delivery:
        deliver(delivery, 0)
        epoch = delivery.conditions()
        assert epoch.outbox_damage == ""
    database = tmp_path / "o" / "outbox.db"
    database.write_bytes(b"this is no database" * 1000)
    with delivering(free_port(), tmp_path / "o") as delivery:
        changes = Alarms(AlarmSettings()).look(delivery.conditions(), 0.0, 0.0)

    (raised,) = [found for found in changes if found.active]
    (aside,) = (tmp_path / "o").glob("outbox.corrupt-*.db")
    assert raised.code is AlarmCode.OUTBOX_CORRUPT
    assert str(aside) in raised.text


def test_a_verdict_that_the_disk_changed_is_never_sent_but_named_by_the_alarm_and_explained(
    start_mosquitto: StartMosquitto, tmp_path: Path
) -> None:
    with delivering(free_port(), tmp_path / "o") as delivery:
        deliver(delivery, 0, 1, 2)
    with closing(sqlite3.connect(tmp_path / "o" / "outbox.db")) as connection, connection:
        better = "CAST(replace(payload, '\"ok\":0', '\"ok\":1') AS BLOB)"
        connection.execute(f"UPDATE messages SET payload = {better} WHERE seq = 2 AND kind = 'verdict'")
    broker = start_mosquitto()
    with Subscriber(broker) as subscriber, delivering(broker.port, tmp_path / "o") as delivery:
        changes = Alarms(AlarmSettings()).look(delivery.conditions(), 0.0, 0.0)
        assert [values["seq"] for values in decode(subscriber.wait_for(2, "/verdict"))] == [1, 3]
        (stone,) = decode(subscriber.wait_for(1, "/tombstone"))
    (raised,) = [found for found in changes if found.active and found.code is AlarmCode.OUTBOX_CORRUPT]
    assert "-2)" in raised.text
    assert (stone["first"], stone["last"], stone["reason"]) == (2, 2, "damaged")


def test_what_gives_way_is_counted_for_the_alarm(tmp_path: Path) -> None:
    with delivering(free_port(), tmp_path / "o", max_rows=100) as delivery:
        deliver(delivery, *range(60))
        conditions = delivery.conditions()

        assert conditions.evicted == 20  # crops first: 120 messages came
        assert conditions.waiting == 100
        assert delivery.report()["outbox_evicted_crops"] == 20


def test_dead_parts_are_named(tmp_path: Path) -> None:
    with delivering(free_port(), tmp_path / "o") as delivery:
        assert delivery.without_progress(60.0) == ()
        delivery.close()

        assert delivery.without_progress(60.0) == ("mqtt", "pump")


def test_a_station_has_a_directory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))

    assert outbox_directory(OutboxSettings(), TOPICS) == tmp_path / "patchline-site-line-station" / "outbox"
    assert outbox_directory(OutboxSettings(directory=tmp_path), TOPICS) == tmp_path
    assert list(tmp_path.iterdir()) == []
