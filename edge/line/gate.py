"""Which frames are inspected and which verdicts count: pause, triggers and deadlines, for all threads.

Free running, every frame passes. Triggered, a frame passes that a trigger waits for, and its verdict counts if it
comes before the deadline. A live source is read all the time, so that no frame is old when it is wanted; others wait.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable

from edge.line.triggers import Miss, Triggers
from edge.protocol.commands import Trigger
from edge.records import Frame, FrameIdentity, Values
from edge.settings.sections import InspectionSettings


class Gate:
    """Called from the threads that capture, inspect and take commands."""

    def __init__(
        self, settings: InspectionSettings, *, live: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Open, for a source that is `live` or not; `clock` gives monotonic seconds."""
        self._deadline_s = None if settings.deadline_ms is None else settings.deadline_ms / 1e3
        self._live = live
        self._clock = clock
        self._changed = threading.Condition()  # guards all that follows
        self._triggers: Triggers | None = None
        if settings.trigger == "command" and self._deadline_s is not None:
            self._triggers = Triggers(self._deadline_s, settings.max_triggers)
        self._missed: list[Miss] = []  # answered at once; not told yet
        self._paused = False
        self._ended = False
        self._accepted = 0
        self._skipped = 0
        self._too_late = 0

    @property
    def paused(self) -> bool:
        """Nothing new is judged."""
        with self._changed:
            return self._paused

    # The thread that captures.

    def wants_frame(self, timeout_s: float) -> bool:
        """Whether to read from the source; waits for that up to `timeout_s` seconds."""
        with self._changed:
            return self._live or self._changed.wait_for(self._is_wanted, timeout_s)

    def admit(self, frame: Frame) -> Frame | None:
        """The frame as it is to be inspected; None: nobody wants it."""
        with self._changed:
            if self._triggers is not None:
                identity = self._triggers.take_frame(frame.identity)
            else:
                # What waits to be read is not read while paused: a frame of it was wanted when it was.
                identity = None if self._paused and self._live else frame.identity
            self._skipped += identity is None
        return None if identity is None else dataclasses.replace(frame, identity=identity)

    # The threads that inspect.

    def why_late(self, frame: FrameIdentity) -> str:
        """Why a verdict would be too late now; "": it is not."""
        if self._deadline_s is None:
            return ""
        with self._changed:
            now_s = self._clock()
            if self._triggers is not None:
                in_time = self._triggers.expects(frame, now_s)
            else:
                in_time = now_s - frame.captured_monotonic_s <= self._deadline_s
        return "" if in_time else f"not judged within {1e3 * self._deadline_s:g} ms"

    def claim(self, frame: FrameIdentity) -> bool:
        """The frame's verdict is its answer. False: its trigger has another one, or will get it at once."""
        with self._changed:
            claimed = self._triggers is None or self._triggers.answer(frame, self._clock())
            self._too_late += not claimed
            return claimed

    # The thread that takes commands.

    def pause(self, *, paused: bool) -> None:
        """Let no frame or trigger in, or let them in again; those that are in are answered."""
        with self._changed:
            self._paused = paused
            self._changed.notify_all()

    def trigger(self, command: Trigger, arrived_s: float) -> str:
        """Accept a trigger. Why not, if not; "": it is accepted, and gets exactly one answer."""
        with self._changed:
            if self._triggers is None:
                return "this station judges every frame: its setting inspection.trigger is free"
            if self._ended:
                return "the station is stopping, or its source has ended"
            if self._paused:
                return "the station is paused"
            if self._triggers.is_open(command.trigger_id):
                return "a trigger with this trigger_id is not answered yet"
            miss = self._triggers.arrive(command.trigger_id, command.part_id, arrived_s)
            self._accepted += 1
            if miss is not None:
                self._missed.append(miss)
            self._changed.notify_all()
        return ""

    def take_missed(self) -> list[Miss]:
        """Triggers that are to be answered now, by whoever calls this."""
        with self._changed:
            missed, self._missed = self._missed, []
            return missed if self._triggers is None else missed + self._triggers.expire(self._clock())

    def patience_s(self, most_s: float) -> float:
        """How long until the next deadline, at most `most_s`."""
        with self._changed:
            due_s = None if self._triggers is None else self._triggers.due_s
            return most_s if due_s is None else min(most_s, max(0.0, due_s - self._clock()))

    # The end.

    def end_capture(self) -> None:
        """No frame will come any more: those who wait for one are missed, and no trigger is accepted."""
        with self._changed:
            self._ended = True
            if self._triggers is not None:
                self._missed += self._triggers.give_up_waiting("no frame will come: the station stops")
            self._changed.notify_all()

    def end_inspection(self) -> None:
        """No verdict will come any more: every trigger that is still open is missed."""
        self.end_capture()
        with self._changed:
            if self._triggers is not None:
                self._missed += self._triggers.give_up("inspection has ended")

    def report(self) -> Values:
        """State and counters for `/health`."""
        with self._changed:
            values: Values = {"paused": int(self._paused), "frames_skipped": self._skipped}
            if self._triggers is not None:
                values |= {
                    "triggers": self._accepted,
                    "triggers_open": len(self._triggers),
                    "verdicts_too_late": self._too_late,
                }
            return values

    def _is_wanted(self) -> bool:
        if self._triggers is not None:
            return self._triggers.waiting > 0
        return not self._paused
