"""The durable queue between inspection and broker: a verdict is safe on disk before anybody hears of it.

Rules: a row is in order of arrival, whatever the clock says. Sequence numbers are given out once, without gaps. What
gives way when there is no room is counted, and verdicts among it are remembered as ranges, so that a gap is
explained. An error leaves nothing half-done, and the same call can be made again when its cause is over.

May be used from several threads. There is no thread and no network here.
"""

from __future__ import annotations

import errno
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from edge.delivery.outbox.database import LAST_ROW, Database, Evictable, Row, message_bytes
from edge.delivery.outbox.files import Ballast, DirectoryLock, free_bytes, sync_directory
from edge.delivery.outbox.opening import OutboxDirectory, is_damage
from edge.delivery.outbox.records import (
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
from edge.errors import OutboxError
from edge.records import Message

FILE_LOST = -1  # reason code of a dead letter whose file is gone; no reason code of MQTT is negative

_EVICTED_AT_ONCE = 256  # rows of one kind in one transaction: bounds how long an `append` takes
_SPARE_PAGES = 16  # an append takes up to a handful of the database's pages

Result = TypeVar("Result")
MakeMessages = Callable[[int, int], Sequence[Message]]  # (epoch, seq) → the verdict, then its crops

log = logging.getLogger("patchline.outbox")


class Outbox:
    """Messages in a directory of their own, from `append` until they are settled, buried or evicted."""

    def __init__(self, directory: Path, limits: OutboxLimits, clock: Callable[[], float]) -> None:
        """For `open`, which holds the lock of the directory."""
        self._directory = directory
        self._limits = limits
        self._clock = clock
        self._turn = threading.RLock()  # guards everything below
        self._directory_lock = DirectoryLock(directory / "lock")
        self._files = OutboxDirectory(directory, clock, limits.ballast_bytes)
        self._crops = self._files.crops
        self._ballast = Ballast(directory / "ballast", limits.ballast_bytes)
        self._replaced = 0
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
            OutboxError: another process uses it, or the disk refuses.
        """
        try:
            directory.mkdir(parents=True, exist_ok=True)
            sync_directory(directory.parent)
            outbox = cls(directory, limits, clock)
        except OSError as error:
            raise _refusal(directory, "opened", error, "is the directory writable?") from error
        try:
            outbox._durably("opened", lambda _: None)
            outbox._settle_in()
        except BaseException:
            outbox._directory_lock.release()
            raise
        return outbox

    def close(self) -> None:
        """Release everything; nothing is lost by not closing. May be called twice."""
        with self._turn:
            self._database.close()
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
    def last_row_id(self) -> int:
        """The highest row id ever given out; 0: none. What arrives from now on has a higher one."""
        with self._turn:
            return self._database.last_row_id

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
        return self._durably("written", lambda last: self._append(make, last_attempt=last))

    def give_up(self, count: int) -> None:
        """Number `count` verdicts that could not be kept, and remember them as evicted, so that the gap is explained.

        Raises:
            OutboxError: the disk refuses; nothing is numbered.
        """
        self._durably("written", lambda _: self._give_up(count))

    def reserve_epoch(self) -> int:
        """An epoch for verdicts that must be numbered without the disk; the outbox itself will not use it."""
        with self._turn:
            return self._files.reserve_epoch(self._database.state.epoch)

    def append_message(self, message: Message) -> int:
        """Keep a message that is no verdict, such as an alarm; its row id.

        A retained one takes the place of those that still wait for its topic: only the last one matters.

        Raises:
            OutboxError: the disk refuses; nothing is kept.
        """
        return self._durably("written", lambda _: self._append_message(message))

    def pending(self, after: int = 0, limit: int = 10, *, before: int = LAST_ROW) -> tuple[Entry, ...]:
        """The oldest `limit` messages with `after` < row id < `before`, in order of arrival.

        With `last_row_id` at the time of connecting as the border, one walk begins at 0 (the backlog) and another
        behind it (what is live). A crop whose file is gone is buried instead, as `FILE_LOST`. Crops are read into
        memory: up to `limit` of them at once.

        Raises:
            OutboxError: the disk refuses.
        """
        while True:
            rows = self._durably("read", lambda _: self._database.pending(after, before, limit))
            entries = [(row, self._entry(row)) for row in rows]
            for row, entry in entries:
                if entry is None and self.bury(row.row_id, FILE_LOST):
                    log.warning("a crop's file is gone: buried", extra={"fields": {"seq": row.seq, "file": row.file}})
            found = tuple(entry for _, entry in entries if entry is not None)
            if found or not rows:
                return found

    def settle(self, row_ids: Sequence[int]) -> int:
        """Forget messages that the broker has; how many of them were still there. One flush to disk for all.

        Raises:
            OutboxError: the disk refuses; all of them are still there.
        """
        return self._durably("written", lambda _: self._settle(row_ids))

    def bury(self, row_id: int, reason_code: int) -> bool:
        """Move a message that was refused for good to the dead letters; False: it is not there any more.

        Raises:
            OutboxError: the disk refuses; the message still waits.
        """
        return self._durably("written", lambda _: self._bury(row_id, reason_code))

    def dead_letters(self, after: int = 0, limit: int = 100) -> tuple[DeadLetter, ...]:
        """The oldest `limit` dead letters with row id > `after`; a crop whose file is gone has no payload.

        Raises:
            OutboxError: the disk refuses.
        """
        found = self._durably("read", lambda _: self._database.dead_letters(after, limit))
        return tuple(
            DeadLetter(self._entry(row) or _entry(row, row.message), reason_code, buried_at_s)
            for row, reason_code, buried_at_s in found
        )

    def tombstones(self, limit: int = 100) -> tuple[Tombstone, ...]:
        """The oldest `limit` ranges of evicted verdicts that are not published yet.

        What was returned once is not changed while the outbox is open: later evictions make new ranges.

        Raises:
            OutboxError: the disk refuses.
        """
        return self._durably("read", lambda _: self._database.tombstones.hand_out(limit))

    def settle_tombstones(self, tombstone_ids: Sequence[int]) -> int:
        """Forget ranges that the broker has; how many of them were still there.

        Raises:
            OutboxError: the disk refuses; all of them are still there.
        """
        return self._durably("written", lambda _: self._settle_tombstones(tombstone_ids))

    def statistics(self) -> OutboxStatistics:
        """A snapshot.

        Raises:
            OutboxError: the disk refuses.
        """
        return self._durably("read", lambda _: self._statistics())

    # Each runs with the lock held, under `_durably`.

    def _append(self, make: MakeMessages, *, last_attempt: bool) -> Appended:
        database, now_s = self._database, self._clock()
        epoch, seq = database.state.epoch, database.state.seq + 1
        messages = tuple(make(epoch, seq))
        crops = messages[1:]
        files = self._write_crops(crops, f"{epoch}-{seq}", last_attempt=last_attempt)
        try:
            with database.transaction():
                kept = dict(zip(files, crops, strict=False))
                database.state = replace(
                    database.state, seq=seq, evicted_crops=database.state.evicted_crops + len(crops) - len(kept)
                )
                row_id = database.insert(Kind.VERDICT, seq, messages[0], file="", committed_at_s=now_s)
                for file, crop in kept.items():
                    database.insert(Kind.CROP, seq, crop, file=file, committed_at_s=now_s)
                evicted = self._make_room(message_bytes(messages[0]))
        except BaseException:
            self._crops.remove(files)
            raise
        self._after_commit(evicted)
        return Appended(epoch=epoch, seq=seq, row_id=row_id, messages=messages)

    def _write_crops(self, crops: Sequence[Message], stem: str, *, last_attempt: bool) -> list[str]:
        """The names of the crops' files; none at all if they are to give way."""
        if not crops or self._missing_bytes() > 0:
            return []
        files = {f"{stem}-{index}.crop": crop.payload for index, crop in enumerate(crops)}
        try:
            self._crops.write(files)
        except OSError as error:
            if not last_attempt:
                raise
            log.warning("crops cannot be written: dropped", extra={"fields": {"verdict": stem, "error": str(error)}})
            return []
        return list(files)

    def _give_up(self, count: int) -> None:
        database = self._database
        with database.transaction():
            epoch, first = database.state.epoch, database.state.seq + 1
            database.tombstones.add((epoch, first + offset) for offset in range(count))
            database.state = replace(
                database.state,
                seq=database.state.seq + count,
                evicted_verdicts=database.state.evicted_verdicts + count,
            )

    def _append_message(self, message: Message) -> int:
        database = self._database
        with database.transaction():
            if message.retain:
                database.delete_others(message.topic)
            row_id = database.insert(Kind.OTHER, 0, message, file="", committed_at_s=self._clock())
            evicted = self._make_room(message_bytes(message))
        self._after_commit(evicted)
        return row_id

    def _settle(self, row_ids: Sequence[int]) -> int:
        with self._database.transaction():
            number, files = self._database.delete(row_ids)
        self._after_commit(files)
        return number

    def _bury(self, row_id: int, reason_code: int) -> bool:
        with self._database.transaction():
            return self._database.bury(row_id, reason_code, self._clock())

    def _settle_tombstones(self, tombstone_ids: Sequence[int]) -> int:
        with self._database.transaction():
            return self._database.tombstones.delete(tombstone_ids)

    def _statistics(self) -> OutboxStatistics:
        database = self._database
        totals, state = database.totals, database.state
        return OutboxStatistics(
            verdicts=totals.verdicts,
            crops=totals.crops,
            others=totals.others,
            tombstones=len(database.tombstones),
            dead_letters=totals.dead_letters,
            bytes=totals.bytes,
            oldest_committed_at_s=database.oldest_s(),
            evicted_verdicts=state.evicted_verdicts,
            evicted_crops=state.evicted_crops,
            evicted_dead_letters=state.evicted_dead_letters,
            replaced=self._replaced,
            free_bytes=free_bytes(self._directory),
            disk_low=self._missing_bytes() > 0,
            ballast=self._ballast.in_place,
        )

    def _entry(self, row: Row) -> Entry | None:
        """None: its file is gone, or not whole."""
        if not row.file:
            return _entry(row, row.message)
        payload = self._crops.read(row.file)
        if payload is None:
            return None
        message = replace(row.message, payload=payload)
        return _entry(row, message) if message_bytes(message) == row.size else None

    # Room.

    def _make_room(self, added: int) -> list[str]:
        """Evict for the limits, `added` bytes being new; the files to remove."""
        files = []
        for what in Evictable:
            totals = self._database.totals
            rows, size = totals.rows - self._limits.max_rows, totals.bytes - self._limits.max_bytes
            files += self._database.evict(what, rows, size, _EVICTED_AT_ONCE)
        return files + self._make_disk_room(added)

    def _make_disk_room(self, added: int) -> list[str]:
        """Other programs may have filled the disk, and the backlog is not theirs to empty: it only must not grow.

        Crops go until enough is free. Rows leave their space to the database, which never shrinks, so without crops
        the new row replaces about two old ones until there are spare pages.
        """
        missing = self._missing_bytes()
        if missing <= 0:
            return []
        if self._database.totals.crops:
            return self._database.evict(Evictable.CROPS, 0, missing, _EVICTED_AT_ONCE)
        if self._database.spare_pages() >= _SPARE_PAGES:
            return []
        what = Evictable.DEAD_LETTERS if self._database.totals.dead_letters else Evictable.VERDICTS
        return self._database.evict(what, 0, 2 * added, _EVICTED_AT_ONCE)

    def _missing_bytes(self) -> int:
        """How much less is free than should be, the ballast included; 0 or less: enough, or nobody knows."""
        free = free_bytes(self._directory)
        ballast = 0 if self._ballast.in_place else self._ballast.size
        return 0 if free < 0 else self._limits.min_free_bytes + ballast - free

    def _after_commit(self, files: Sequence[str]) -> None:
        self._crops.remove(files)
        if not self._ballast.in_place and self._missing_bytes() <= 0:
            self._take_ballast()

    def _take_ballast(self) -> None:
        try:
            self._ballast.reserve()
        except OSError as error:
            log.warning("no room for the ballast", extra={"fields": {"error": str(error)}})

    # Faults.

    def _durably(self, what: str, operation: Callable[[bool], Result]) -> Result:
        """Run `operation`; if it fails, mend what can be mended and run it once more: it is told which it is.

        Raises:
            OutboxError: it failed again; the disk must be mended first.
        """
        with self._turn:
            try:
                self._begin_if_needed()
                return operation(False)
            except (sqlite3.Error, OSError) as error:
                first = error
            try:
                self._mend(first)
                self._begin_if_needed()
                return operation(True)
            except (sqlite3.Error, OSError) as error:
                raise _refusal(self._directory, what, error, self._advice(error)) from error

    def _begin_if_needed(self) -> None:
        if self._begin is None:
            return
        self._database, self._opening = self._begin()
        self._begin = None
        self._replaced += self._opening.how is How.REPLACED
        fields = {key: value for key, value in asdict(self._opening).items() if value}
        level = logging.ERROR if self._opening.reason else logging.INFO
        log.log(level, "outbox %s", self._opening.how, extra={"fields": fields})

    def _settle_in(self) -> None:
        """Evict what tighter limits than before do not allow, and take the ballast; a full disk is no obstacle."""
        try:
            while self._durably("written", lambda _: self._evict_some()):
                pass
        except OutboxError as error:
            log.warning("%s", error)

    def _evict_some(self) -> bool:
        before = self._database.totals
        with self._database.transaction():
            evicted = self._make_room(0)
        self._after_commit(evicted)
        return self._database.totals != before

    def _mend(self, error: Exception) -> None:
        if is_damage(error):
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
            last_row_id=database.last_row_id,
            last_tombstone_id=database.tombstones.last_id,
        )

    def _relieve(self, reason: str) -> None:
        """On a full disk nothing can be deleted, because that is written first: give the ballast for it."""
        if self._ballast.release():
            log.warning("the disk refuses: ballast released", extra={"fields": {"error": reason}})
        if self._begin is not None:
            return
        try:
            self._database.checkpoint("TRUNCATE")
        except sqlite3.Error as error:
            log.warning("the disk refuses a checkpoint", extra={"fields": {"error": str(error)}})

    def _advice(self, error: Exception) -> str:
        free = free_bytes(self._directory)
        if _is_full(error):
            return f"free disk space there ({free} bytes are free, {self._limits.min_free_bytes} should be)"
        return f"look for errors of that disk in the system's log ({free} bytes are free)"


def _entry(row: Row, message: Message) -> Entry:
    return Entry(
        row_id=row.row_id,
        kind=row.kind,
        epoch=row.epoch,
        seq=row.seq,
        message=message,
        size=row.size,
        committed_at_s=row.committed_at_s,
    )


def _is_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in {errno.ENOSPC, errno.EDQUOT}
    return getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL


def _refusal(directory: Path, what: str, error: Exception, advice: str) -> OutboxError:
    reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    return OutboxError(f"{directory}: the outbox cannot be {what} ({reason}); nothing was left half-done; {advice}")
