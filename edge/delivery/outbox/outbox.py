"""The durable queue between inspection and broker: a verdict is safe on disk before anybody hears of it.

Rules: a row is in order of arrival, whatever the clock says. Sequence numbers are given out once, without gaps. What
gives way when there is no room is counted, and verdicts among it are remembered as ranges, so that a gap is
explained. An error leaves nothing half-done, and the same call can be made again when its cause is over. What the disk
gives back otherwise than it was written is set aside and named, and the rest goes on.

May be used from several threads. There is no thread and no network here.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar

from edge.delivery.outbox.database import LAST_ROW, Damaged, Database, Dead
from edge.delivery.outbox.files import DirectoryLock, sync_directory
from edge.delivery.outbox.opening import OutboxDirectory, is_damage
from edge.delivery.outbox.records import (
    DAMAGED,
    FILE_LOST,
    Appended,
    DeadLetter,
    Entry,
    How,
    Kind,
    Opening,
    OutboxLimits,
    OutboxStatistics,
    Tombstone,
)
from edge.delivery.outbox.room import Room
from edge.delivery.outbox.rows import Row, RowDamagedError, hash_payload, message_bytes
from edge.delivery.outbox.schema import DamagedError
from edge.errors import OutboxError
from edge.records import Message

_FAULTS = (sqlite3.Error, OSError, DamagedError, RowDamagedError)  # what may be mended
_NAMED = 5  # damaged messages in an alarm; the log has all

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
MakeMessages = Callable[[int, int], Sequence[Message]]  # (epoch, seq) → the verdict, then its crops

log = logging.getLogger("patchline.outbox")


def _durably(
    what: str,
) -> Callable[[Callable[Concatenate[Outbox, Arguments], Result]], Callable[Concatenate[Outbox, Arguments], Result]]:
    """Run an operation under the lock; if it fails, mend what can be mended and run it once more.

    `what` the outbox cannot be if that fails, too: the OutboxError says so, and nothing was left half-done.
    """

    def decorate(
        operation: Callable[Concatenate[Outbox, Arguments], Result],
    ) -> Callable[Concatenate[Outbox, Arguments], Result]:
        def run(outbox: Outbox, /, *arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
            return outbox._run(what, lambda: operation(outbox, *arguments, **named))  # noqa: SLF001 — of this class

        functools.update_wrapper(run, operation)
        return run

    return decorate


class Outbox:
    """Messages in a directory of their own, from `append` until they are settled, buried or evicted."""

    def __init__(self, directory: Path, limits: OutboxLimits, clock: Callable[[], float]) -> None:
        """For `open`, which holds the lock of the directory."""
        self.directory = directory
        self._limits = limits
        self._clock = clock
        self._turn = threading.RLock()  # guards everything below
        self._directory_lock = DirectoryLock(directory / "lock")
        self._files = OutboxDirectory(directory, clock, limits.ballast_bytes)
        self._crops = self._files.crops
        self._room = Room(directory, limits)
        self._replaced = 0
        self._damage: tuple[str, ...] = ()
        self._is_last_attempt = False
        self._database: Database
        self._opening: Opening
        self._begin: Callable[[], tuple[Database, Opening]] | None = self._files.open  # None: the database is open

    @classmethod
    def open(cls, directory: Path, limits: OutboxLimits, *, clock: Callable[[], float] = time.time) -> Self:
        """Open the outbox in `directory`, or begin one there; `opened` tells which.

        A database that cannot be used is set aside under a new name, and a new one begun.

        Args:
            directory: nothing else may be in it. Made where it is missing, its parents too.
            limits: what the outbox may take of the disk; tighter ones than before evict at once.
            clock: seconds since 1970-01-01 UTC; for epochs, times of commit and names only, never for the order.

        Raises:
            OutboxInUseError: another process uses it.
            OutboxError: the disk refuses.
        """
        try:
            directory.mkdir(parents=True, exist_ok=True)
            sync_directory(directory.parent)
            outbox = cls(directory, limits, clock)
        except OSError as error:
            raise _refusal(directory, "opened", error, "is the directory writable?") from error
        try:
            outbox._run("opened", lambda: None)
            outbox._settle_in()
        except BaseException:
            outbox._files.close()
            outbox._directory_lock.release()
            raise
        return outbox

    def close(self) -> None:
        """Release everything; nothing is lost by not closing. May be called twice."""
        with self._turn:
            self._database.close()
            self._files.close()
            self._directory_lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def epoch(self) -> int:
        """Of the next verdict: higher than any before in this directory whenever numbering begins anew."""
        with self._turn:
            return self._database.state.epoch

    @property
    def opened(self) -> Opening:
        """What happened when the present database was opened; it may be replaced while running."""
        with self._turn:
            return self._opening

    @property
    def damage(self) -> str:
        """What was found damaged since this process opened the outbox, for people; "": nothing."""
        with self._turn:
            return "; ".join(self._damage)

    @property
    def last_row_id(self) -> int:
        """The highest row id ever given out; 0: none. What arrives from now on has a higher one."""
        with self._turn:
            return self._database.state.last_row_id

    def reserve_epoch(self) -> int:
        """An epoch for verdicts that must be numbered without the disk: this process's own, and always the same."""
        with self._turn:
            return self._files.epoch_apart

    # What comes.

    @_durably("written")
    def append(self, make: MakeMessages) -> Appended:
        """Give a verdict its number and keep it with its crops; when this returns, they survive a power cut.

        Crops give way to the verdict: with little free disk, or if they alone cannot be written, they are counted as
        evicted and the verdict is kept without them.

        Args:
            make: called with epoch and seq, returns the verdict's message, then those of its crops. It is called
                again, perhaps with other numbers, when a fault of the disk was mended in between.

        Raises:
            OutboxError: the disk refuses. Nothing is kept and the number is not used: try again later.
        """
        epoch, seq = self._database.state.epoch, self._database.state.seq + 1
        messages = tuple(make(epoch, seq))
        crops = messages[1:]
        files = self._write_crops(crops, f"{epoch}-{seq}")
        try:
            with self._transaction(message_bytes(messages[0])):
                row_id = self._store_verdict(seq, messages[0], dict(zip(files, crops, strict=False)))
                self._count(evicted_crops=len(crops) - len(files))
        except BaseException:
            self._crops.remove(files)
            raise
        return Appended(epoch=epoch, seq=seq, row_id=row_id, messages=messages)

    @_durably("written")
    def give_up(self, count: int) -> None:
        """Number `count` verdicts that could not be kept, and remember them as evicted, so that the gap is explained.

        Raises:
            OutboxError: the disk refuses; nothing is numbered.
        """
        with self._transaction():
            state = self._database.state
            lost = range(state.seq + 1, state.seq + count + 1)
            self._database.tombstones.add((state.epoch, seq) for seq in lost)
            self._count(seq=count, evicted_verdicts=count)

    @_durably("written")
    def append_message(self, message: Message) -> int:
        """Keep a message that is no verdict, such as an alarm; its row id.

        A retained one takes the place of those that still wait for its topic: only the last one matters.

        Raises:
            OutboxError: the disk refuses; nothing is kept.
        """
        with self._transaction(message_bytes(message)):
            if message.retain:
                self._database.delete_others(message.topic)
            return self._database.insert(self._new_entry(Kind.OTHER, 0, message), file="")

    # What goes.

    @_durably("read")
    def pending(self, after: int = 0, limit: int = 10, *, before: int = LAST_ROW) -> tuple[Entry, ...]:
        """The oldest `limit` messages with `after` < row id < `before`, in order of arrival.

        With `last_row_id` at the time of connecting as the border, one walk begins at 0 (the backlog) and another
        behind it (what is live). What cannot be used is buried instead: a crop whose file is gone as `FILE_LOST`, what
        is not as it was written as `DAMAGED`. Crops are read into memory: up to `limit` of them at once.

        Raises:
            OutboxError: the disk refuses.
        """
        while True:
            rows = self._database.pending(after, before, limit)
            found = [entry for row in rows if (entry := self._usable(row)) is not None]
            if found or not rows:
                return tuple(found)

    @_durably("written")
    def settle(self, row_ids: Sequence[int]) -> int:
        """Forget messages that the broker has; how many of them were still there. One flush to disk for all.

        Raises:
            OutboxError: the disk refuses; all of them are still there.
        """
        with self._transaction() as files:
            number, settled = self._database.delete(row_ids)
            files.extend(settled)
        return number

    @_durably("written")
    def bury(self, row_id: int, reason_code: int) -> bool:
        """Move a message that is given up for good to the dead letters; False: it is not there any more.

        A verdict leaves a tombstone, which is published like any other: what explains its gap does not wait for people.

        Raises:
            OutboxError: the disk refuses; the message still waits.
        """
        with self._transaction():
            return self._database.bury(row_id, reason_code, self._clock())

    @_durably("read")
    def tombstones(self, limit: int = 100) -> tuple[Tombstone, ...]:
        """The oldest `limit` ranges of verdicts that were given up, as far as they are not published yet.

        What was returned once is not changed while the outbox is open: later ones make new ranges.

        Raises:
            OutboxError: the disk refuses.
        """
        return self._database.tombstones.hand_out(limit)

    @_durably("written")
    def settle_tombstones(self, tombstone_ids: Sequence[int]) -> int:
        """Forget ranges that the broker has; how many of them were still there.

        Raises:
            OutboxError: the disk refuses; all of them are still there.
        """
        with self._transaction():
            return self._database.tombstones.delete(tombstone_ids)

    # Dead letters.

    @_durably("read")
    def dead_letters(self, after: int = 0, limit: int = 100) -> tuple[DeadLetter, ...]:
        """The oldest `limit` dead letters with row id > `after`; a crop whose file is gone has no payload.

        Raises:
            OutboxError: the disk refuses.
        """
        found = self._database.dead_letters(after, limit)
        if any(isinstance(dead, Damaged) for dead in found):
            raise RowDamagedError("a dead letter is not what was written")  # mended, then read again
        return tuple(self._dead_letter(dead) for dead in found if isinstance(dead, Dead))

    @_durably("written")
    def resend(self, row_ids: Sequence[int]) -> tuple[int, ...]:
        """Let dead letters wait again, behind everything, as they were; those that are there and whole, in order.

        Their content and key stay, and they come as backlog. A tombstone that says that they will not come is not taken
        back: it may be with subscribers already.

        Raises:
            OutboxError: the disk refuses; all of them are still dead.
        """
        whole = [row_id for row_id in sorted(set(row_ids)) if self._is_whole(row_id)]
        with self._transaction():
            return tuple(row_id for row_id in whole if self._database.raise_again(row_id))

    @_durably("written")
    def drop(self, row_ids: Sequence[int]) -> int:
        """Delete dead letters for good; how many of them there were.

        Raises:
            OutboxError: the disk refuses; all of them are still there.
        """
        with self._transaction() as files:
            number, dropped = self._database.delete_dead_letters(row_ids)
            files.extend(dropped)
        return number

    @_durably("read")
    def statistics(self) -> OutboxStatistics:
        """A snapshot.

        Raises:
            OutboxError: the disk refuses.
        """
        totals, state = self._database.totals, self._database.state
        return OutboxStatistics(
            verdicts=totals.verdicts,
            crops=totals.crops,
            others=totals.others,
            tombstones=len(self._database.tombstones),
            dead_letters=totals.dead_letters,
            bytes=totals.bytes,
            oldest_committed_at_s=self._database.oldest_s(),
            evicted_verdicts=state.evicted_verdicts,
            evicted_crops=state.evicted_crops,
            evicted_dead_letters=state.evicted_dead_letters,
            refused=state.refused,
            replaced=self._replaced,
            free_bytes=self._room.free_bytes,
            disk_low=self._room.missing_bytes > 0,
            ballast=self._room.has_ballast,
        )

    # Each runs with the lock held, under `_run`.

    @contextlib.contextmanager
    def _transaction(self, added: int = 0) -> Iterator[list[str]]:
        """One commit, and the limits hold after it, `added` bytes being new; files in the list are removed then."""
        files: list[str] = []
        with self._database.transaction():
            yield files
            files += self._room.make(self._database, added)
        self._crops.remove(files)
        self._room.take_ballast()

    def _store_verdict(self, seq: int, verdict: Message, crops: Mapping[str, Message]) -> int:
        row_id = self._database.insert(self._new_entry(Kind.VERDICT, seq, verdict), file="")
        for file, crop in crops.items():
            self._database.insert(self._new_entry(Kind.CROP, seq, crop), file=file)
        self._count(seq=1)
        return row_id

    def _new_entry(self, kind: Kind, seq: int, message: Message) -> Entry:
        return Entry(0, kind, self._database.state.epoch, seq, message, message_bytes(message), self._clock())

    def _count(self, **more: int) -> None:
        state = self._database.state
        self._database.state = replace(state, **{name: getattr(state, name) + number for name, number in more.items()})

    def _write_crops(self, crops: Sequence[Message], stem: str) -> list[str]:
        """The names of the crops' files; none at all if they are to give way."""
        if not crops or self._room.missing_bytes > 0:
            return []
        files = {f"{stem}-{index}.crop": crop.payload for index, crop in enumerate(crops)}
        try:
            self._crops.write(files)
        except OSError as error:
            if not self._is_last_attempt:
                raise
            log.warning("crops cannot be written: dropped", extra={"fields": {"verdict": stem, "error": str(error)}})
            return []
        return list(files)

    def _usable(self, row: Row | Damaged) -> Entry | None:
        """None: it cannot be used, and is buried."""
        if isinstance(row, Damaged):
            with self._transaction():
                name = self._database.set_aside(row, self._clock())
            self._report_damage([name])
            return None
        entry = self._entry(row)
        if entry is None and self.bury(row.entry.row_id, FILE_LOST):
            fields = {"seq": row.entry.seq, "file": row.file}
            log.warning("a crop's file is gone or not what was written: buried", extra={"fields": fields})
        return entry

    def _entry(self, row: Row) -> Entry | None:
        """None: its file is gone, or not what was written."""
        if not row.file:
            return row.entry
        payload = self._crops.read(row.file)
        if payload is None or (row.payload_hash and hash_payload(payload) != row.payload_hash):
            return None
        entry = replace(row.entry, message=replace(row.entry.message, payload=payload))
        return entry if message_bytes(entry.message) == entry.size else None

    def _dead_letter(self, dead: Dead) -> DeadLetter:
        entry = self._entry(dead.row)
        is_lost = entry is None and dead.reason_code != DAMAGED
        return DeadLetter(entry or dead.row.entry, FILE_LOST if is_lost else dead.reason_code, dead.buried_at_s)

    def _is_whole(self, row_id: int) -> bool:
        return any(
            dead.entry.row_id == row_id and dead.reason_code >= 0 for dead in self.dead_letters(row_id - 1, limit=1)
        )

    # Faults.

    def _run(self, what: str, operation: Callable[[], Result]) -> Result:
        """Run `operation`; if it fails, mend what can be mended and run it once more.

        Raises:
            OutboxError: it failed again; the disk must be mended first.
        """
        with self._turn:
            try:
                self._begin_if_needed()
                return operation()
            except _FAULTS as error:
                first = error
            try:
                self._is_last_attempt = True
                self._mend(first)
                self._begin_if_needed()
                return operation()
            except _FAULTS as error:
                raise _refusal(self.directory, what, error, self._advice(error)) from error
            finally:
                self._is_last_attempt = False

    def _begin_if_needed(self) -> None:
        if self._begin is None:
            return
        self._database, self._opening = opening = self._begin()
        self._begin = None
        self._report_opening(opening[1])

    def _report_opening(self, opening: Opening) -> None:
        self._replaced += opening.how is How.REPLACED
        fields = {key: value for key, value in asdict(opening).items() if value and key != "damaged"}
        level = logging.ERROR if opening.reason else logging.INFO
        log.log(level, "outbox %s", opening.how, extra={"fields": fields})
        aside = f"the old one is {opening.set_aside}" if opening.set_aside else ""
        self._damage += tuple(text for text in (opening.reason, aside) if text)
        self._report_damage(opening.damaged)

    def _report_damage(self, names: Sequence[str]) -> None:
        for name in names:
            log.error("a message is not what was written: set aside", extra={"fields": {"message": name}})
        if names:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            self._damage += (f"not what was written, set aside: {', '.join(names[:_NAMED])}{more}",)

    def _settle_in(self) -> None:
        """Evict what tighter limits than before do not allow, and take the ballast; a full disk is no obstacle."""
        try:
            while self._run("written", self._evict_some):
                pass
        except OutboxError as error:
            log.warning("%s", error)

    def _evict_some(self) -> bool:
        before = self._database.totals
        with self._transaction():
            pass
        return self._database.totals != before

    def _mend(self, error: Exception) -> None:
        if isinstance(error, RowDamagedError):
            self._report_damage(self._database.weed(self._crops.read, self._clock()))
        elif is_damage(error):
            self._replace(str(error))
        else:
            self._relieve(str(error))

    def _replace(self, reason: str) -> None:
        """Set the damaged database aside, under its open connection, which would else write its log into it."""
        database = self._database
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
        if self._room.release_ballast():
            log.warning("the disk refuses: ballast released", extra={"fields": {"error": reason}})
        if self._begin is not None:
            return
        try:
            self._database.checkpoint("TRUNCATE")
        except sqlite3.Error as error:
            log.warning("the disk refuses a checkpoint", extra={"fields": {"error": str(error)}})

    def _advice(self, error: Exception) -> str:
        free = self._room.free_bytes
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
