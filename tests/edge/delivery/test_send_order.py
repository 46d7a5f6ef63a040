from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.delivery.outbox.outbox import Outbox
from edge.delivery.outbox.records import Entry, Kind, OutboxLimits
from edge.delivery.send_order import SHORT_BACKLOG, SendQueue
from edge.protocol.topics import StationTopics
from edge.records import Message
from edge.settings.sections import SendOrder

TOPICS = StationTopics(root="patchline", site="s", line="l", name="n")
LONG = SHORT_BACKLOG + 50


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with open_outbox(tmp_path) as opened:
        yield opened


def open_outbox(directory: Path) -> Outbox:
    return Outbox.open(directory / "outbox", OutboxLimits(min_free_bytes=0, ballast_bytes=0))


def store(outbox: Outbox, count: int) -> list[int]:
    """The numbers of `count` new verdicts."""
    payload = b'{"v":1}'
    return [
        outbox.append(lambda _epoch, _seq: [Message(topic=TOPICS.verdict, payload=payload, qos=1)]).seq
        for _ in range(count)
    ]


def take(waiting: SendQueue, count: int | None = None) -> list[tuple[int, bool]]:
    """Numbers, and whether they are backlog, of all or `count` messages."""
    taken: list[tuple[int, bool]] = []
    while (count is None or len(taken) < count) and (turn := waiting.next()) is not None:
        waiting.take(turn)
        taken.append((turn.entry.seq, turn.is_backlog))
    return taken


def numbers(taken: list[tuple[int, bool]], *, backlog: bool) -> list[int]:
    return [seq for seq, is_backlog in taken if is_backlog is backlog]


def test_nothing_is_due_before_a_connection(outbox: Outbox) -> None:
    store(outbox, 3)

    assert SendQueue(outbox, SendOrder.LIVE_FIRST, 0.25).next() is None


def test_what_was_stored_before_the_connection_is_backlog_and_what_comes_is_live(outbox: Outbox) -> None:
    waiting = SendQueue(outbox, SendOrder.LIVE_FIRST, 0.25)
    store(outbox, 2)
    waiting.begin_connection(set())
    store(outbox, 2)

    assert take(waiting) == [(1, True), (2, True), (3, False), (4, False)]


def test_the_next_message_stays_the_same_until_it_is_taken(outbox: Outbox) -> None:
    waiting = SendQueue(outbox, SendOrder.LIVE_FIRST, 0.25)
    store(outbox, 2)
    waiting.begin_connection(set())

    first, again = waiting.next(), waiting.next()

    assert first is not None
    assert again is not None
    assert first.entry is again.entry


def test_live_messages_overtake_a_long_backlog_which_keeps_its_share(outbox: Outbox) -> None:
    waiting = SendQueue(outbox, SendOrder.LIVE_FIRST, 0.25)
    store(outbox, LONG)
    waiting.begin_connection(set())
    live = store(outbox, 60)

    while_both_wait = take(waiting, 80)

    assert numbers(while_both_wait, backlog=False) == live
    assert numbers(while_both_wait, backlog=True) == list(range(1, 21))
    assert numbers(take(waiting), backlog=True) == list(range(21, LONG + 1))


def test_a_backlog_alone_is_not_slowed_down_and_gains_no_credit(outbox: Outbox) -> None:
    waiting = SendQueue(outbox, SendOrder.LIVE_FIRST, 0.5)
    store(outbox, LONG)
    waiting.begin_connection(set())
    take(waiting, 40)
    store(outbox, 10)

    assert [is_backlog for _, is_backlog in take(waiting, 4)].count(True) == 2


def test_strict_order_is_that_of_arrival(outbox: Outbox) -> None:
    waiting = SendQueue(outbox, SendOrder.STRICT, 0.25)
    store(outbox, LONG)
    waiting.begin_connection(set())
    store(outbox, 20)

    assert [seq for seq, _ in take(waiting)] == list(range(1, LONG + 21))


def test_at_a_new_connection_what_was_live_and_not_taken_is_backlog(outbox: Outbox) -> None:
    waiting = SendQueue(outbox, SendOrder.LIVE_FIRST, 0.25)
    store(outbox, LONG)
    waiting.begin_connection(set())
    store(outbox, 20)
    before = take(waiting, 12)

    outstanding = {seq for seq, _ in before}  # without crops, rows are numbered as verdicts are
    waiting.begin_connection(outstanding)
    live = store(outbox, 5)
    after = take(waiting)

    assert numbers(after, backlog=False) == live
    assert numbers(after, backlog=True) == sorted({*range(1, LONG + 21)} - outstanding)


def test_what_follows_is_the_next_of_the_same_class(outbox: Outbox) -> None:
    waiting = SendQueue(outbox, SendOrder.LIVE_FIRST, 0.25)
    crop = Message(topic=TOPICS.crop(0), payload=b"\xff\xd8", qos=1)
    outbox.append(lambda _epoch, _seq: [Message(topic=TOPICS.verdict, payload=b"{}", qos=1), crop])
    waiting.begin_connection(set())
    store(outbox, 1)
    turn = waiting.next()

    assert turn is not None
    following = waiting.following(turn)
    assert following is not None
    assert (following.kind, following.seq) == (Kind.CROP, 1)
    waiting.take(turn)
    crop_turn = waiting.next()
    assert crop_turn is not None
    assert waiting.following(crop_turn) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    st.lists(st.one_of(st.integers(1, 60), st.sampled_from(["connect", "take"])), max_size=25),
    st.sampled_from(SendOrder),
)
def test_every_message_is_taken_once_and_each_class_in_order(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int | str], order: SendOrder
) -> None:
    with open_outbox(tmp_path_factory.mktemp("waiting")) as outbox:
        waiting = SendQueue(outbox, order, 0.25)
        taken: list[tuple[int, bool]] = []
        outstanding: set[int] = set()
        for step in [*steps, "connect"]:
            if step == "connect":
                waiting.begin_connection(outstanding)
            elif isinstance(step, int):
                store(outbox, step)
            else:
                taken += take(waiting, 7)
                outstanding.update(seq for seq, _ in taken)
        taken += take(waiting)
        total = outbox.last_row_id

    assert sorted(seq for seq, _ in taken) == list(range(1, total + 1))
    for backlog in (True, False):
        assert numbers(taken, backlog=backlog) == sorted(numbers(taken, backlog=backlog))
    if order is SendOrder.STRICT:
        assert [seq for seq, _ in taken] == list(range(1, total + 1))


def test_entries_are_read_a_few_at_a_time(outbox: Outbox) -> None:
    crops = [Message(topic=TOPICS.crop(0), payload=bytes(1000), qos=1)]
    for _ in range(100):
        outbox.append(lambda _epoch, _seq: [Message(topic=TOPICS.verdict, payload=b"{}", qos=1), *crops])
    waiting = SendQueue(outbox, SendOrder.STRICT, 0.25)
    waiting.begin_connection(set())
    turn = waiting.next()
    assert turn is not None
    taken: list[Entry] = []
    outbox.settle(list(range(50, 200)))  # what is settled meanwhile is not read any more

    while (turn := waiting.next()) is not None:
        taken.append(turn.entry)
        waiting.take(turn)

    assert [entry.row_id for entry in taken] == [*range(1, 50), 200]
