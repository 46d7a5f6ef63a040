"""What is remembered of verdicts that were evicted: as few ranges as possible, and never more than a thousand."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import pairwise

from edge.delivery.outbox.records import Tombstone

MAX_TOMBSTONES = 1000  # ranges; beyond, the two with the least between them are joined
_SELECT = "SELECT id, epoch, first_seq, last_seq, count FROM tombstones"


class Tombstones:
    """The table of ranges. Changes run in the transaction of their caller."""

    def __init__(self, connection: sqlite3.Connection, last_id: int) -> None:
        """`last_id` is the highest number that a range ever had."""
        self._connection = connection
        self.last_id = last_id
        self._handed_out: set[int] = set()  # being published: what the message says must not change any more

    def __len__(self) -> int:
        return int(self._connection.execute("SELECT count(*) FROM tombstones").fetchone()[0])

    def hand_out(self, limit: int) -> tuple[Tombstone, ...]:
        """The oldest `limit` ranges; from here on they are not changed while the database is open."""
        ranges = self._read(f"{_SELECT} ORDER BY id", ())
        self._handed_out &= {found.tombstone_id for found in ranges}
        self._handed_out |= {found.tombstone_id for found in ranges[:limit]}
        return tuple(ranges[:limit])

    def add(self, lost: Iterable[tuple[int, int]]) -> None:
        """Remember each evicted (epoch, seq)."""
        added = False
        for epoch, first, last in _runs(lost):
            self._add_range(epoch, first, last)
            added = True
        while added and len(self) > MAX_TOMBSTONES and self._join_closest():
            pass

    def delete(self, tombstone_ids: Iterable[int]) -> int:
        """They are published; how many there were."""
        statement = "DELETE FROM tombstones WHERE id = ?"
        return sum(self._connection.execute(statement, (number,)).rowcount for number in set(tombstone_ids))

    def _add_range(self, epoch: int, first: int, last: int) -> None:
        touching = self._read(
            f"{_SELECT} WHERE epoch = ? AND first_seq <= ? AND last_seq >= ?", (epoch, last + 1, first - 1)
        )
        self._join([Tombstone(0, epoch, first, last, last - first + 1), *self._free(touching)])

    def _join_closest(self) -> bool:
        """False: none can be joined."""
        ranges = self._free(self._read(f"{_SELECT} ORDER BY epoch, first_seq", ()))
        pairs = [pair for pair in pairwise(ranges) if pair[0].epoch == pair[1].epoch]
        if pairs:
            self._join(min(pairs, key=lambda pair: pair[1].first_seq - pair[0].last_seq))
        return bool(pairs)

    def _join(self, ranges: Sequence[Tombstone]) -> None:
        self.delete(found.tombstone_id for found in ranges)
        row = self._connection.execute(
            "INSERT INTO tombstones (epoch, first_seq, last_seq, count) VALUES (?, ?, ?, ?)",
            (
                ranges[0].epoch,
                min(found.first_seq for found in ranges),
                max(found.last_seq for found in ranges),
                sum(found.count for found in ranges),
            ),
        ).lastrowid
        assert row is not None
        self.last_id = max(self.last_id, row)

    def _free(self, ranges: Iterable[Tombstone]) -> list[Tombstone]:
        return [found for found in ranges if found.tombstone_id not in self._handed_out]

    def _read(self, statement: str, values: Sequence[int]) -> list[Tombstone]:
        return [Tombstone(*row) for row in self._connection.execute(statement, values).fetchall()]


def _runs(lost: Iterable[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Consecutive numbers as (epoch, first, last)."""
    runs: list[tuple[int, int, int]] = []
    for epoch, seq in sorted(lost):
        if runs and runs[-1][0] == epoch and runs[-1][2] == seq - 1:
            runs[-1] = (epoch, runs[-1][1], seq)
        else:
            runs.append((epoch, seq, seq))
    return runs
