"""How an outbox database comes to be open: begun, resumed, or replaced by a new one. And which epoch it is in.

A subscriber knows a verdict by (station, epoch, seq), so wherever numbers could be given out a second time, the epoch
grows: when there is no database, when the present one cannot be used, when its log lost its end, and when it is an
older copy. The epoch is also in a file of its own, and never below the time of its beginning, so that it grows even if
the whole directory is wiped.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from edge.delivery.outbox.database import Database
from edge.delivery.outbox.files import CropFiles, EpochFile, sync_directory
from edge.delivery.outbox.records import How, Opening
from edge.delivery.outbox.schema import SUFFIXES, DamagedError, check_magic, create_database
from edge.delivery.outbox.wal import WalCommits, read_commits

_PAGE = 4096  # bytes; SQLite's default
_USUAL_LOG = 1000  # pages; SQLite's default
_LEAST_LOG = 16
_PRIMARY_CODE = 0xFF  # SQLite's extended error codes carry the primary one in their lowest byte
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})


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
        self._reserved = 0  # the highest epoch that was given to others
        self.crops = CropFiles(directory / "crops")

    def open(self) -> tuple[Database, Opening]:
        """Open the database, or begin one where there is none that can be used.

        Raises:
            sqlite3.Error: the disk refuses.
            OSError: the disk refuses.
        """
        if not self._path.exists():
            aside = self.set_aside()  # a log without its database would be taken for the new one's
            known = aside is not None or self._epochs.read() > 0
            return self.begin(aside, "the database file is missing" if known else "")
        commits = read_commits(self._path.with_name("outbox.db-wal"))
        database = Database(self._path)
        try:
            check_magic(self._path)
            database.load(self._log_pages)
            return database, self._resume(database, commits)
        except (DamagedError, sqlite3.Error) as error:
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
        database = Database(self._path)
        database.load(self._log_pages)
        return database, Opening(how, epoch, new_epoch=True, set_aside=aside, reason=reason, orphans=orphans)

    def set_aside(self) -> Path | None:
        """Rename the database and its crops; the database's new name, or None if there was nothing.

        Raises:
            OSError: the disk refuses.
        """
        found = [suffix for suffix in SUFFIXES if self._path.with_name(f"outbox.db{suffix}").exists()]
        if not found:
            return None
        stem = self._free_stem()
        # The database first: what a kill leaves of it is found by the next opening.
        for suffix in found:
            self._path.with_name(f"outbox.db{suffix}").rename(self._directory / f"{stem}.db{suffix}")
        if self.crops.directory.is_dir():
            self.crops.directory.rename(self._directory / f"{stem}.crops")
        sync_directory(self._directory)
        return self._directory / f"{stem}.db"

    def reserve_epoch(self, used: int) -> int:
        """An epoch that no database begun by this process will have. Needs no disk, so it is not remembered."""
        self._reserved = self._unused_epoch(used)
        return self._reserved

    def _resume(self, database: Database, commits: WalCommits) -> Opening:
        lost = commits.lost(database.checkpoint("PASSIVE"))
        reason = self._restart_reason(database, lost)
        if reason:
            self._restart(database)
        elif self._epochs.read() < database.state.epoch:
            self._epochs.write(database.state.epoch)
        orphans = self.crops.sweep(database.files())
        return Opening(How.RESUMED, database.state.epoch, new_epoch=bool(reason), reason=reason, orphans=orphans)

    def _restart_reason(self, database: Database, lost: int) -> str:
        """Why numbers might be given out again; "": they will not."""
        if lost:
            return f"the write-ahead log is damaged: at least {lost} commits are lost"
        known = self._epochs.read()
        if known > database.state.epoch:
            return f"the database is an older copy: its epoch is {database.state.epoch}, the directory's {known}"
        return ""

    def _restart(self, database: Database) -> None:
        epoch = self._next_epoch(database.state.epoch)
        with database.transaction():
            database.begin_epoch(epoch)

    def _next_epoch(self, used: int) -> int:
        """Remembered before it is used: a kill in between only leaves it out."""
        epoch = self._unused_epoch(used)
        self._epochs.write(epoch)
        return epoch

    def _unused_epoch(self, used: int) -> int:
        return max(self._epochs.read() + 1, used + 1, self._reserved + 1, int(self._clock()))

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
    code = getattr(error, "sqlite_errorcode", 0)
    return isinstance(error, DamagedError) or (code & _PRIMARY_CODE) in _DAMAGE
