"""Several threads answer frames at the same time; their verdicts leave in the order of the frames.

A thread takes a frame only when it is free, so that a live source's newest frame is never older than it need be. It
waits for the others only where it is far ahead of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from edge.line.buffer import Buffer
from edge.records import Verdict

_POLL_S = 0.5  # longest wait without saying that nothing was to be done
_MOST_AHEAD = 2  # verdicts for each thread that wait for that of an earlier frame

Item = TypeVar("Item")

Deliver = Callable[[Verdict], None]
Beat = Callable[[], None]


class Workers(Generic[Item]):
    """What the inspecting threads share: where their frames come from, and whose verdict is next."""

    def __init__(self, frames: Buffer[Item], count: int, at_end: Callable[[], None]) -> None:
        """Answer `frames` in `count` threads that each call `work`; when the last has ended, `at_end` is called."""
        self._frames = frames
        self._working = count
        self._at_end = at_end
        self._most_ahead = _MOST_AHEAD * count
        self._changed = threading.Condition()
        self._waiting: dict[int, Verdict] = {}  # by the frame's number
        self._next = 0  # the frame whose verdict leaves next
        self._delivering = False

    def work(self, answer: Callable[[Item], Verdict], deliver: Deliver, beat: Beat) -> None:
        """Answer frames until the last is taken; for one thread, with its own `answer`.

        `answer` must not raise. `deliver` is called for every verdict, in the order of the frames and by one thread
        at a time, and may block; `beat` whenever this thread makes progress or rightly has nothing to do.
        """
        try:
            while not self._frames.drained:
                beat()
                if self._answer_next(answer, beat):
                    self._deliver_next(deliver)
        finally:
            self._leave()

    def _answer_next(self, answer: Callable[[Item], Verdict], beat: Beat) -> bool:
        """False: there was no frame. Nothing of a frame is held on to when this returns."""
        taken = self._frames.get_numbered(_POLL_S)
        if taken is not None:
            number, frame = taken
            self._hold(number, answer(frame), beat)
        return taken is not None

    def _hold(self, number: int, verdict: Verdict, beat: Beat) -> None:
        with self._changed:
            while not self._changed.wait_for(lambda: number <= self._next + self._most_ahead, _POLL_S):
                beat()
            self._waiting[number] = verdict

    def _deliver_next(self, deliver: Deliver) -> None:
        """Deliver what can leave, unless another thread is at it: then that one will."""
        while (verdict := self._claim_next()) is not None:
            deliver(verdict)
            with self._changed:
                self._delivering = False
                self._next += 1
                self._changed.notify_all()

    def _claim_next(self) -> Verdict | None:
        with self._changed:
            if self._delivering or self._next not in self._waiting:
                return None
            self._delivering = True
            return self._waiting.pop(self._next)

    def _leave(self) -> None:
        with self._changed:
            self._working -= 1
            last = self._working == 0
        if last:
            self._at_end()
