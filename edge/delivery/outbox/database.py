"""The outbox's rows: one SQLite connection, and every statement that runs on it. No policy and no files.

One connection, because SQLite lets one write at a time anyway, and because a database that is locked for good needs
no shared memory: no `-shm` file that could be mapped beyond the end of a full disk. Commits go to a write-ahead log,
one flush to disk each. Not thread safe: the outbox holds its lock around every call.
"""
# ruff: noqa: S608 — statements are put together from this module's own names

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from edge.delivery.outbox.records import Kind
from edge.delivery.outbox.schema import COLUMNS, verify
from edge.delivery.outbox.tombstones import Tombstones
from edge.records import Message

LAST_ROW = 2**63 - 1  # SQLite's highest row id

_ROW = f"id, {COLUMNS}"
_VICTIM = "id, kind, epoch, seq, size, file"
_NEWEST_VERDICT = "SELECT id FROM messages WHERE kind = 'verdict' ORDER BY id DESC LIMIT 1"
_SETTINGS = (
    "locking_mode = EXCLUSIVE",
    "journal_mode = WAL",
    "synchronous = FULL",
    "secure_delete = OFF",  # Debian's default would write every deleted row once more
    "temp_store = MEMORY",
    "mmap_size = 0",  # an I/O error in mapped memory ends the process
    "trusted_schema = OFF",
)


class Evictable(Enum):
    """What may give way, never the newest verdict: how its oldest rows are found, and what its counter is called."""

    CROPS = "messages INDEXED BY crops WHERE kind = 'crop'", "evicted_crops"
    DEAD_LETTERS = "dead_letters WHERE TRUE", "evicted_dead_letters"
    VERDICTS = f"messages WHERE kind = 'verdict' AND id < ({_NEWEST_VERDICT})", "evicted_verdicts"


@dataclass(frozen=True, slots=True)
class State:
    """What the database remembers of itself."""

    epoch: int
    seq: int = 0  # the last one given out
    evicted_verdicts: int = 0
    evicted_crops: int = 0
    evicted_dead_letters: int = 0


@dataclass(frozen=True, slots=True)
class Totals:
    """What the tables hold."""

    verdicts: int = 0
    crops: int = 0
    others: int = 0
    dead_letters: int = 0
    bytes: int = 0

    @property
    def rows(self) -> int:
        """Rows that count for `max_rows`."""
        return self.verdicts + self.crops + self.others + self.dead_letters


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """A message as it is stored."""

    row_id: int
    kind: Kind
    epoch: int
    seq: int
    message: Message  # without its payload where that is in a file
    file: str  # "": none
    size: int
    committed_at_s: float


class Database:
    """An open database; `state` and `totals` are as of the last commit, or of the transaction that runs."""

    def __init__(self, path: Path) -> None:
        """Open the file at `path`; nothing is read before `load`.

        Raises:
            sqlite3.Error: the disk refuses.
        """
        # Threads take turns under the outbox's lock.
        self._connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, check_same_thread=False
        )

    def load(self, log_pages: int) -> None:
        """Verify and count what is there; from now on the log goes into the database every `log_pages` pages.

        Raises:
            DamagedError: it is not a sound outbox database.
            sqlite3.Error: it is damaged, or the disk refuses.
        """
        for setting in (*_SETTINGS, f"wal_autocheckpoint = {log_pages}"):
            self._read(f"PRAGMA {setting}")
        verify(self._connection)
        self.tombstones = Tombstones(self._connection, self._last_id("tombstones"))
        self.state = State(*self._read(f"SELECT {', '.join(State.__slots__)} FROM state")[0])
        self.totals = self._count()
        self.last_row_id = self._last_id("messages")  # the highest ever given out

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
        before = self.state, self.totals, self.last_row_id
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            if self.state != before[0]:
                self._write_state()
            self._connection.execute("COMMIT")
        except BaseException:
            self.state, self.totals, self.last_row_id = before
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise

    # Within a transaction.

    def begin_epoch(self, epoch: int) -> None:
        """Verdicts are numbered from 1 again."""
        self.state = replace(self.state, epoch=epoch, seq=0)

    def insert(self, kind: Kind, seq: int, message: Message, *, file: str, committed_at_s: float) -> int:
        """Behind everything; its row id. A message with a `file` has its payload there."""
        size = message_bytes(message)
        values = (
            kind.value,
            self.state.epoch,
            seq,
            message.topic,
            b"" if file else message.payload,
            file,
            size,
            message.qos,
            int(message.retain),
            message.content_type,
            json.dumps(message.user_properties),
            message.expiry_s,
            committed_at_s,
        )
        statement = f"INSERT INTO messages ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        row_id = self._connection.execute(statement, values).lastrowid
        assert row_id is not None
        self._tally(f"{kind.value}s", 1, size)
        self.last_row_id = row_id
        return row_id

    def delete(self, row_ids: Sequence[int]) -> tuple[int, list[str]]:
        """Delete rows, passing over unknown ones: how many there were, and the files that belonged to them."""
        select = f"SELECT {_VICTIM} FROM messages WHERE id = ?"
        victims = [victim for row_id in set(row_ids) for victim in self._read(select, (row_id,))]
        self._delete("messages", victims)
        return len(victims), _files(victims)

    def delete_others(self, topic: str) -> None:
        """Delete the other messages to `topic`."""
        self.delete(
            [row[0] for row in self._read("SELECT id FROM messages WHERE kind = 'other' AND topic = ?", (topic,))]
        )

    def bury(self, row_id: int, reason_code: int, buried_at_s: float) -> bool:
        """Move a row to the dead letters; False: there is none."""
        copied = self._connection.execute(
            f"INSERT INTO dead_letters ({_ROW}, reason_code, buried_at) SELECT {_ROW}, ?, ? FROM messages WHERE id = ?",
            (reason_code, buried_at_s, row_id),
        ).rowcount
        if not copied:
            return False
        victims = self._read(f"SELECT {_VICTIM} FROM messages WHERE id = ?", (row_id,))
        self._delete("messages", victims)
        self._tally("dead_letters", 1, victims[0][4])
        return True

    def evict(self, what: Evictable, rows: int, size: int, limit: int) -> list[str]:
        """Delete the oldest until there are `rows` rows and `size` bytes fewer, or `limit` are gone.

        Verdicts are remembered as tombstones.

        Returns:
            The files that belonged to what is deleted.
        """
        if rows <= 0 and size <= 0:
            return []
        source, counter = what.value
        victims = self._oldest(f"SELECT {_VICTIM} FROM {source} ORDER BY id LIMIT ?", limit, rows, size)
        self._delete("dead_letters" if what is Evictable.DEAD_LETTERS else "messages", victims)
        self.tombstones.add((victim[2], victim[3]) for victim in victims if victim[1] == Kind.VERDICT)
        self.state = replace(self.state, **{counter: getattr(self.state, counter) + len(victims)})
        return _files(victims)

    # Reading.

    def pending(self, after: int, before: int, limit: int) -> list[Row]:
        """Messages in order of arrival."""
        statement = f"SELECT {_ROW} FROM messages WHERE id > ? AND id < ? ORDER BY id LIMIT ?"
        return [_row(values) for values in self._read(statement, (after, before, limit))]

    def dead_letters(self, after: int, limit: int) -> list[tuple[Row, int, float]]:
        """Dead letters in order of arrival, with reason code and time."""
        statement = f"SELECT {_ROW}, reason_code, buried_at FROM dead_letters WHERE id > ? ORDER BY id LIMIT ?"
        return [(_row(values[:-2]), values[-2], values[-1]) for values in self._read(statement, (after, limit))]

    def oldest_s(self) -> float | None:
        """When the oldest message was committed."""
        rows = self._read("SELECT committed_at FROM messages ORDER BY id LIMIT 1")
        return float(rows[0][0]) if rows else None

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

    def _last_id(self, table: str) -> int:
        return int(self._read("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,))[0][0])

    def _count(self) -> Totals:
        groups = self._read("SELECT kind || 's', count(*), sum(size) FROM messages GROUP BY kind")
        groups += self._read("SELECT 'dead_letters', count(*), coalesce(sum(size), 0) FROM dead_letters")
        return Totals(**{name: rows for name, rows, _ in groups}, bytes=sum(size for *_, size in groups))

    def _write_state(self) -> None:
        assignments = ", ".join(f"{name} = ?" for name in State.__slots__)
        values = [getattr(self.state, name) for name in State.__slots__]
        self._connection.execute(f"UPDATE state SET {assignments}", values)

    def _oldest(self, statement: str, limit: int, rows: int, size: int) -> list[tuple[Any, ...]]:
        """Victims, read one by one until they are `rows` rows and `size` bytes."""
        victims = []
        with contextlib.closing(self._connection.execute(statement, (limit,))) as found:
            while (rows > 0 or size > 0) and (victim := found.fetchone()) is not None:
                victims.append(victim)
                rows, size = rows - 1, size - victim[4]
        return victims

    def _delete(self, table: str, victims: Sequence[tuple[Any, ...]]) -> None:
        self._connection.executemany(f"DELETE FROM {table} WHERE id = ?", [victim[:1] for victim in victims])
        for _, kind, _, _, size, _ in victims:
            self._tally("dead_letters" if table == "dead_letters" else f"{kind}s", -1, -size)

    def _tally(self, name: str, rows: int, size: int) -> None:
        changes = {name: getattr(self.totals, name) + rows, "bytes": self.totals.bytes + size}
        self.totals = replace(self.totals, **changes)

    def _read(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._connection.execute(statement, values).fetchall()


def message_bytes(message: Message) -> int:
    """What a message counts for `max_bytes`: everything in it that has no fixed size."""
    texts = (message.topic, message.content_type, *(text for pair in message.user_properties for text in pair))
    return len(message.payload) + sum(len(text.encode()) for text in texts)


def _files(victims: Sequence[tuple[Any, ...]]) -> list[str]:
    return [victim[-1] for victim in victims if victim[-1]]


def _row(values: tuple[Any, ...]) -> Row:
    row_id, kind, epoch, seq, topic, payload, file, size, qos, retain, content_type, properties, expiry_s, at_s = values
    message = Message(
        topic=topic,
        payload=payload,
        qos=qos,
        retain=bool(retain),
        content_type=content_type,
        user_properties=tuple((key, value) for key, value in json.loads(properties)),
        expiry_s=expiry_s,
    )
    return Row(row_id, Kind(kind), epoch, seq, message, file, size, at_s)
