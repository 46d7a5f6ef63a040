"""What the outbox takes and gives: frozen records."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from edge.records import Message
from edge.settings.sections import OutboxSettings

_DEFAULTS = OutboxSettings()

FILE_LOST = -1  # reason code of a dead letter whose file is gone; no reason code of MQTT is negative
DAMAGED = -2  # of one that is not what was written


class Kind(StrEnum):
    """What a row is; decides what gives way first."""

    VERDICT = "verdict"
    CROP = "crop"
    OTHER = "other"  # alarms and the like: few, never evicted


class GivenUp(StrEnum):
    """Why verdicts have a tombstone; the word that its message gives."""

    EVICTED = "evicted"  # there was no room
    REFUSED = "refused"  # they are dead letters: the broker refuses them for good
    DAMAGED = "damaged"  # what the disk gives back is not what was written, or no more than their numbers


class How(StrEnum):
    """How the database that is open now came to be."""

    CREATED = "created"  # there was none
    RESUMED = "resumed"
    REPLACED = "replaced"  # there was one that cannot be used or was gone: a new one is begun


@dataclass(frozen=True, slots=True)
class OutboxLimits:
    """What the outbox may take of the disk. Sizes are of messages; the files are about a quarter larger."""

    max_rows: int = _DEFAULTS.max_rows
    max_bytes: int = _DEFAULTS.max_bytes
    min_free_bytes: int = _DEFAULTS.min_free_bytes  # below it no crops are kept, and verdicts replace the oldest
    ballast_bytes: int = _DEFAULTS.ballast_bytes  # four write-ahead logs at their usual size


@dataclass(frozen=True, slots=True)
class Opening:
    """What happened when the database was opened, or replaced while running."""

    how: How
    epoch: int
    new_epoch: bool  # numbering begins anew
    set_aside: Path | None = None  # the database that was replaced; None: it was gone, or there was none
    reason: str = ""  # for people: why it was replaced, or why a resumed one got a new epoch; "": all is well
    orphans: int = 0  # crop files that belonged to nothing, removed
    damaged: tuple[str, ...] = ()  # messages that cannot be used any more and were set aside, by name


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One message that waits."""

    row_id: int  # order of arrival
    kind: Kind
    epoch: int
    seq: int  # of the verdict, also for its crops; 0 for other messages
    message: Message
    size: int  # bytes, as they count for `max_bytes`
    committed_at_s: float  # wall clock, seconds since 1970-01-01 UTC; says nothing about the order
    late: bool = False  # comes as backlog, whenever it arrived: it was a dead letter, or in a damaged database


@dataclass(frozen=True, slots=True, eq=False)
class Appended:
    """A verdict that is safe on disk."""

    epoch: int
    seq: int
    row_id: int
    messages: tuple[Message, ...]  # as they were made: the verdict, then its crops


@dataclass(frozen=True, slots=True, eq=False)
class DeadLetter:
    """A message that was given up for good."""

    entry: Entry  # of a damaged one: what is left of it
    reason_code: int  # of MQTT 5, FILE_LOST or DAMAGED
    buried_at_s: float  # wall clock, seconds since 1970-01-01 UTC


@dataclass(frozen=True, slots=True)
class Tombstone:
    """Verdicts that were given up before they were delivered."""

    tombstone_id: int
    epoch: int
    first_seq: int
    last_seq: int
    count: int  # given up among them; fewer than the range holds only where far too many ranges were joined
    reason: GivenUp = GivenUp.EVICTED


@dataclass(frozen=True, slots=True)
class OutboxStatistics:
    """A snapshot for `/health` and alarms."""

    verdicts: int  # waiting
    crops: int
    others: int
    tombstones: int  # ranges that wait to be published
    dead_letters: int
    bytes: int  # of all rows, dead letters included
    oldest_committed_at_s: float | None  # None: nothing waits
    evicted_verdicts: int  # since the database began
    evicted_crops: int
    evicted_dead_letters: int
    refused: int  # became dead letters because the broker wanted it so, since the database began
    replaced: int  # databases that could not be used, since this process opened the outbox
    free_bytes: int  # of the file system; -1: it does not say
    disk_low: bool  # less is free than `min_free_bytes`
    ballast: bool  # in place

    @property
    def pending(self) -> int:
        """Messages that wait to be published."""
        return self.verdicts + self.crops + self.others + self.tombstones
