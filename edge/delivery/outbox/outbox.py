"""The durable queue between inspection and broker: a verdict is safe on disk before anybody hears of it.

Rules: a row is in order of arrival, whatever the clock says. Sequence numbers are given out once, without gaps. What
gives way when there is no room is counted, and verdicts among it are remembered as ranges, so that a gap is
explained. An error leaves nothing half-done, and the same call can be made again when its cause is over. What the disk
gives back otherwise than it was written is set aside and named, and the rest goes on.

May be used from several threads. There is no thread and no network here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from edge.delivery.outbox.database import LAST_ROW
from edge.delivery.outbox.records import (
    DAMAGED,
    FILE_LOST,
    Appended,
    DeadLetter,
    Entry,
    Kind,
    Opening,
    OutboxLimits,
    OutboxStatistics,
    Tombstone,
)
from edge.delivery.outbox.rows import Row, RowDamagedError, hash_payload, message_bytes
from edge.delivery.outbox.store import Store, durably
from edge.delivery.outbox.tables import Damaged, Dead
from edge.delivery.outbox.weeding import set_aside
from edge.records import Message

MakeMessages = Callable[[int, int], Sequence[Message]]  # (epoch, seq) → the verdict, then its crops

log = logging.getLogger("patchline.outbox")


class Outbox:
    """Messages in a directory of their own, from `append` until they are settled, buried or evicted."""

    def __init__(self, store: Store) -> None:
        """For `open`."""
        self.store = store

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
        return cls(Store(directory, limits, clock))

    def close(self) -> None:
        """Release everything; nothing is lost by not closing. May be called twice."""
        with self.store.turn:
            self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def directory(self) -> Path:
        """Where it is."""
        return self.store.directory

    @property
    def epoch(self) -> int:
        """Of the next verdict: higher than any before in this directory whenever numbering begins anew."""
        with self.store.turn:
            return self.store.database.state.epoch

    @property
    def opened(self) -> Opening:
        """What happened when the present database was opened; it may be replaced while running."""
        with self.store.turn:
            return self.store.opened

    @property
    def damage(self) -> str:
        """What was found damaged since this process opened the outbox, for people; "": nothing."""
        with self.store.turn:
            return "; ".join(self.store.damage)

    @property
    def last_row_id(self) -> int:
        """The highest row id ever given out; 0: none. What arrives from now on has a higher one."""
        with self.store.turn:
            return self.store.database.state.last_row_id

    def reserve_epoch(self) -> int:
        """An epoch for verdicts that must be numbered without the disk: this process's own, and always the same."""
        with self.store.turn:
            return self.store.epoch_apart

    # What comes.

    @durably("written")
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
        epoch, seq = self.store.database.state.epoch, self.store.database.state.seq + 1
        messages = tuple(make(epoch, seq))
        crops = messages[1:]
        files = self._write_crops(crops, f"{epoch}-{seq}")
        try:
            with self.store.transaction(message_bytes(messages[0])):
                row_id = self._store_verdict(seq, messages[0], dict(zip(files, crops, strict=False)))
                self._count(evicted_crops=len(crops) - len(files))
        except BaseException:
            self.store.crops.remove(files)
            raise
        return Appended(epoch=epoch, seq=seq, row_id=row_id, messages=messages)

    @durably("written")
    def give_up(self, count: int) -> None:
        """Number `count` verdicts that could not be kept, and remember them as evicted, so that the gap is explained.

        Raises:
            OutboxError: the disk refuses; nothing is numbered.
        """
        with self.store.transaction():
            state = self.store.database.state
            lost = range(state.seq + 1, state.seq + count + 1)
            self.store.database.tombstones.add((state.epoch, seq) for seq in lost)
            self._count(seq=count, evicted_verdicts=count)

    @durably("written")
    def append_message(self, message: Message) -> int:
        """Keep a message that is no verdict, such as an alarm; its row id.

        A retained one takes the place of those that still wait for its topic: only the last one matters.

        Raises:
            OutboxError: the disk refuses; nothing is kept.
        """
        with self.store.transaction(message_bytes(message)):
            if message.retain:
                self.store.database.delete_others(message.topic)
            return self.store.database.insert(self._new_entry(Kind.OTHER, 0, message), file="")

    # What goes.

    @durably("read")
    def pending(self, after: int = 0, limit: int = 10, *, before: int = LAST_ROW) -> tuple[Entry, ...]:
        """The oldest `limit` messages with `after` < row id < `before`, in order of arrival.

        With `last_row_id` at the time of connecting as the border, one walk begins at 0 (the backlog) and another
        behind it (what is live). What cannot be used is buried instead: a crop whose file is gone as `FILE_LOST`, what
        is not as it was written as `DAMAGED`. Crops are read into memory: up to `limit` of them at once.

        Raises:
            OutboxError: the disk refuses.
        """
        while True:
            rows = self.store.database.pending(after, before, limit)
            found = [entry for row in rows if (entry := self._usable(row)) is not None]
            if found or not rows:
                return tuple(found)

    @durably("written")
    def settle(self, row_ids: Sequence[int]) -> int:
        """Forget messages that the broker has; how many of them were still there. One flush to disk for all.

        Raises:
            OutboxError: the disk refuses; all of them are still there.
        """
        with self.store.transaction() as files:
            number, settled = self.store.database.delete(row_ids)
            files.extend(settled)
        return number

    @durably("written")
    def bury(self, row_id: int, reason_code: int) -> bool:
        """Move a message that is given up for good to the dead letters; False: it is not there any more.

        A verdict leaves a tombstone, which is published like any other: what explains its gap does not wait for people.

        Raises:
            OutboxError: the disk refuses; the message still waits.
        """
        with self.store.transaction():
            return self.store.database.bury(row_id, reason_code, self.store.clock())

    @durably("read")
    def tombstones(self, limit: int = 100) -> tuple[Tombstone, ...]:
        """The oldest `limit` ranges of verdicts that were given up, as far as they are not published yet.

        What was returned once is not changed while the outbox is open: later ones make new ranges.

        Raises:
            OutboxError: the disk refuses.
        """
        return self.store.database.tombstones.hand_out(limit)

    @durably("written")
    def settle_tombstones(self, tombstone_ids: Sequence[int]) -> int:
        """Forget ranges that the broker has; how many of them were still there.

        Raises:
            OutboxError: the disk refuses; all of them are still there.
        """
        with self.store.transaction():
            return self.store.database.tombstones.delete(tombstone_ids)

    # Dead letters.

    @durably("read")
    def dead_letters(self, after: int = 0, limit: int = 100) -> tuple[DeadLetter, ...]:
        """The oldest `limit` dead letters with row id > `after`; a crop whose file is gone has no payload.

        Raises:
            OutboxError: the disk refuses.
        """
        found = self.store.database.dead_letters(after, limit)
        if any(isinstance(dead, Damaged) for dead in found):
            raise RowDamagedError("a dead letter is not what was written")  # mended, then read again
        return tuple(self._dead_letter(dead) for dead in found if isinstance(dead, Dead))

    @durably("written")
    def resend(self, row_ids: Sequence[int]) -> tuple[int, ...]:
        """Let dead letters wait again, behind everything, as they were; those that are there and whole, in order.

        Their content and key stay, and they come as backlog. A tombstone that says that they will not come is not taken
        back: it may be with subscribers already.

        Raises:
            OutboxError: the disk refuses; all of them are still dead.
        """
        whole = [row_id for row_id in sorted(set(row_ids)) if self._is_whole(row_id)]
        with self.store.transaction():
            return tuple(row_id for row_id in whole if self.store.database.raise_again(row_id))

    @durably("written")
    def drop(self, row_ids: Sequence[int]) -> int:
        """Delete dead letters for good; how many of them there were.

        Raises:
            OutboxError: the disk refuses; all of them are still there.
        """
        with self.store.transaction() as files:
            number, dropped = self.store.database.delete_dead_letters(row_ids)
            files.extend(dropped)
        return number

    @durably("read")
    def statistics(self) -> OutboxStatistics:
        """A snapshot.

        Raises:
            OutboxError: the disk refuses.
        """
        totals, state = self.store.database.totals, self.store.database.state
        return OutboxStatistics(
            verdicts=totals.verdicts,
            crops=totals.crops,
            others=totals.others,
            tombstones=len(self.store.database.tombstones),
            dead_letters=totals.dead_letters,
            bytes=totals.bytes,
            oldest_committed_at_s=self.store.database.oldest_s(),
            evicted_verdicts=state.evicted_verdicts,
            evicted_crops=state.evicted_crops,
            evicted_dead_letters=state.evicted_dead_letters,
            refused=state.refused,
            replaced=self.store.replaced,
            free_bytes=self.store.room.free_bytes,
            disk_low=self.store.room.missing_bytes > 0,
            ballast=self.store.room.has_ballast,
        )

    # Each runs with the lock held.

    def _store_verdict(self, seq: int, verdict: Message, crops: Mapping[str, Message]) -> int:
        row_id = self.store.database.insert(self._new_entry(Kind.VERDICT, seq, verdict), file="")
        for file, crop in crops.items():
            self.store.database.insert(self._new_entry(Kind.CROP, seq, crop), file=file)
        self._count(seq=1)
        return row_id

    def _new_entry(self, kind: Kind, seq: int, message: Message) -> Entry:
        return Entry(0, kind, self.store.database.state.epoch, seq, message, message_bytes(message), self.store.clock())

    def _count(self, **more: int) -> None:
        state = self.store.database.state
        changes = {name: getattr(state, name) + number for name, number in more.items()}
        self.store.database.state = replace(state, **changes)

    def _write_crops(self, crops: Sequence[Message], stem: str) -> list[str]:
        """The names of the crops' files; none at all if they are to give way."""
        if not crops or self.store.room.missing_bytes > 0:
            return []
        files = {f"{stem}-{index}.crop": crop.payload for index, crop in enumerate(crops)}
        try:
            self.store.crops.write(files)
        except OSError as error:
            if not self.store.is_last_attempt:
                raise
            log.warning("crops cannot be written: dropped", extra={"fields": {"verdict": stem, "error": str(error)}})
            return []
        return list(files)

    def _usable(self, row: Row | Damaged) -> Entry | None:
        """None: it cannot be used, and is buried."""
        if isinstance(row, Damaged):
            with self.store.transaction():
                name = set_aside(self.store.database, row, self.store.clock())
            self.store.report_damage([name])
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
        payload = self.store.crops.read(row.file)
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
