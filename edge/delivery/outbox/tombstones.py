"""What is remembered of verdicts that were given up: as few ranges as possible, and never more than a thousand."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from edge.delivery.outbox.records import GivenUp, Tombstone
from edge.delivery.outbox.rows import seal_numbers

MAX_TOMBSTONES = 1000  # ranges; beyond, the two with the least between them are joined
_COLUMNS = "id, epoch, first_seq, last_seq, count, reason"
_SELECT = f"SELECT {_COLUMNS}, seal FROM tombstones"  # noqa: S608 — our own names


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

    def add(self, lost: Iterable[tuple[int, int]], reason: GivenUp = GivenUp.EVICTED) -> None:
        """Remember each (epoch, seq) that is given up."""
        added = False
        for epoch, first, last in _runs(lost):
            self._add_range(epoch, first, last, reason)
            added = True
        while added and len(self) > MAX_TOMBSTONES and self._join_closest():
            pass

    def delete(self, tombstone_ids: Iterable[int]) -> int:
        """They are published; how many there were."""
        statement = "DELETE FROM tombstones WHERE id = ?"
        return sum(self._connection.execute(statement, (number,)).rowcount for number in set(tombstone_ids))

    def seal_all(self) -> None:
        """Those of a version that had no seals."""
        for values in self._connection.execute(f"{_SELECT} WHERE seal IS NULL").fetchall():
            self._connection.execute(
                "UPDATE tombstones SET seal = ? WHERE id = ?", (seal_numbers(*values[:-1]), values[0])
            )

    def delete_damaged(self) -> list[int]:
        """Those that are not what was written; their numbers."""
        rows = self._connection.execute(_SELECT).fetchall()
        damaged = [values[0] for values in rows if not _is_sound(values)]
        self.delete(damaged)
        return damaged

    def _add_range(self, epoch: int, first: int, last: int, reason: GivenUp) -> None:
        touching = self._read(
            f"{_SELECT} WHERE epoch = ? AND first_seq <= ? AND last_seq >= ? AND reason = ?",
            (epoch, last + 1, first - 1, reason.value),
        )
        self._join([Tombstone(0, epoch, first, last, last - first + 1, reason), *self._free(touching)])

    def _join_closest(self) -> bool:
        """False: none can be joined."""
        ranges = self._free(self._read(f"{_SELECT} ORDER BY reason, epoch, first_seq", ()))
        pairs = [pair for pair in pairwise(ranges) if _of_one_kind(*pair)]
        if pairs:
            self._join(min(pairs, key=lambda pair: pair[1].first_seq - pair[0].last_seq))
        return bool(pairs)

    def _join(self, ranges: Sequence[Tombstone]) -> None:
        self.delete(found.tombstone_id for found in ranges)
        self.last_id += 1
        joined = Tombstone(
            self.last_id,
            ranges[0].epoch,
            min(found.first_seq for found in ranges),
            max(found.last_seq for found in ranges),
            sum(found.count for found in ranges),
            ranges[0].reason,
        )
        self._connection.execute(
            f"INSERT INTO tombstones ({_COLUMNS}, seal) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 — our own names
            (*_values(joined), seal_numbers(*_values(joined))),
        )

    def _free(self, ranges: Iterable[Tombstone]) -> list[Tombstone]:
        return [found for found in ranges if found.tombstone_id not in self._handed_out]

    def _read(self, statement: str, values: Sequence[int | str]) -> list[Tombstone]:
        """What is damaged while the database is open is passed over, and found at the next opening."""
        rows = self._connection.execute(statement, values).fetchall()
        return [_tombstone(row) for row in rows if _is_sound(row)]


def _values(stone: Tombstone) -> tuple[int | str, ...]:
    return stone.tombstone_id, stone.epoch, stone.first_seq, stone.last_seq, stone.count, stone.reason.value


def _tombstone(values: Sequence[Any]) -> Tombstone:
    number, epoch, first, last, count, reason, _ = values
    return Tombstone(number, epoch, first, last, count, GivenUp(reason))


def _is_sound(values: Sequence[object]) -> bool:
    return values[-1] == seal_numbers(*values[:-1])


def _of_one_kind(first: Tombstone, second: Tombstone) -> bool:
    return (first.epoch, first.reason) == (second.epoch, second.reason)


def _runs(lost: Iterable[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Consecutive numbers as (epoch, first, last)."""
    runs: list[tuple[int, int, int]] = []
    for epoch, seq in sorted(lost):
        if runs and runs[-1][0] == epoch and runs[-1][2] == seq - 1:
            runs[-1] = (epoch, runs[-1][1], seq)
        else:
            runs.append((epoch, seq, seq))
    return runs
