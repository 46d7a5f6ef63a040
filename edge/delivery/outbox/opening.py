"""How an outbox database comes to be open: begun, resumed, or replaced by a new one. And which epoch it is in.

A subscriber knows a verdict by (station, epoch, seq), so wherever numbers could be given out a second time, the epoch
grows: when there is no database, when the present one cannot be used, when it lost commits, and when it is an older
copy. The highest epoch is in two files of its own, and never below the time of its beginning, so that it grows even if
the whole directory is wiped. Every process sets an epoch apart at its start, for verdicts that must be numbered while
the disk refuses.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from edge.delivery.outbox.database import Database
from edge.delivery.outbox.files import CropFiles, EpochFile
from edge.delivery.outbox.high_water import HighWater, Mark
from edge.delivery.outbox.records import GivenUp, How, Opening
from edge.delivery.outbox.schema import SUFFIXES, DamagedError, check_magic, create_database
from edge.delivery.outbox.state import State
from edge.delivery.outbox.wal import read_commits
from edge.delivery.outbox.weeding import weed
from edge.files.atomic import sync_directory

_PAGE = 4096  # bytes; SQLite's default
_USUAL_LOG = 1000  # pages; SQLite's default
_LEAST_LOG = 16
_PRIMARY_CODE = 0xFF  # SQLite's extended error codes carry the primary one in their lowest byte
_REFUSALS = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_MISUSE,
    }
)

log = logging.getLogger("patchline.outbox")


class OutboxDirectory:
    """The database and what belongs to it, by name."""

    def __init__(self, directory: Path, clock: Callable[[], float], ballast_bytes: int) -> None:
        self._directory = directory
        # On a full disk the ballast is what the database may grow by when it takes in its log.
        self._log_pages = (
            max(_LEAST_LOG, min(_USUAL_LOG, ballast_bytes // (2 * _PAGE))) if ballast_bytes else _USUAL_LOG
        )
        self._clock = clock
        self._path = directory / "outbox.db"
        self._epochs = EpochFile(directory / "epoch")
        self._high_water = HighWater(directory / "high_water")
        self._last_epoch = 0  # the highest that was ever used or set apart, as far as this process knows
        self._apart = 0  # the one that is set apart
        self.crops = CropFiles(directory / "crops")

    def open(self) -> tuple[Database, Opening]:
        """Open the database, or begin one where there is none that can be used.

        Raises:
            sqlite3.Error: the disk refuses.
            OSError: the disk refuses.
        """
        mark, damage = self._read_mark()
        if not self._path.exists():
            aside = self.set_aside()  # a log without its database would be taken for the new one's
            known = aside is not None or self._last_epoch > 0
            return self.begin(aside, "the database file is missing" if known else "")
        commits = read_commits(self._path.with_name("outbox.db-wal"))
        database = Database(self._path, self._note)
        try:
            check_magic(self._path)
            remembered = database.load(self._log_pages)
            reason = damage or self._doubt(remembered, mark, commits.lost(database.recovered_frames))
            return database, self._resume(database, remembered, mark, reason)
        except (DamagedError, UnicodeDecodeError, sqlite3.Error) as error:
            # Under its open connection, which would else write its log into it and delete that.
            aside = self.set_aside() if is_damage(error) else None
            database.close()
            if aside is None:
                raise
            reason = str(error)
        except BaseException:
            database.close()
            raise
        return self.begin(aside, reason)

    def begin(
        self, aside: Path | None, reason: str, *, last_row_id: int = 0, last_tombstone_id: int = 0
    ) -> tuple[Database, Opening]:
        """Begin a database; with a `reason`, in place of another one, whose last numbers go on.

        Raises:
            sqlite3.Error: the disk refuses.
            OSError: the disk refuses.
        """
        epoch = self._next_epoch(0)
        create_database(self._path, epoch, last_row_id=last_row_id, last_tombstone_id=last_tombstone_id)
        how = How.REPLACED if reason else How.CREATED
        orphans = self.crops.sweep(())
        database = Database(self._path, self._note)
        database.load(self._log_pages)
        self._set_apart(database.state)
        return database, Opening(how, epoch, new_epoch=True, set_aside=aside, reason=reason, orphans=orphans)

    def set_aside(self) -> Path | None:
        """Rename the database and its crops; the database's new name, or None if there was nothing.

        Raises:
            OSError: the disk refuses.
        """
        found = [suffix for suffix in SUFFIXES if self._path.with_name(f"outbox.db{suffix}").exists()]
        if not found and not self.crops.any():
            return None
        stem = self._free_stem()
        # The database first: what a kill leaves of it is found by the next opening.
        for suffix in found:
            self._path.with_name(f"outbox.db{suffix}").rename(self._directory / f"{stem}.db{suffix}")
        if self.crops.directory.is_dir():
            self.crops.directory.rename(self._directory / f"{stem}.crops")
        sync_directory(self._directory)
        return self._directory / (f"{stem}.db" if found else f"{stem}.crops")

    @property
    def epoch_apart(self) -> int:
        """What this process set apart when it could still write: neither a database nor another process uses it."""
        return self._apart

    def close(self) -> None:
        """May be called twice."""
        self._high_water.close()

    def _read_mark(self) -> tuple[Mark | None, str]:
        """What was committed last; and if that file is damaged, what is wrong."""
        self._last_epoch = max(self._last_epoch, self._epochs.read())
        try:
            mark = self._high_water.read()
        except DamagedError as error:
            return None, str(error)
        if mark is not None:
            self._last_epoch = max(self._last_epoch, mark.last_epoch)
        return mark, ""

    def _resume(self, database: Database, remembered: State | None, mark: Mark | None, reason: str) -> Opening:
        damaged = weed(database, self.crops.read, self._clock())
        if reason:
            self._restart(database, remembered, mark)
        self._set_apart(database.state)
        orphans = self.crops.sweep(database.files())
        return Opening(
            How.RESUMED,
            database.state.epoch,
            new_epoch=bool(reason),
            reason=reason,
            orphans=orphans,
            damaged=tuple(damaged),
        )

    def _doubt(self, remembered: State | None, mark: Mark | None, lost_in_log: int) -> str:
        """Why numbers might be given out again; "": they will not."""
        if remembered is None:
            return "the numbers in the database are damaged"
        if mark is None and remembered.commits:
            return "the file high_water, which knows what was committed last, is missing"
        known = self._epochs.read() if mark is None else mark.epoch
        if known > remembered.epoch:
            return f"the database is an older copy: its epoch is {remembered.epoch}, the directory's {known}"
        commits = mark.commits if mark is not None and mark.epoch == remembered.epoch else 0
        lost = max(commits - remembered.commits, lost_in_log)
        return f"the write-ahead log is damaged: at least {lost} commits are lost" if lost > 0 else ""

    def _restart(self, database: Database, remembered: State | None, mark: Mark | None) -> None:
        """A new epoch. Of the old one the numbers that are lost are explained, as far as they are known."""
        epoch = self._next_epoch(database.state.epoch)
        with database.transaction():
            if remembered is not None and mark is not None and mark.epoch == remembered.epoch:
                lost = range(remembered.seq + 1, mark.seq + 1)
                database.tombstones.add(((mark.epoch, seq) for seq in lost), GivenUp.DAMAGED)
            database.begin_epoch(epoch)

    def _set_apart(self, state: State) -> None:
        """An epoch for verdicts without a disk. From here on the high water is noted.

        Raises:
            OSError: the disk refuses even to overwrite.
        """
        self._apart = self._last_epoch = self._unused_epoch(state.epoch)
        self._high_water.begin(self._mark(state))
        try:
            self._epochs.write(self._last_epoch)
        except OSError as error:  # the high water knows it, too
            log.warning("the file epoch cannot be written: %s", error.strerror)

    def _note(self, state: State) -> None:
        self._high_water.note(self._mark(state))

    def _mark(self, state: State) -> Mark:
        return Mark(state.epoch, state.seq, state.commits, self._last_epoch)

    def _next_epoch(self, used: int) -> int:
        """Remembered before it is used: a kill in between only leaves it out."""
        self._last_epoch = self._unused_epoch(used)
        self._epochs.write(self._last_epoch)
        return self._last_epoch

    def _unused_epoch(self, used: int) -> int:
        return max(self._last_epoch + 1, used + 1, int(self._clock()))

    def _free_stem(self) -> str:
        at = datetime.fromtimestamp(self._clock(), UTC).strftime("%Y%m%dT%H%M%SZ")
        taken = {path.name.split(".db")[0].removesuffix(".crops") for path in self._directory.glob("outbox.corrupt-*")}
        stem, number = f"outbox.corrupt-{at}", 1
        while stem in taken:
            number += 1
            stem = f"outbox.corrupt-{at}-{number}"
        return stem


def is_damage(error: Exception) -> bool:
    """The file's contents are wrong, as against a disk that refuses."""
    code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE
    # SQLite quotes what it complains of, and what is damaged may be no text.
    return isinstance(error, DamagedError | UnicodeDecodeError) or (code != 0 and code not in _REFUSALS)
