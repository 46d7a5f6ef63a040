"""What is whole in a database that was set aside waits again: nothing in it is believed but what its seal proves.

The file is only read. Each one is tried once, at a start, and for a bounded time: a start must not take for ever.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from edge.delivery.outbox.database import Database
from edge.delivery.outbox.files import CropFiles
from edge.delivery.outbox.rows import Row, RowDamagedError, from_values, hash_payload
from edge.delivery.outbox.tables import DEATH_AT, Table, decode
from edge.files.atomic import sync_directory

_LONGEST_S = 30.0
_READ_AT_ONCE = 100  # rows
_LONGEST_HOLE = 20_000  # row ids in a stretch that cannot be read, before the rest is given up
_MARK = ".salvaged"
_READING = "reading.db"
_Found = tuple[Row, tuple[Any, ...]]  # with reason code and time, if it is a dead letter
_UNREADABLE = (sqlite3.Error, UnicodeDecodeError)  # SQLite quotes what it complains of, and that may be no text


def salvage_all(
    directory: Path, database: Database, crops: CropFiles, monotonic: Callable[[], float]
) -> dict[str, int]:
    """Let messages of databases in `directory` that were set aside, and not tried yet, wait in `database`.

    Returns:
        How many, by the name of the database that they were in.

    Raises:
        sqlite3.Error: the disk refuses; what is committed by then stays.
        OSError: the disk refuses.
    """
    until_s = monotonic() + _LONGEST_S
    found = {}
    for path in sorted(directory.glob("outbox.corrupt-*.db")):
        mark = path.with_suffix(_MARK)
        if not mark.exists():
            mark.touch()  # before: what is killed in between is not tried again, and so never twice
            sync_directory(directory)
            rows = _rows_of(path)
            found[path.name] = _take(rows, path.with_suffix(".crops"), database, crops, lambda: monotonic() < until_s)
    return found


def _take(
    rows: Iterator[_Found], old_crops: Path, database: Database, crops: CropFiles, may_go_on: Callable[[], bool]
) -> int:
    number = 0
    while may_go_on() and (batch := list(islice(rows, _READ_AT_ONCE))):
        kept = [found for found in batch if not found[0].file or _take_crop(found[0], old_crops, crops)]
        with contextlib.suppress(FileNotFoundError):
            sync_directory(crops.directory)
        with database.transaction():
            for row, death in kept:
                database.restore(row, *death)
        number += len(kept)
    return number


def _take_crop(row: Row, old_crops: Path, crops: CropFiles) -> bool:
    """Another name for the file, where it is what was written: it takes no space."""
    payload = CropFiles(old_crops).read(row.file)
    if payload is None or hash_payload(payload) != row.payload_hash:
        return False
    crops.directory.mkdir(exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.link(old_crops / row.file, crops.directory / row.file)
    return True


def _rows_of(path: Path) -> Iterator[_Found]:
    """Whole messages of the database at `path` in order, then dead letters."""
    with _opened(path) as connection:
        for table in Table:
            for values in _readable(connection, table):
                with contextlib.suppress(RowDamagedError):
                    yield from_values(values, may_lack_seal=False), tuple(values[DEATH_AT:-1])


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The database with its log, neither of which changes.

    SQLite reads a log without shared memory only where it may write, and then, when it closes, writes the log into the
    database, unless that has another name by then. So both have other names for as long as they are read.
    """
    names = {path.with_name(f"{_READING}{suffix}"): path.with_name(f"{path.name}{suffix}") for suffix in ("", "-wal")}
    for name, original in names.items():
        name.unlink(missing_ok=True)  # of a kill
        with contextlib.suppress(FileNotFoundError):
            os.link(original, name)
    connection = sqlite3.connect(path.with_name(_READING), isolation_level=None)
    try:
        connection.text_factory = decode
        with contextlib.suppress(*_UNREADABLE):
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        yield connection
    finally:
        for name in names:
            name.unlink(missing_ok=True)
        connection.close()


def _readable(connection: sqlite3.Connection, table: Table) -> Iterator[Sequence[Any]]:
    """Rows as they are stored, passing over what cannot be read."""
    after, hole = 0, 0
    while hole < _LONGEST_HOLE:
        try:
            found = _select(connection, table, "id > ?", after)
        except _UNREADABLE:
            after, hole = after + 1, hole + 1
            with contextlib.suppress(*_UNREADABLE):  # the page is damaged, not all of its rows need be
                yield from _select(connection, table, "id = ?", after)
            continue
        if not found:
            return
        yield from found
        after, hole = found[-1][0], 0


def _select(connection: sqlite3.Connection, table: Table, condition: str, value: int) -> list[tuple[Any, ...]]:
    statement = f"SELECT {table.columns} FROM {table.value} WHERE {condition} ORDER BY id LIMIT {_READ_AT_ONCE}"  # noqa: S608
    return connection.execute(statement, (value,)).fetchall()
