"""The open database of a directory: under its lock, within its limits, and mended where it can be.

An operation that fails is made once more after mending: a damaged row is set aside, a damaged database replaced, and on
a full disk the ballast released. Each transaction ends within the limits, whatever it did.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from edge.delivery.outbox.database import Database
from edge.delivery.outbox.files import DirectoryLock
from edge.delivery.outbox.opening import OutboxDirectory, is_damage
from edge.delivery.outbox.records import How, Opening, OutboxLimits
from edge.delivery.outbox.room import Room
from edge.delivery.outbox.rows import RowDamagedError
from edge.delivery.outbox.salvage import salvage_all
from edge.delivery.outbox.schema import DamagedError
from edge.delivery.outbox.weeding import weed
from edge.errors import OutboxError
from edge.files.atomic import sync_directory, write_file

_FAULTS = (sqlite3.Error, OSError, UnicodeDecodeError, DamagedError, RowDamagedError)  # what may be mended
_UNTOLD = "damage"  # the file of what a process found that has no alarms
_LONGEST_UNTOLD = 2000  # bytes
_NAMED = 5  # damaged messages in an alarm; the log has all
_MOST_REMARKS = 20  # of a process; an alarm has room for a few

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

log = logging.getLogger("patchline.outbox")


class Store:
    """A directory's lock, database, crops and room. `turn` guards everything; it is held in `run`."""

    def __init__(self, directory: Path, limits: OutboxLimits, clock: Callable[[], float]) -> None:
        """Take the directory's lock and open its database.

        Raises:
            OutboxInUseError: another process has it.
            OutboxError: the disk refuses.
        """
        self.directory = directory
        self.clock = clock
        self.turn = threading.RLock()
        self.replaced = 0  # databases that could not be used
        self.damage: tuple[str, ...] = ()  # what was found, for people
        self.is_last_attempt = False
        self.database: Database
        self.opened: Opening
        self._limits = limits
        self._lock = self._take_directory()
        self._files = OutboxDirectory(directory, clock, limits.ballast_bytes)
        self.crops = self._files.crops
        self.room = Room(directory, limits)
        self._begin: Callable[[], tuple[Database, Opening]] | None = self._files.open  # None: the database is open
        try:
            self.run("opened", lambda: None)
            self._recall_damage()
            self._salvage()
            self._settle_in()
        except BaseException:
            self._files.close()
            self._lock.release()
            raise

    def close(self) -> None:
        """Release everything. May be called twice."""
        self.database.close()
        self._files.close()
        self._lock.release()

    @property
    def epoch_apart(self) -> int:
        """This process's own, for verdicts that must be numbered without the disk."""
        return self._files.epoch_apart

    def run(self, what: str, operation: Callable[[], Result]) -> Result:
        """Run `operation` under the lock; if it fails, mend what can be mended and run it once more.

        Raises:
            OutboxError: it failed again, so that the outbox cannot be `what`; the disk must be mended first.
        """
        with self.turn:
            try:
                self._begin_if_needed()
                return operation()
            except _FAULTS as error:
                first = error
            try:
                self.is_last_attempt = True
                self._mend(first)
                self._begin_if_needed()
                return operation()
            except _FAULTS as error:
                raise _refusal(self.directory, what, error, self._advice(error)) from error
            finally:
                self.is_last_attempt = False

    @contextlib.contextmanager
    def transaction(self, added: int = 0) -> Iterator[list[str]]:
        """One commit, and the limits hold after it, `added` bytes being new; files in the list are removed then."""
        files: list[str] = []
        with self.database.transaction():
            yield files
            files += self.room.make(self.database, added)
        self.crops.remove(files)
        self.room.take_ballast()

    def report_damage(self, names: Sequence[str]) -> None:
        """Messages that were set aside."""
        for name in names:
            log.error("a message is not what was written: set aside", extra={"fields": {"message": name}})
        if names and len(self.damage) < _MOST_REMARKS:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            self.damage += (f"not what was written, set aside: {', '.join(names[:_NAMED])}{more}",)

    def leave_damage(self) -> None:
        """To the next process, whose alarm tells of it: this one has none.

        Raises:
            OutboxError: the disk refuses.
        """
        if self.damage:
            text = "; ".join(self.damage).encode()
            self.run("written", lambda: write_file(self.directory / _UNTOLD, text))

    def _recall_damage(self) -> None:
        with contextlib.suppress(OSError):
            path = self.directory / _UNTOLD
            text = path.read_bytes()[:_LONGEST_UNTOLD].decode("utf-8", "replace")
            path.unlink()
            self.damage += (text,)

    def _take_directory(self) -> DirectoryLock:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            sync_directory(self.directory.parent)
            return DirectoryLock(self.directory / "lock")
        except OSError as error:
            raise _refusal(self.directory, "opened", error, "is the directory writable?") from error

    def _begin_if_needed(self) -> None:
        if self._begin is None:
            return
        self.database, self.opened = self._begin()
        self._begin = None
        self._report_opening(self.opened)

    def _report_opening(self, opened: Opening) -> None:
        self.replaced += opened.how is How.REPLACED
        fields = {key: value for key, value in asdict(opened).items() if value and key != "damaged"}
        level = logging.ERROR if opened.reason else logging.INFO
        log.log(level, "outbox %s", opened.how, extra={"fields": fields})
        aside = f"the old one is {opened.set_aside}" if opened.set_aside else ""
        self.damage += tuple(text for text in (opened.reason, aside) if text)
        self.report_damage(opened.damaged)

    def _salvage(self) -> None:
        """What is whole in databases that were set aside waits again; no fault of theirs is an obstacle."""
        try:
            found = salvage_all(self.directory, self.database, self.crops, time.monotonic)
        except _FAULTS as error:
            log.warning("a database that was set aside cannot be read to its end: %s", error)
            return
        for name, number in found.items():
            log.warning("%d messages of %s, which was set aside, are whole and are kept", number, name)
            self.damage += (f"{number} messages of {name} are whole and are kept",) if number else ()

    def _settle_in(self) -> None:
        """Evict what tighter limits than before do not allow, and take the ballast; a full disk is no obstacle."""
        try:
            while self.run("written", self._evict_some):
                pass
        except OutboxError as error:
            log.warning("%s", error)

    def _evict_some(self) -> bool:
        before = self.database.totals
        with self.transaction():
            pass
        return self.database.totals != before

    def _mend(self, error: Exception) -> None:
        if isinstance(error, RowDamagedError):
            self.report_damage(weed(self.database, self.crops.read, self.clock()))
        elif is_damage(error):
            self._replace(str(error))
        else:
            self._relieve(str(error))

    def _replace(self, reason: str) -> None:
        """Set the damaged database aside, under its open connection, which would else write its log into it."""
        database = self.database
        aside = self._files.set_aside()
        database.close()
        self._begin = lambda: self._files.begin(
            aside,
            reason,
            last_row_id=database.state.last_row_id,
            last_tombstone_id=database.tombstones.last_id,
        )

    def _relieve(self, reason: str) -> None:
        """On a full disk nothing can be deleted, because that is written first: give the ballast for it."""
        if self.room.release_ballast():
            log.warning("the disk refuses: ballast released", extra={"fields": {"error": reason}})
        if self._begin is not None:
            return
        try:
            self.database.checkpoint("TRUNCATE")
        except sqlite3.Error as error:
            log.warning("the disk refuses a checkpoint", extra={"fields": {"error": str(error)}})

    def _advice(self, error: Exception) -> str:
        free = self.room.free_bytes
        if _is_full(error):
            return f"free disk space there ({free} bytes are free, {self._limits.min_free_bytes} should be)"
        return f"look for errors of that disk in the system's log ({free} bytes are free)"


def _is_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in {errno.ENOSPC, errno.EDQUOT}
    return getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL


def _refusal(directory: Path, what: str, error: Exception, advice: str) -> OutboxError:
    reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    return OutboxError(f"{directory}: the outbox cannot be {what} ({reason}); nothing was left half-done; {advice}")


class Stored(Protocol):
    """Whatever has a store."""

    @property
    def store(self) -> Store:
        """Where it keeps things."""


Owner = TypeVar("Owner", bound=Stored)


def durably(
    what: str,
) -> Callable[[Callable[Concatenate[Owner, Arguments], Result]], Callable[Concatenate[Owner, Arguments], Result]]:
    """Let a method be `run` by its object's store; `what` the outbox cannot be if it fails for good."""

    def decorate(
        operation: Callable[Concatenate[Owner, Arguments], Result],
    ) -> Callable[Concatenate[Owner, Arguments], Result]:
        def run(owner: Owner, /, *arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
            return owner.store.run(what, lambda: operation(owner, *arguments, **named))

        functools.update_wrapper(run, operation)
        return run

    return decorate
