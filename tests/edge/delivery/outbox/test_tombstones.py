from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

from hypothesis import given
from hypothesis import strategies as st

from edge.delivery.outbox.records import Tombstone
from edge.delivery.outbox.schema import create_database
from edge.delivery.outbox.tombstones import MAX_TOMBSTONES, Tombstones
from tests.outboxes import quick_directory

EPOCH = 7


@contextmanager
def table() -> Iterator[Tombstones]:
    with quick_directory() as directory:
        path = directory / "outbox.db"
        create_database(path, EPOCH, last_row_id=0, last_tombstone_id=100)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            yield Tombstones(connection, 100)


def keys(tombstones: Tombstones) -> set[tuple[int, int]]:
    """Every (epoch, seq) that the ranges hold."""
    ranges = tombstones.hand_out(MAX_TOMBSTONES)
    return {(found.epoch, seq) for found in ranges for seq in range(found.first_seq, found.last_seq + 1)}


Lost = st.lists(st.sets(st.tuples(st.sampled_from([1, 2]), st.integers(1, 40))), max_size=8)


@given(Lost)
def test_ranges_hold_exactly_what_was_lost_and_never_touch(batches: list[set[tuple[int, int]]]) -> None:
    lost: set[tuple[int, int]] = set()
    with table() as tombstones:
        for batch in batches:
            tombstones.add(batch - lost)
            lost |= batch
        ranges = tombstones.hand_out(MAX_TOMBSTONES)
        assert keys(tombstones) == lost
        assert sum(found.count for found in ranges) == len(lost)
        starts = {(found.epoch, found.first_seq) for found in ranges}
        assert not starts & {(found.epoch, found.last_seq + 1) for found in ranges}


@given(Lost, st.integers(0, 5))
def test_what_is_handed_out_never_changes(batches: list[set[tuple[int, int]]], limit: int) -> None:
    lost: set[tuple[int, int]] = set()
    with table() as tombstones:
        handed_out: dict[int, Tombstone] = {}
        for batch in batches:
            tombstones.add(batch - lost)
            lost |= batch
            handed_out |= {found.tombstone_id: found for found in tombstones.hand_out(limit)}
        present = {found.tombstone_id: found for found in tombstones.hand_out(MAX_TOMBSTONES)}
        assert {number: present[number] for number in handed_out} == handed_out
        assert keys(tombstones) == lost
        assert sum(found.count for found in present.values()) == len(lost)


def test_far_too_many_ranges_are_joined_where_least_lies_between_and_the_count_stays_true() -> None:
    with table() as tombstones:
        seqs = [10 * number for number in range(1, MAX_TOMBSTONES + 1)]
        tombstones.add((EPOCH, seq) for seq in seqs)
        assert len(tombstones) == MAX_TOMBSTONES
        tombstones.add([(EPOCH, 503)])
        assert len(tombstones) == MAX_TOMBSTONES
        (joined,) = [found for found in tombstones.hand_out(MAX_TOMBSTONES) if found.count > 1]
        assert (joined.first_seq, joined.last_seq, joined.count) == (500, 503, 2)


def test_ranges_that_are_all_being_published_are_not_joined() -> None:
    with table() as tombstones:
        tombstones.add((EPOCH, 2 * number) for number in range(MAX_TOMBSTONES))
        before = tombstones.hand_out(MAX_TOMBSTONES)
        tombstones.add([(EPOCH, 5001)])
        assert tombstones.hand_out(MAX_TOMBSTONES) == before
        assert len(tombstones) == MAX_TOMBSTONES + 1


def test_numbers_go_on_after_the_last_one_and_are_not_used_twice() -> None:
    with table() as tombstones:
        tombstones.add([(EPOCH, 1), (EPOCH, 3)])
        first, second = tombstones.hand_out(10)
        assert (first.tombstone_id, second.tombstone_id) == (101, 102)
        assert tombstones.delete([first.tombstone_id, second.tombstone_id, 999]) == 2
        tombstones.add([(EPOCH, 1)])
        assert [found.tombstone_id for found in tombstones.hand_out(10)] == [103]
        assert tombstones.last_id == 103
