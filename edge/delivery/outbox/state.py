"""What an outbox's database remembers of itself: one sealed row."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, fields
from operator import attrgetter

from edge.delivery.outbox.rows import seal_numbers


@dataclass(frozen=True, slots=True)
class State:
    """The row's columns."""

    epoch: int
    seq: int = 0  # the last one given out
    evicted_verdicts: int = 0
    evicted_crops: int = 0
    evicted_dead_letters: int = 0
    commits: int = 0  # since the database began
    last_row_id: int = 0  # the highest ever given out
    refused: int = 0  # messages that became dead letters because the broker wanted it so
    unsealed_to: int = 0  # rows up to this one may be of a version that had no seals


_NAMES = tuple(field.name for field in fields(State))
_values = attrgetter(*_NAMES)


def insert_state(connection: sqlite3.Connection, state: State) -> None:
    """Of a new database."""
    marks = ", ".join("?" * (len(_NAMES) + 2))
    names = ", ".join(("id", *_NAMES, "seal"))
    connection.execute(f"INSERT INTO state ({names}) VALUES ({marks})", (1, *_sealed(state)))  # noqa: S608 — our names


def write_state(connection: sqlite3.Connection, state: State) -> None:
    """Within a transaction."""
    names = ", ".join(f"{name} = ?" for name in (*_NAMES, "seal"))
    connection.execute(f"UPDATE state SET {names}", _sealed(state))  # noqa: S608 — our own names


def read_state(connection: sqlite3.Connection) -> State | None:
    """None: it is not what was written."""
    names = ", ".join((*_NAMES, "seal"))
    (*values, seal) = connection.execute(f"SELECT {names} FROM state").fetchone()  # noqa: S608 — our own names
    return State(*values) if seal == seal_numbers(*values) else None


def _sealed(state: State) -> tuple[object, ...]:
    values = _values(state)
    return (*values, seal_numbers(*values))
