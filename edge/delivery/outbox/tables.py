"""What the outbox's tables are called, what they hold, and what of it may give way."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from edge.delivery.outbox.rows import COLUMNS, Key, Row

DEATH_AT = len(COLUMNS.split(",")) + 1  # behind (id, *COLUMNS): reason code and time, of dead letters

_ROW = f"id, {COLUMNS}, seal"
_DEAD = f"id, {COLUMNS}, reason_code, buried_at, seal"
_NEWEST_VERDICT = "SELECT id FROM messages WHERE kind = 'verdict' ORDER BY id DESC LIMIT 1"


class Table(Enum):
    """Where rows are."""

    MESSAGES = "messages"
    DEAD_LETTERS = "dead_letters"

    @property
    def columns(self) -> str:
        """Of a whole row."""
        return _ROW if self is Table.MESSAGES else _DEAD


class Evictable(Enum):
    """What may give way, never the newest verdict: how its oldest rows are found, and what its counter is called."""

    CROPS = "messages INDEXED BY crops WHERE kind = 'crop'", "evicted_crops"
    DEAD_LETTERS = "dead_letters WHERE TRUE", "evicted_dead_letters"
    VERDICTS = f"messages WHERE kind = 'verdict' AND id < ({_NEWEST_VERDICT})", "evicted_verdicts"

    @property
    def table(self) -> str:
        """Where its rows are."""
        return "dead_letters" if self is Evictable.DEAD_LETTERS else "messages"


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
class Dead:
    """A dead letter as it is stored."""

    row: Row
    reason_code: int
    buried_at_s: float


@dataclass(frozen=True, slots=True)
class Damaged:
    """A row that is not what was written."""

    row_id: int
    key: Key | None  # None: it cannot be known, either

    @property
    def name(self) -> str:
        """For people."""
        return f"row {self.row_id}" + (
            "" if self.key is None else f" ({self.key.kind} {self.key.epoch}-{self.key.seq})"
        )


def decode(raw: bytes) -> str:
    """Text as SQLite has it; of a damaged row, any bytes."""
    return raw.decode("utf-8", "surrogateescape")
