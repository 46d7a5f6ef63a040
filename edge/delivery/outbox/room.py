"""What the outbox may take of the disk, and what gives way when it is too much: the rules of eviction, once."""

from __future__ import annotations

import logging
from pathlib import Path

from edge.delivery.outbox.database import Database
from edge.delivery.outbox.files import Ballast, free_bytes
from edge.delivery.outbox.records import OutboxLimits
from edge.delivery.outbox.tables import Evictable

_EVICTED_AT_ONCE = 256  # rows of one kind in one transaction: bounds how long an `append` takes
_SPARE_PAGES = 16  # an append takes up to a handful of the database's pages

log = logging.getLogger("patchline.outbox")


class Room:
    """Limits, free disk and ballast of one directory."""

    def __init__(self, directory: Path, limits: OutboxLimits) -> None:
        self._directory = directory
        self._limits = limits
        self._ballast = Ballast(directory / "ballast", limits.ballast_bytes)

    @property
    def has_ballast(self) -> bool:
        """It is in place."""
        return self._ballast.in_place

    @property
    def free_bytes(self) -> int:
        """Of the file system; -1: it does not say."""
        return free_bytes(self._directory)

    @property
    def missing_bytes(self) -> int:
        """How much less is free than should be, the ballast included; 0 or less: enough, or nobody knows."""
        free = self.free_bytes
        ballast = 0 if self._ballast.in_place else self._ballast.size
        return 0 if free < 0 else self._limits.min_free_bytes + ballast - free

    def make(self, database: Database, added: int) -> list[str]:
        """Within a transaction: evict for the limits, `added` bytes being new; the files to remove after it."""
        files = []
        for what in Evictable:
            totals = database.totals
            rows, size = totals.rows - self._limits.max_rows, totals.bytes - self._limits.max_bytes
            files += database.evict(what, rows, size, _EVICTED_AT_ONCE)
        return files + self._make_on_disk(database, added)

    def take_ballast(self) -> None:
        """If there is room for it again."""
        if self._ballast.in_place or self.missing_bytes > 0:
            return
        try:
            self._ballast.reserve()
        except OSError as error:
            log.warning("no room for the ballast", extra={"fields": {"error": str(error)}})

    def release_ballast(self) -> bool:
        """For what must be written to delete on a full disk; False: there was none."""
        return self._ballast.release()

    def _make_on_disk(self, database: Database, added: int) -> list[str]:
        """Other programs may have filled the disk, and the backlog is not theirs to empty: it only must not grow.

        Crops go until enough is free. Rows leave their space to the database, which never shrinks, so without crops
        the new row replaces about two old ones until there are spare pages.
        """
        missing = self.missing_bytes
        if missing <= 0:
            return []
        if database.totals.crops:
            return database.evict(Evictable.CROPS, 0, missing, _EVICTED_AT_ONCE)
        if database.spare_pages() >= _SPARE_PAGES:
            return []
        what = Evictable.DEAD_LETTERS if database.totals.dead_letters else Evictable.VERDICTS
        return database.evict(what, 0, 2 * added, _EVICTED_AT_ONCE)
