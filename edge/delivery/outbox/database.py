"""The outbox's rows: one SQLite connection, and every statement that runs on it. No policy and no files.

One connection, because SQLite lets one write at a time anyway, and because a database that is locked for good needs
no shared memory: no `-shm` file that could be mapped beyond the end of a full disk. Commits go to a write-ahead log,
one flush to disk each. Not thread safe: the outbox holds its lock around every call.

Whatever a damaged row holds can be read, as anything, and is never taken for a message.
"""
# ruff: noqa: S608 — statements are put together from this module's own names

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge.delivery.outbox.records import DAMAGED, Entry, GivenUp, Kind
from edge.delivery.outbox.rows import (
    KEY_COLUMNS,
    Key,
    Row,
    RowDamagedError,
    from_values,
    key_values,
    make_row,
    read_key,
    remains_of,
    to_values,
)
from edge.delivery.outbox.schema import DamagedError, upgrade, verify
from edge.delivery.outbox.state import State, read_state, write_state
from edge.delivery.outbox.tables import Damaged, Dead, Evictable, Table, Totals, decode
from edge.delivery.outbox.tombstones import Tombstones

LAST_ROW = 2**63 - 1  # SQLite's highest row id

_HIGHEST_SANE_ROW = 2**62
_SETTINGS = (
    "locking_mode = EXCLUSIVE",
    "journal_mode = WAL",
    "synchronous = FULL",
    "secure_delete = OFF",  # Debian's default would write every deleted row once more
    "temp_store = MEMORY",
    "mmap_size = 0",  # an I/O error in mapped memory ends the process
    "trusted_schema = OFF",
)


class Database:
    """An open database; `state` and `totals` are as of the last commit, or of the transaction that runs."""

    def __init__(self, path: Path, on_commit: Callable[[State], None]) -> None:
        """Open the file at `path`; nothing is read before `load`. `on_commit` is told of what is on disk.

        Raises:
            sqlite3.Error: the disk refuses.
        """
        # Threads take turns under the outbox's lock.
        self._connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, check_same_thread=False
        )
        self._connection.text_factory = decode
        self._on_commit = on_commit

    def load(self, log_pages: int) -> State | None:
        """Verify what is there; from now on the log goes into the database every `log_pages` pages. `weed` must follow.

        Returns:
            What it remembers of itself; None: that is damaged, and `state` says only what its rows tell.

        Raises:
            DamagedError: it is not a sound outbox database.
            sqlite3.Error: it is damaged, or the disk refuses.
        """
        for setting in (*_SETTINGS, f"wal_autocheckpoint = {log_pages}"):
            self._read(f"PRAGMA {setting}")
        is_of_today = verify(self._connection)
        self.recovered_frames = self.checkpoint("PASSIVE")  # of the log that was found
        if not is_of_today:
            self._upgrade()
        self.tombstones = Tombstones(self._connection, self._last_id("tombstones"))
        found = read_state(self._connection)
        last_row_id = max(self._last_id("messages"), self._newest_id("dead_letters"))
        if last_row_id > _HIGHEST_SANE_ROW:
            raise DamagedError(f"its rows are numbered up to {last_row_id}")
        self.state = replace(found or State(0), last_row_id=max(last_row_id, found.last_row_id if found else 0))
        self.totals = Totals()  # until `weed`
        return found

    def close(self) -> None:
        """Everything committed goes into the database file, where the disk allows it."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; when it ends, it is on disk.

        Raises:
            sqlite3.Error: the disk refuses; nothing has changed.
        """
        before, changes = (self.state, self.totals), self._connection.total_changes
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            if self.state != before[0] or self._connection.total_changes != changes:
                self.state = replace(self.state, commits=self.state.commits + 1)
                write_state(self._connection, self.state)
            self._connection.execute("COMMIT")
        except BaseException:
            self.state, self.totals = before
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise
        if self.state != before[0]:
            self._on_commit(self.state)

    # Within a transaction.

    def begin_epoch(self, epoch: int) -> None:
        """Verdicts are numbered from 1 again."""
        self.state = replace(self.state, epoch=epoch, seq=0)

    def insert(self, entry: Entry, *, file: str) -> int:
        """Behind everything, whatever number it has; its row id. A message with a `file` has its payload there."""
        return self._store(make_row(self.state.last_row_id + 1, entry, file))

    def restore(self, row: Row, *death: float) -> None:
        """A row of another database, behind everything; of a dead letter with reason code and time of its death."""
        row_id = self.state.last_row_id + 1
        row = replace(row, entry=replace(row.entry, row_id=row_id, late=True))
        if not death:
            self._store(row)
            return
        reason_code, buried_at_s = death
        self.state = replace(self.state, last_row_id=row_id)
        self._store_dead(row, int(reason_code), buried_at_s)
        if row.entry.kind is Kind.VERDICT:
            self.tombstones.add([(row.entry.epoch, row.entry.seq)], GivenUp.REFUSED)

    def delete(self, row_ids: Sequence[int]) -> tuple[int, list[str]]:
        """Delete rows, passing over unknown ones: how many there were, and the files that belonged to them."""
        return self._delete_listed("messages", row_ids)

    def delete_dead_letters(self, row_ids: Sequence[int]) -> tuple[int, list[str]]:
        """The same for dead letters."""
        return self._delete_listed("dead_letters", row_ids)

    def delete_others(self, topic: str) -> None:
        """Delete the other messages to `topic`."""
        self.delete(
            [row[0] for row in self._read("SELECT id FROM messages WHERE kind = 'other' AND topic = ?", (topic,))]
        )

    def bury(self, row_id: int, reason_code: int, buried_at_s: float) -> bool:
        """Move a row to the dead letters; a verdict is remembered as a tombstone. False: there is no such row.

        Raises:
            RowDamagedError: it is not what was written.
        """
        found = self._one(Table.MESSAGES, row_id)
        if found is None:
            return False
        row = self._row(found)
        self.delete([row_id])
        self._store_dead(row, reason_code, buried_at_s)
        if row.entry.kind is Kind.VERDICT:
            self.tombstones.add([(row.entry.epoch, row.entry.seq)], GivenUp.REFUSED)
        self.state = replace(self.state, refused=self.state.refused + (reason_code >= 0))
        return True

    def raise_again(self, row_id: int) -> bool:
        """Move a dead letter behind the messages. False: there is none.

        Raises:
            RowDamagedError: it is not what was written.
        """
        found = self._one(Table.DEAD_LETTERS, row_id)
        if found is None:
            return False
        dead = self._dead(found)
        row = replace(dead.row, entry=replace(dead.row.entry, row_id=self.state.last_row_id + 1, late=True))
        self.delete_dead_letters([row_id])
        self._store(row)
        return True

    def evict(self, what: Evictable, rows: int, size: int, limit: int) -> list[str]:
        """Delete the oldest until there are `rows` rows and `size` bytes fewer, or `limit` are gone.

        Verdicts are remembered as tombstones; dead ones have theirs since they died.

        Returns:
            The files that belonged to what is deleted.
        """
        if rows <= 0 and size <= 0:
            return []
        source, counter = what.value
        victims = self._oldest(f"SELECT {KEY_COLUMNS} FROM {source} ORDER BY id LIMIT ?", limit, rows, size)
        self._delete(what.table, victims)
        if what is Evictable.VERDICTS:
            self.tombstones.add((victim.epoch, victim.seq) for victim in victims)
        self.state = replace(self.state, **{counter: getattr(self.state, counter) + len(victims)})
        return _files(victims)

    def seal(self, table: Table, seals: Sequence[tuple[bytes, int]]) -> None:
        """Give rows (seal, id) the seals that they never had."""
        self._connection.executemany(f"UPDATE {table.value} SET seal = ? WHERE id = ?", seals)

    def replace_by_remains(self, table: Table, damaged: Damaged, now_s: float) -> int:
        """What is left of a damaged row becomes a dead letter; its number. A verdict gets its tombstone."""
        (values,) = self.rows(table, damaged.row_id - 1, 1)
        self._connection.execute(f"DELETE FROM {table.value} WHERE id = ?", (damaged.row_id,))
        # Under a new number: its own may be damaged, too, and belong to another one.
        number = self.state.last_row_id + 1
        self.state = replace(self.state, last_row_id=number)
        self._store_dead(make_row(number, remains_of(values, damaged.key), ""), DAMAGED, now_s)
        if table is Table.MESSAGES and damaged.key is not None and damaged.key.kind is Kind.VERDICT:
            self.tombstones.add([(damaged.key.epoch, damaged.key.seq)], GivenUp.DAMAGED)
        return number

    def end_unsealed(self) -> None:
        """From here on every row has a seal."""
        self.state = replace(self.state, unsealed_to=0)

    # Reading.

    def count(self) -> None:
        """Let `totals` be what the tables hold."""
        sums = "coalesce(sum(kind = 'verdict'), 0), coalesce(sum(kind = 'crop'), 0), count(*), coalesce(sum(size), 0)"
        ((verdicts, crops, rows, size),) = self._read(f"SELECT {sums} FROM messages")
        ((dead, dead_size),) = self._read("SELECT count(*), coalesce(sum(size), 0) FROM dead_letters")
        self.totals = Totals(verdicts, crops, rows - verdicts - crops, dead, int(size + dead_size))

    def pending(self, after: int, before: int, limit: int) -> list[Row | Damaged]:
        """Messages in order of arrival."""
        statement = f"SELECT {Table.MESSAGES.columns} FROM messages WHERE id > ? AND id < ? ORDER BY id LIMIT ?"
        return [self.understand(values) for values in self._read(statement, (after, before, limit))]

    def dead_letters(self, after: int, limit: int) -> list[Dead | Damaged]:
        """Dead letters in order of arrival."""
        return [self._dead_or_damaged(values) for values in self.rows(Table.DEAD_LETTERS, after, limit)]

    def rows(self, table: Table, after: int, limit: int) -> list[tuple[Any, ...]]:
        """As they are stored: (id, *COLUMNS, …, seal) in order."""
        return self._read(f"SELECT {table.columns} FROM {table.value} WHERE id > ? ORDER BY id LIMIT ?", (after, limit))

    def understand(self, values: Sequence[Any]) -> Row | Damaged:
        """What a stored row says."""
        try:
            return self._row(values)
        except RowDamagedError:
            return self._damaged(values)

    def oldest_s(self) -> float | None:
        """When the oldest message was committed."""
        rows = self._read("SELECT committed_at FROM messages ORDER BY id LIMIT 1")
        return rows[0][0] if rows and isinstance(rows[0][0], float) else None

    def files(self) -> set[str]:
        """Every file that a row names."""
        rows = self._read("SELECT file FROM messages WHERE kind = 'crop' UNION SELECT file FROM dead_letters")
        return {row[0] for row in rows}

    def spare_pages(self) -> int:
        """Pages of the file that hold nothing: a database never shrinks, but it uses them first."""
        return int(self._read("PRAGMA freelist_count")[0][0])

    def checkpoint(self, mode: str) -> int:
        """Write what the log holds into the database file; how many frames the log had.

        Raises:
            sqlite3.Error: the disk refuses; nothing is lost.
        """
        return int(self._read(f"PRAGMA wal_checkpoint({mode})")[0][1])

    # Below.

    def _upgrade(self) -> None:
        """Tables of the first version; its verdicts among the dead letters have no tombstones yet."""
        self._connection.execute("BEGIN IMMEDIATE")
        upgrade(self._connection)
        tombstones = Tombstones(self._connection, self._last_id("tombstones"))
        tombstones.seal_all()
        tombstones.add(self._read("SELECT epoch, seq FROM dead_letters WHERE kind = 'verdict'"), GivenUp.REFUSED)
        last = max(self._last_id("messages"), self._newest_id("dead_letters"))
        names = "epoch, seq, evicted_verdicts, evicted_crops, evicted_dead_letters"
        old = State(*self._read(f"SELECT {names} FROM state")[0])
        write_state(self._connection, replace(old, last_row_id=last, unsealed_to=last))
        self._connection.execute("COMMIT")

    def _store(self, row: Row) -> int:
        self._insert(Table.MESSAGES, to_values(row))
        self._tally(f"{row.entry.kind.value}s", 1, row.entry.size)
        self.state = replace(self.state, last_row_id=row.entry.row_id)
        return row.entry.row_id

    def _store_dead(self, row: Row, reason_code: int, buried_at_s: float) -> None:
        self._insert(Table.DEAD_LETTERS, to_values(row, reason_code, float(buried_at_s)))
        self._tally("dead_letters", 1, row.entry.size)

    def _insert(self, table: Table, values: Sequence[Any]) -> None:
        marks = ", ".join("?" * len(values))
        self._connection.execute(f"INSERT INTO {table.value} ({table.columns}) VALUES ({marks})", values)

    def _one(self, table: Table, row_id: int) -> tuple[Any, ...] | None:
        return next((values for values in self.rows(table, row_id - 1, 1) if values[0] == row_id), None)

    def _row(self, values: Sequence[Any]) -> Row:
        return from_values(values, may_lack_seal=self._may_lack_seal(values))

    def _dead(self, values: Sequence[Any]) -> Dead:
        return Dead(self._row(values), int(values[-3]), float(values[-2]))

    def _dead_or_damaged(self, values: Sequence[Any]) -> Dead | Damaged:
        try:
            return self._dead(values)
        except RowDamagedError:
            return self._damaged(values)

    def _damaged(self, values: Sequence[Any]) -> Damaged:
        try:
            return Damaged(values[0], self._key(key_values(values)))
        except RowDamagedError:
            return Damaged(values[0], None)

    def _key(self, values: Sequence[Any]) -> Key:
        return read_key(values, may_lack_seal=self._may_lack_seal(values))

    def _may_lack_seal(self, values: Sequence[Any]) -> bool:
        return bool(values[0] <= self.state.unsealed_to)

    def _last_id(self, table: str) -> int:
        """The highest row id ever given out, as far as the table and its counter know."""
        rows = self._read("SELECT seq FROM sqlite_sequence WHERE name = ? AND typeof(seq) = 'integer'", (table,))
        return max(self._newest_id(table), *(int(seq) for (seq,) in rows), 0)

    def _newest_id(self, table: str) -> int:
        return int(self._read(f"SELECT coalesce(max(id), 0) FROM {table}")[0][0])

    def _oldest(self, statement: str, limit: int, rows: int, size: int) -> list[Key]:
        """Victims, read one by one until they are `rows` rows and `size` bytes."""
        victims = []
        with contextlib.closing(self._connection.execute(statement, (limit,))) as found:
            while (rows > 0 or size > 0) and (values := found.fetchone()) is not None:
                victims.append(self._key(values))
                rows, size = rows - 1, size - victims[-1].size
        return victims

    def _delete_listed(self, table: str, row_ids: Sequence[int]) -> tuple[int, list[str]]:
        select = f"SELECT {KEY_COLUMNS} FROM {table} WHERE id = ?"
        victims = [self._key(values) for row_id in set(row_ids) for values in self._read(select, (row_id,))]
        self._delete(table, victims)
        return len(victims), _files(victims)

    def _delete(self, table: str, victims: Sequence[Key]) -> None:
        self._connection.executemany(f"DELETE FROM {table} WHERE id = ?", [(victim.row_id,) for victim in victims])
        for victim in victims:
            self._tally("dead_letters" if table == "dead_letters" else f"{victim.kind.value}s", -1, -victim.size)

    def _tally(self, name: str, rows: int, size: int) -> None:
        changes = {name: getattr(self.totals, name) + rows, "bytes": self.totals.bytes + size}
        self.totals = replace(self.totals, **changes)

    def _read(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._connection.execute(statement, values).fetchall()


def _files(victims: Sequence[Key]) -> list[str]:
    return [victim.file for victim in victims if victim.file]
