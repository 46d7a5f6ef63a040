"""What a disk changed within sound tables: found by the seals, set aside by name, so that the rest goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from edge.delivery.outbox.database import Database
from edge.delivery.outbox.rows import Row, hash_payload, is_sealed, to_values
from edge.delivery.outbox.tables import DEATH_AT, Damaged, Table

_READ_AT_ONCE = 500  # rows

ReadFile = Callable[[str], bytes | None]


def weed(database: Database, read_file: ReadFile, now_s: float) -> list[str]:
    """Read everything, set aside what is damaged, seal what has no seal yet; the names of what was set aside.

    Raises:
        sqlite3.Error: the disk refuses.
    """
    found = [(table, damaged) for table in Table for damaged in _examine(database, table, read_file)]
    with database.transaction():
        database.end_unsealed()
        names = [_set_aside(database, table, damaged, now_s) for table, damaged in found]
        names += [f"tombstone {number}" for number in database.tombstones.delete_damaged()]
    database.count()
    return names


def set_aside(database: Database, damaged: Damaged, now_s: float) -> str:
    """Within a transaction: what is left of a message goes to the dead letters; its name.

    Raises:
        sqlite3.Error: the disk refuses.
    """
    name = _set_aside(database, Table.MESSAGES, damaged, now_s)
    database.count()
    return name


def _set_aside(database: Database, table: Table, damaged: Damaged, now_s: float) -> str:
    number = database.replace_by_remains(table, damaged, now_s)
    return f"{damaged.name}, now dead letter {number}"


def _examine(database: Database, table: Table, read_file: ReadFile) -> Iterator[Damaged]:
    after = 0
    while found := database.rows(table, after, _READ_AT_ONCE):
        after = found[-1][0]
        rows = [(values, database.understand(values)) for values in found if not is_sealed(values)]
        yield from (row for _, row in rows if isinstance(row, Damaged))
        seals = [_seal(values, row, read_file) for values, row in rows if isinstance(row, Row)]
        if seals:
            with database.transaction():
                database.seal(table, seals)


def _seal(values: Sequence[Any], row: Row, read_file: ReadFile) -> tuple[bytes, int]:
    """Of a row as an older version left it."""
    if row.file:
        row = replace(row, payload_hash=hash_payload(read_file(row.file) or b""))
    return to_values(row, *values[DEATH_AT:-1])[-1], row.entry.row_id
