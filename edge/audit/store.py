"""The audit's ledger in a SQLite file, so that an audit can be stopped, killed and taken up again over days.

What was heard is committed before it is acknowledged to the broker: a killed audit hears it again.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edge.audit.epoch import RANGE_SETS, EpochLedger
from edge.audit.ledger import Expectation, Ledger, StationLedger
from edge.audit.ranges import Range
from edge.errors import PatchlineError, SettingsError

FORMAT = 1
_BUSY_S = 1.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS stations (base TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS epochs (
    base TEXT NOT NULL, epoch INTEGER NOT NULL, state TEXT NOT NULL, PRIMARY KEY (base, epoch)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ranges (
    base TEXT NOT NULL, epoch INTEGER NOT NULL, name TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    PRIMARY KEY (base, epoch, name, first)
) WITHOUT ROWID;
"""


class LedgerFile:
    """A ledger on disk, used by one audit at a time."""

    def __init__(self, path: Path) -> None:
        """Open or make the file.

        Raises:
            SettingsError: it cannot be opened, is no ledger of this version, or another audit uses it.
        """
        self._path = path
        self._written: dict[str, str] = {}  # stations as they are in the file
        with self._refused():
            self._connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
            # The first write takes the file for this process; a second audit is refused.
            self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
            known = self._fact("format")
            if known is None:
                self._remember("format", str(FORMAT))
        if known not in {None, str(FORMAT)}:
            self._connection.close()
            raise SettingsError(f"--ledger {path}: expected format {FORMAT}, got {known}; begin a new file")

    def bind(self, option: str, wanted: str, default: str) -> str:
        """The value of `option` that this ledger was first used with; a new one keeps `wanted`, or else `default`.

        Args:
            option: name of a command line option.
            wanted: its value; empty: it was not given.
            default: its value where it was not given.

        Raises:
            SettingsError: the ledger was used with another value.
        """
        known = self._fact(option)
        if known is None:
            with self._refused():
                self._remember(option, wanted or default)
        elif wanted not in {"", known}:
            raise SettingsError(
                f"{option} {wanted}: the ledger {self._path} was made with {known}, and what one of them hears and "
                f"the other does not would count as missing: leave {option} out, or begin a new ledger"
            )
        return known or wanted or default

    def load(self, expectation: Expectation) -> Ledger:
        """The ledger as it was committed last.

        Raises:
            SettingsError: the file is damaged.
        """
        ledger = Ledger(expectation)
        with self._refused():
            counts = self._fact("counts")
            ledger.counts.update(json.loads(counts) if counts else {})
            ledger.last_problem = self._fact("last_problem") or ""
            for base, state in self._connection.execute("SELECT base, state FROM stations"):
                ledger.stations[base] = StationLedger(base)
                ledger.stations[base].restore(json.loads(state))
            for base, number, state in self._connection.execute("SELECT base, epoch, state FROM epochs"):
                epoch = EpochLedger(base, number)
                epoch.restore(json.loads(state), self._load_ranges(base, number))
                ledger.stations[base].epochs[number] = epoch
        return ledger

    def commit(self, ledger: Ledger) -> None:
        """Write what has changed since the last call, and flush it to the disk.

        Raises:
            PatchlineError: the disk refuses; the file holds what was committed before.
        """
        changed = ledger.take_changed_epochs()
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._remember("counts", json.dumps(ledger.counts))
            self._remember("last_problem", ledger.last_problem)
            self._write_stations(ledger)
            for epoch in changed:
                self._write_epoch(epoch)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise PatchlineError(
                f"--ledger {self._path}: cannot be written ({error}); what the broker was not answered comes again: "
                "make room and start the audit again"
            ) from error

    def close(self) -> None:
        """Release the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write_stations(self, ledger: Ledger) -> None:
        states = {base: json.dumps(station.state()) for base, station in ledger.stations.items()}
        changed = [(base, state) for base, state in states.items() if state != self._written.get(base)]
        self._connection.executemany("INSERT OR REPLACE INTO stations VALUES (?, ?)", changed)
        self._written = states

    def _write_epoch(self, epoch: EpochLedger) -> None:
        key = (epoch.base, epoch.epoch)
        self._connection.execute("INSERT OR REPLACE INTO epochs VALUES (?, ?, ?)", (*key, json.dumps(epoch.state())))
        for name, ranges in zip(RANGE_SETS, (epoch.received, epoch.evicted, epoch.unheard), strict=True):
            changes = ranges.take_changes()
            self._connection.executemany(
                "DELETE FROM ranges WHERE base = ? AND epoch = ? AND name = ? AND first = ?",
                [(*key, name, first) for first, last in changes.items() if last is None],
            )
            self._connection.executemany(
                "INSERT OR REPLACE INTO ranges VALUES (?, ?, ?, ?, ?)",
                [(*key, name, first, last) for first, last in changes.items() if last is not None],
            )

    def _load_ranges(self, base: str, epoch: int) -> dict[str, list[Range]]:
        ranges: dict[str, list[Range]] = {name: [] for name in RANGE_SETS}
        rows: Iterable[tuple[str, int, int]] = self._connection.execute(
            "SELECT name, first, last FROM ranges WHERE base = ? AND epoch = ? ORDER BY first", (base, epoch)
        )
        for name, first, last in rows:
            ranges[name].append((first, last))
        return ranges

    def _fact(self, name: str) -> str | None:
        row: Any = self._connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def _remember(self, name: str, value: str) -> None:
        self._connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    @contextmanager
    def _refused(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, ValueError, KeyError, TypeError) as error:
            raise SettingsError(
                f"--ledger {self._path}: cannot be used ({error}); expected a ledger that patchline-edge audit made "
                "and no other audit is using, or a new file in a directory that can be written"
            ) from error
