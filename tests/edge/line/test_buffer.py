from __future__ import annotations

import threading
from collections import Counter, deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.line.buffer import Buffer, WhenFull

PATIENCE_S = 30.0

# A number is put, None gets.
Operations = st.lists(st.one_of(st.integers(), st.none()), max_size=60)


@given(st.integers(1, 8), Operations)
def test_drop_oldest_keeps_the_newest_items_in_order_and_counts_the_rest(
    capacity: int, operations: list[int | None]
) -> None:
    buffer = Buffer[int](capacity, WhenFull.DROP_OLDEST)
    model = deque[int](maxlen=capacity)
    put = got = 0
    for operation in operations:
        if operation is None:
            expected = model.popleft() if model else None
            assert buffer.get(0) == expected
            got += expected is not None
        else:
            assert buffer.put(operation, 0)
            model.append(operation)
            put += 1
        assert len(buffer) == len(model) <= capacity
        assert put == got + len(buffer) + buffer.discarded
    assert [buffer.get(0) for _ in range(len(buffer))] == list(model)


@given(st.integers(1, 8), Operations)
def test_a_blocking_buffer_refuses_when_full_and_loses_nothing(capacity: int, operations: list[int | None]) -> None:
    buffer = Buffer[int](capacity, WhenFull.BLOCK)
    model = deque[int]()
    for operation in operations:
        if operation is None:
            assert buffer.get(0) == (model.popleft() if model else None)
        else:
            fits = len(model) < capacity
            assert buffer.put(operation, 0) is fits
            if fits:
                model.append(operation)
        assert len(buffer) == len(model) <= capacity
    assert buffer.discarded == 0


@pytest.mark.parametrize("when_full", list(WhenFull))
def test_a_closed_buffer_gives_what_it_has_and_takes_no_more(when_full: WhenFull) -> None:
    buffer = Buffer[int](2, when_full)
    assert buffer.put(1, 0)
    assert buffer.put(2, 0)
    buffer.close()
    assert not buffer.put(3, 0)
    states = [buffer.drained]
    assert [buffer.get(0), buffer.get(0), buffer.get(0)] == [1, 2, None]
    states.append(buffer.drained)
    assert states == [False, True]
    assert buffer.discarded == 0


def test_an_empty_open_buffer_is_not_drained() -> None:
    assert not Buffer[int](2, WhenFull.BLOCK).drained


def test_close_wakes_everyone_who_waits_for_an_item() -> None:
    buffer = Buffer[int](1, WhenFull.BLOCK)
    answers: list[int | None] = []
    threads = [threading.Thread(target=lambda: answers.append(buffer.get(10 * PATIENCE_S))) for _ in range(3)]
    for thread in threads:
        thread.start()
    buffer.close()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert answers == [None, None, None]


def test_close_wakes_everyone_who_waits_for_room() -> None:
    buffer = Buffer[int](1, WhenFull.BLOCK)
    buffer.put(0, 0)
    answers: list[bool] = []
    threads = [threading.Thread(target=lambda: answers.append(buffer.put(1, 10 * PATIENCE_S))) for _ in range(3)]
    for thread in threads:
        thread.start()
    buffer.close()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert answers == [False, False, False]
    assert len(buffer) == 1


def test_a_waiting_put_goes_on_when_room_comes() -> None:
    buffer = Buffer[int](1, WhenFull.BLOCK)
    buffer.put(1, 0)
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(buffer.put(2, PATIENCE_S)))
    thread.start()
    assert buffer.get(0) == 1
    assert buffer.get(PATIENCE_S) == 2
    thread.join(PATIENCE_S)
    assert answers == [True]


def _drain(buffer: Buffer[tuple[int, int]], got: list[tuple[int, int]]) -> None:
    while not buffer.drained:
        item = buffer.get(0.05)
        if item is not None:
            got.append(item)


def _fill(buffer: Buffer[tuple[int, int]], producer: int, count: int) -> None:
    for number in range(count):
        assert buffer.put((producer, number), PATIENCE_S)


@pytest.mark.parametrize("when_full", list(WhenFull))
def test_many_threads_lose_repeat_and_invert_nothing(when_full: WhenFull) -> None:
    buffer = Buffer[tuple[int, int]](3, when_full)
    taken: list[list[tuple[int, int]]] = [[], [], []]
    consumers = [threading.Thread(target=_drain, args=(buffer, got)) for got in taken]
    producers = [threading.Thread(target=_fill, args=(buffer, producer, 2000)) for producer in range(3)]
    for thread in (*consumers, *producers):
        thread.start()
    for thread in producers:
        thread.join(PATIENCE_S)
    buffer.close()
    for thread in consumers:
        thread.join(PATIENCE_S)
    everything = [item for got in taken for item in got]
    assert max(Counter(everything).values()) == 1
    assert len(everything) + buffer.discarded == 6000
    assert when_full is WhenFull.DROP_OLDEST or buffer.discarded == 0
    for got in taken:
        for producer in range(3):
            numbers = [number for who, number in got if who == producer]
            assert numbers == sorted(numbers)


@pytest.mark.parametrize("when_full", list(WhenFull))
def test_items_are_numbered_as_they_are_got_whichever_way_and_drops_have_no_number(when_full: WhenFull) -> None:
    buffer = Buffer[str](2, when_full)
    for item in ("a", "b"):
        assert buffer.put(item, 0)
    assert buffer.get_numbered(0) == (0, "a")
    assert buffer.get(0) == "b"
    assert buffer.get_numbered(0) is None
    for item in ("c", "d", "e"):
        buffer.put(item, 0)
    kept = ["c", "d"] if when_full is WhenFull.BLOCK else ["d", "e"]
    assert [buffer.get_numbered(0), buffer.get_numbered(0)] == [(2, kept[0]), (3, kept[1])]
