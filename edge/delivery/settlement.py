"""What the broker has answered and the outbox has not forgotten yet: deleted, or kept aside as dead letters."""

from __future__ import annotations

import dataclasses
import logging
from time import monotonic

from edge.delivery.outbox.outbox import Outbox
from edge.errors import OutboxError
from edge.records import Message

log = logging.getLogger("patchline.pump")

SETTLE_AFTER_S = 0.1  # answers are gathered for so long, because forgetting them takes a flush to disk
RETRY_S = 1.0  # after the disk has refused


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Sent:
    """The ticket of what the publisher took, which comes back with the answer: a row or a tombstone."""

    message: Message
    row_id: int = 0  # 0: a tombstone
    tombstone_id: int = 0
    is_verdict: bool = False


class Settlement:
    """Belongs to the pump's thread; `buried` may be read by others."""

    def __init__(self, outbox: Outbox, window: int) -> None:
        """Nothing is answered yet.

        Args:
            outbox: where the messages are.
            window: so many answers at the most are gathered before they are forgotten.
        """
        self.buried = 0
        self.outstanding: set[int] = set()  # rows that were sent and are not forgotten
        self._outbox = outbox
        self._window = window
        self._accepted: list[int] = []  # rows to be settled
        self._accepted_stones: list[int] = []  # tombstones to be settled
        self._refused: list[tuple[int, int]] = []  # rows to be buried, with reason codes
        self._due_at_s = 0.0
        self._complaint = ""  # of the disk

    def __len__(self) -> int:
        """Messages that are answered and not forgotten."""
        return len(self._accepted) + len(self._accepted_stones) + len(self._refused)

    @property
    def blocking(self) -> int:
        """How many of them count as unanswered still; none while the disk refuses, which must not stop the line."""
        return 0 if self._complaint else len(self)

    @property
    def stones(self) -> set[int]:
        """Tombstones that the broker has."""
        return set(self._accepted_stones)

    @property
    def patience_s(self) -> float:
        """How long until something is due; infinite: nothing is."""
        return max(0.0, self._due_at_s - monotonic()) if len(self) else float("inf")

    def accept(self, sent: Sent) -> None:
        """The broker has it."""
        self._begin()
        if sent.row_id:
            self._accepted.append(sent.row_id)
        else:
            self._accepted_stones.append(sent.tombstone_id)

    def refuse(self, sent: Sent, reason_code: int) -> None:
        """The broker refuses the row for good."""
        self._begin()
        self._refused.append((sent.row_id, reason_code))

    def settle_when_due(self) -> None:
        """Forget what is answered if it is enough or has waited long enough."""
        is_enough = len(self) >= max(1, self._window // 2) and not self._complaint
        if len(self) and (is_enough or monotonic() >= self._due_at_s):
            self.settle()

    def settle(self) -> None:
        """Forget what is answered; what the disk refuses to forget now stays for the next time."""
        try:
            if self._accepted:
                self._outbox.settle(self._accepted)
                self.outstanding.difference_update(self._accepted)
                self._accepted.clear()
            if self._accepted_stones:
                self._outbox.settle_tombstones(self._accepted_stones)
                self._accepted_stones.clear()
            while self._refused:
                row_id, reason_code = self._refused[0]
                self.buried += self._outbox.bury(row_id, reason_code)
                self.outstanding.discard(row_id)
                del self._refused[0]
        except OutboxError as error:
            self.complain(str(error))
            self._due_at_s = monotonic() + RETRY_S
        else:
            self._complaint = ""

    def complain(self, complaint: str) -> None:
        """The disk refuses: one line for each change."""
        if complaint != self._complaint:
            log.error("%s", complaint)
        self._complaint = complaint

    def _begin(self) -> None:
        if not len(self):
            self._due_at_s = monotonic() + SETTLE_AFTER_S
