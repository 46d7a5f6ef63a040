"""Which stored message is sent next: live ones first with a share for the backlog, or strictly in order of arrival.

What was committed before the present connection was up is its backlog. Within the backlog, and within what is live,
messages go in order of arrival; so do they in strict order, and while a short backlog is sent, which goes first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container
from dataclasses import dataclass

from edge.delivery.outbox.database import LAST_ROW
from edge.delivery.outbox.outbox import Outbox
from edge.delivery.outbox.records import Entry
from edge.settings.sections import SendOrder

SHORT_BACKLOG = 100  # messages: sent in a fraction of a second, so that overtaking it gains nothing
_READ_AT_ONCE = 32  # rows; crops among them are held in memory
_NO_END = LAST_ROW - 1


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """The next message."""

    entry: Entry
    is_backlog: bool


class SendQueue:
    """Belongs to one thread; the outbox may be appended to meanwhile."""

    def __init__(self, outbox: Outbox, order: SendOrder, backlog_share: float) -> None:
        """Nothing is due before `begin_connection`.

        Args:
            outbox: where messages wait.
            order: of live messages and backlog.
            backlog_share: of the messages sent while both wait, from 0 to 1.
        """
        self._outbox = outbox
        self._order = order
        self._share = backlog_share
        self._credit = 0.0  # of the backlog, in messages
        self._backlog_first = True
        self._backlog = _Walk(outbox, 0, 0, ())
        self._live = _Walk(outbox, 0, 0, ())

    def begin_connection(self, outstanding: Container[int]) -> None:
        """From here on, what is in the outbox is backlog, and what comes is live.

        Args:
            outstanding: rows that were handed over and are not settled: they are passed over. Consulted later, too.

        Raises:
            OutboxError: the disk refuses; call again.
        """
        border = self._outbox.last_row_id
        short = self._outbox.statistics().pending <= SHORT_BACKLOG
        self._backlog_first = short or self._order is SendOrder.STRICT
        self._backlog = _Walk(self._outbox, self._backlog.after, border, outstanding)
        self._live = _Walk(self._outbox, border, _NO_END, outstanding)
        self._credit = 0.0

    def next(self) -> Turn | None:
        """The message to send now; the same one until `take`. None: nothing waits.

        Raises:
            OutboxError: the disk refuses.
        """
        walk = self._choose()
        entry = walk.head
        return None if entry is None else Turn(entry, is_backlog=walk is self._backlog)

    def following(self, turn: Turn) -> Entry | None:
        """What comes behind `turn`, the next one, in its class.

        Raises:
            OutboxError: the disk refuses.
        """
        return (self._backlog if turn.is_backlog else self._live).following

    def take(self, turn: Turn) -> None:
        """`turn`, the next one, is being sent."""
        if turn.is_backlog:
            self._backlog.step()
            self._credit = max(0.0, self._credit - 1)
        else:
            self._live.step()
        self._credit = min(1.0, self._credit + self._share)

    def _choose(self) -> _Walk:
        if self._backlog.head is None:
            return self._live
        goes_first = self._backlog_first or self._credit >= 1
        return self._backlog if goes_first or self._live.head is None else self._live


class _Walk:
    """Rows above `after`, up to `last`, in order of arrival."""

    def __init__(self, outbox: Outbox, after: int, last: int, outstanding: Container[int]) -> None:
        self.after = after  # the row taken last
        self._outbox = outbox
        self._last = last
        self._outstanding = outstanding
        self._read: deque[Entry] = deque()
        self._read_to = after

    @property
    def head(self) -> Entry | None:
        """The next row."""
        self._fill(1)
        return self._read[0] if self._read else None

    @property
    def following(self) -> Entry | None:
        """The row behind the next one."""
        self._fill(2)
        return self._read[1] if len(self._read) > 1 else None

    def step(self) -> None:
        """The next row is taken."""
        self.after = self._read.popleft().row_id

    def _fill(self, wanted: int) -> None:
        while len(self._read) < wanted:
            if self._read_to >= self._last:
                return
            found = self._outbox.pending(self._read_to, _READ_AT_ONCE, before=self._last + 1)
            if not found:
                # Nothing comes before the border any more; beyond it something may come at any time.
                self._read_to = self._read_to if self._last == _NO_END else self._last
                return
            self._read_to = found[-1].row_id
            self._read.extend(entry for entry in found if entry.row_id not in self._outstanding)
