"""Triggers: each gets the first free frame captured after it, and exactly one answer by its deadline. Pure.

A trigger waits for its frame, then for that frame's verdict. Whoever comes first answers it: the verdict, the deadline
or the end; who comes later is told so. Frames go to triggers in order of arrival, one to each.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from edge.records import FrameIdentity, Reason


@dataclass(frozen=True, slots=True)
class Ticket:
    """A trigger that was accepted."""

    trigger_id: str
    part_id: str
    arrived_s: float  # monotonic
    due_s: float  # monotonic: answered by then


@dataclass(frozen=True, slots=True)
class Miss:
    """The answer to a trigger that no verdict answers: NO_RESULT."""

    ticket: Ticket
    frame: FrameIdentity | None  # None: it has none
    reason: Reason
    detail: str


@dataclass(slots=True, eq=False)
class _Open:
    """A trigger without an answer."""

    ticket: Ticket
    frame: FrameIdentity | None = None
    passed_over: bool = False  # frames came, and went to triggers before it


class Triggers:
    """Every trigger of a station that is not answered. Not thread safe: its owner holds a lock around every call."""

    def __init__(self, deadline_s: float, most: int) -> None:
        """Answer each within `deadline_s` seconds; at most `most` are open at a time."""
        self._deadline_s = deadline_s
        self._most = most
        self._open: dict[str, _Open] = {}  # by trigger id, in order of arrival, which is the order of deadlines

    def __len__(self) -> int:
        """Triggers without an answer."""
        return len(self._open)

    @property
    def waiting(self) -> int:
        """Triggers without a frame."""
        return sum(one.frame is None for one in self._open.values())

    @property
    def due_s(self) -> float | None:
        """The next deadline, monotonic seconds; None: nothing is open."""
        return next((one.ticket.due_s for one in self._open.values()), None)

    def is_open(self, trigger_id: str) -> bool:
        """A trigger of this id is not answered yet, so that another one cannot be told from it."""
        return trigger_id in self._open

    def arrive(self, trigger_id: str, part_id: str, arrived_s: float) -> Miss | None:
        """Accept a trigger whose id is not open. Called in order of arrival.

        Returns:
            None: it is open now. Or its answer: too many are.
        """
        ticket = Ticket(trigger_id, part_id, arrived_s, arrived_s + self._deadline_s)
        if len(self._open) >= self._most:
            detail = f"{self._most} triggers are not answered yet, as many as inspection.max_triggers allows"
            return Miss(ticket, None, Reason.OVERRUN, detail)
        self._open[trigger_id] = _Open(ticket)
        return None

    def take_frame(self, frame: FrameIdentity) -> FrameIdentity | None:
        """The frame, now that of the trigger that it is for; None: nobody asked for it."""
        taken: FrameIdentity | None = None
        for one in self._open.values():
            if one.frame is not None or one.ticket.arrived_s > frame.captured_monotonic_s:
                continue
            if taken is None:
                part_id = one.ticket.part_id or frame.part_id
                one.frame = taken = dataclasses.replace(frame, trigger_id=one.ticket.trigger_id, part_id=part_id)
            else:
                one.passed_over = True
        return taken

    def expects(self, frame: FrameIdentity, now_s: float) -> bool:
        """The frame's trigger has no answer yet, and its deadline has not come."""
        one = self._open.get(frame.trigger_id)
        if one is None or one.frame is None:
            return False
        return one.frame.sequence == frame.sequence and now_s < one.ticket.due_s

    def answer(self, frame: FrameIdentity, now_s: float) -> bool:
        """The frame's verdict answers its trigger. False: it is too late for that."""
        if not self.expects(frame, now_s):
            return False
        del self._open[frame.trigger_id]
        return True

    def expire(self, now_s: float) -> list[Miss]:
        """Answer those whose deadline has come."""
        due = [one for one in self._open.values() if one.ticket.due_s <= now_s]
        return [self._miss(one, *self._why_late(one)) for one in due]

    def give_up_waiting(self, detail: str) -> list[Miss]:
        """Answer those without a frame: none will come any more."""
        waiting = [one for one in self._open.values() if one.frame is None]
        return [self._miss(one, Reason.CAMERA_STALE, detail) for one in waiting]

    def give_up(self, detail: str) -> list[Miss]:
        """Answer all: nobody judges any more."""
        return [self._miss(one, Reason.INTERNAL_ERROR, detail) for one in list(self._open.values())]

    def _miss(self, one: _Open, reason: Reason, detail: str) -> Miss:
        del self._open[one.ticket.trigger_id]
        return Miss(one.ticket, one.frame, reason, detail)

    def _why_late(self, one: _Open) -> tuple[Reason, str]:
        within = f"within {1e3 * self._deadline_s:g} ms"
        if one.frame is not None:
            return Reason.DEADLINE_MISSED, f"its frame was not judged {within}"
        if one.passed_over:
            return Reason.OVERRUN, f"every frame {within} went to triggers before it"
        return Reason.CAMERA_STALE, f"no frame came {within}"
