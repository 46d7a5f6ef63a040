"""The outbox's tables, how those of an older version become today's, and what makes a file a sound database."""

from __future__ import annotations

import contextlib
import sqlite3
from functools import cache
from pathlib import Path

from edge.delivery.outbox.state import State, insert_state
from edge.files.atomic import sync_directory

SUFFIXES = ("", "-wal", "-shm", "-journal")  # of the files that make up one database

_MAGIC = b"SQLite format 3\0"  # https://www.sqlite.org/fileformat2.html#magic_header_string
_FIRST_VERSION = 1  # of the tables: as they were before seals
_VERSION = 2
_APPLICATION = 0x504C4F42  # "PLOB": tells whose database it is

_DEFINITIONS = """
    kind TEXT NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL, topic TEXT NOT NULL, payload BLOB NOT NULL,
    file TEXT NOT NULL, size INTEGER NOT NULL, qos INTEGER NOT NULL, retain INTEGER NOT NULL,
    content_type TEXT NOT NULL, user_properties TEXT NOT NULL, expiry_s INTEGER, committed_at REAL NOT NULL"""
_FIRST_SCHEMA = (
    """CREATE TABLE state (
    id INTEGER PRIMARY KEY CHECK (id = 1), epoch INTEGER NOT NULL, seq INTEGER NOT NULL,
    evicted_verdicts INTEGER NOT NULL, evicted_crops INTEGER NOT NULL, evicted_dead_letters INTEGER NOT NULL)""",
    f"CREATE TABLE messages (id INTEGER PRIMARY KEY AUTOINCREMENT,{_DEFINITIONS})",
    "CREATE INDEX crops ON messages (id) WHERE kind = 'crop'",
    "CREATE INDEX others ON messages (topic) WHERE kind = 'other'",
    f"""CREATE TABLE dead_letters (id INTEGER PRIMARY KEY,{_DEFINITIONS},
    reason_code INTEGER NOT NULL, buried_at REAL NOT NULL)""",
    """CREATE TABLE tombstones (id INTEGER PRIMARY KEY AUTOINCREMENT,
    epoch INTEGER NOT NULL, first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL, count INTEGER NOT NULL)""",
)
# A new database takes the same steps as an old one, so that the tables' texts are the same in both.
_CHANGES = (
    "ALTER TABLE state ADD COLUMN commits INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE state ADD COLUMN last_row_id INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE state ADD COLUMN refused INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE state ADD COLUMN unsealed_to INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE state ADD COLUMN seal BLOB",
    "ALTER TABLE messages ADD COLUMN late INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE messages ADD COLUMN seal BLOB",
    "ALTER TABLE dead_letters ADD COLUMN late INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE dead_letters ADD COLUMN seal BLOB",
    "ALTER TABLE tombstones ADD COLUMN reason TEXT NOT NULL DEFAULT 'evicted'",
    "ALTER TABLE tombstones ADD COLUMN seal BLOB",
)
_TEXTS = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL"
_COMPLAINTS = 100  # as many as are looked at
_OF_ROWS = ("NULL value in ", "TEXT value in ", "NUMERIC value in ")  # seals find what is wrong within a row


class DamagedError(Exception):
    """A file is not a sound outbox database. Never leaves the outbox, which sets the file aside."""


def create_database(path: Path, epoch: int, *, last_row_id: int, last_tombstone_id: int) -> None:
    """Write an empty database, so that `path` is there whole or not at all.

    Args:
        path: nothing is there.
        epoch: of the verdicts to come, which are numbered from 1.
        last_row_id: rows are numbered from the next one, so that a late answer to a row of the database that was
            replaced never settles one of the new one.
        last_tombstone_id: the same for tombstones.

    Raises:
        sqlite3.Error: the disk refuses.
        OSError: the disk refuses.
    """
    unfinished = path.with_name(f"{path.name}.new")
    for suffix in SUFFIXES:
        unfinished.with_name(unfinished.name + suffix).unlink(missing_ok=True)  # of a kill in mid-creation
    with contextlib.closing(sqlite3.connect(unfinished, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN")
        _make_tables(connection)
        insert_state(connection, State(epoch, last_row_id=last_row_id))
        numbers = [("messages", last_row_id), ("tombstones", last_tombstone_id)]
        connection.executemany("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", numbers)
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute("COMMIT")
    unfinished.replace(path)
    sync_directory(path.parent)


def check_magic(path: Path) -> None:
    """Look at the first bytes: SQLite would take an empty file for a new database, and delete its log.

    Raises:
        DamagedError: it is no SQLite database.
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        if stream.read(len(_MAGIC)) != _MAGIC:
            raise DamagedError("file is not a database")


def verify(connection: sqlite3.Connection) -> bool:
    """Read the whole database once; whether it is of today's version, as against the first one.

    Raises:
        DamagedError: it is not an outbox, or not a sound one.
        sqlite3.Error: it is damaged, or the disk refuses.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != _APPLICATION or version not in {_FIRST_VERSION, _VERSION}:
        raise DamagedError(
            f"expected application {_APPLICATION:#x}, version {_VERSION}, got {application:#x}, {version}"
        )
    expected = _texts() if version == _VERSION else frozenset(_FIRST_SCHEMA)
    if not expected <= {sql for (sql,) in connection.execute(_TEXTS)}:
        raise DamagedError("its tables are not those of an outbox")
    _check(connection)
    for table in ("state", "sqlite_sequence"):
        if not connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]:  # noqa: S608 — our own names
            raise DamagedError(f"its table {table} is empty")
    return bool(version == _VERSION)


def upgrade(connection: sqlite3.Connection) -> None:
    """Within a transaction: give the tables of the first version today's columns; nothing in them changes."""
    for change in _CHANGES:
        connection.execute(change)
    connection.execute(f"PRAGMA user_version = {_VERSION}")


def _make_tables(connection: sqlite3.Connection) -> None:
    for statement in (*_FIRST_SCHEMA, *_CHANGES):
        connection.execute(statement)


@cache
def _texts() -> frozenset[str]:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        _make_tables(connection)
        return frozenset(sql for (sql,) in connection.execute(_TEXTS))


def _check(connection: sqlite3.Connection) -> None:
    """What is wrong with an index alone is mended: it says nothing that is not in its table."""
    if not _complaint(connection):
        return
    connection.execute("REINDEX")
    if complaint := _complaint(connection):
        raise DamagedError(complaint)


def _complaint(connection: sqlite3.Connection) -> str:
    found = connection.execute(f"PRAGMA integrity_check({_COMPLAINTS})").fetchall()
    return next((str(text) for (text,) in found if text != "ok" and not str(text).startswith(_OF_ROWS)), "")
