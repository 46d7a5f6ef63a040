"""What a station's outbox holds, read by another hand than its own: plain SQL on a copy, after a kill."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks.rig.ledger import Key

DATABASE = "outbox.db"


@dataclass(frozen=True, slots=True)
class Books:
    """The outbox of one station at one moment."""

    epoch: int = 0
    newest: int = 0  # the last number given to a verdict; 0: none
    waiting: frozenset[int] = frozenset()  # verdicts not acknowledged yet
    dead: tuple[tuple[str, int], ...] = ()  # topic and reason code of what was refused for good
    evicted: int = 0  # verdicts

    def keys(self, station: str = "station") -> set[Key]:
        """Of all verdicts that are known to be committed."""
        numbers = self.waiting | ({self.newest} if self.newest else set())
        return {Key(station, self.epoch, seq) for seq in numbers}


def read_books(outbox: Path) -> Books:
    """The outbox in this directory; empty if there is none yet.

    Copied first, because SQLite repairs what it opens. Nobody else may have the database open.
    """
    if not (outbox / DATABASE).exists():
        return Books()
    with tempfile.TemporaryDirectory() as copy:
        for path in outbox.glob(f"{DATABASE}*"):
            if path.is_file():
                shutil.copyfile(path, Path(copy, path.name))
        with closing(sqlite3.connect(Path(copy, DATABASE))) as connection:
            epoch, newest, evicted = connection.execute("SELECT epoch, seq, evicted_verdicts FROM state").fetchone()
            waiting = connection.execute("SELECT seq FROM messages WHERE kind = 'verdict'").fetchall()
            dead = connection.execute("SELECT topic, reason_code FROM dead_letters ORDER BY id").fetchall()
    return Books(epoch, newest, frozenset(seq for (seq,) in waiting), tuple(dead), evicted)
