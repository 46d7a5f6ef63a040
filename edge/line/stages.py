"""What a frame goes through, each stage a loop for a thread of its own: capture, inspection, publishing.

Data flows one way, through bounded buffers. A stage ends when the one before it has closed its buffer and everything
in it is passed on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from edge.delivery.delivery import Delivery
from edge.health.supervision import Heartbeat
from edge.line.answers import Answers
from edge.line.buffer import Buffer
from edge.line.drain import POLL_S, Drain, hand_over
from edge.line.gate import Gate
from edge.line.recipe import Recipe
from edge.line.recipes import Recipes
from edge.line.workers import Workers
from edge.records import Frame, Message, Reason, Verdict
from edge.sources.base import Source, SourceState


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A frame, and what it is inspected by: the recipe that was active when the frame came.

    Bound by the one thread that captures, and not by those that inspect, which would read it in any order.
    """

    frame: Frame
    recipe: Recipe


class Capture:
    """Source → jobs, through the gate."""

    def __init__(self, source: Source, gate: Gate, recipes: Recipes, jobs: Buffer[Job], drain: Drain) -> None:
        self._source = source
        self._gate = gate
        self._recipes = recipes
        self._jobs = jobs
        self._drain = drain
        self._stopping = threading.Event()
        self.lost = 0  # frames for which there was no room until draining was over

    def stop(self) -> None:
        """Read no more."""
        self._stopping.set()

    def run(self, heartbeat: Heartbeat) -> None:
        """Until the source ends or `stop`."""
        try:
            while not self._stopping.is_set() and self._source.state is not SourceState.ENDED:
                captured = self._source.read(POLL_S) if self._gate.wants_frame(POLL_S) else None
                heartbeat.beat()
                frame = None if captured is None else self._gate.admit(captured)
                if frame is not None:
                    job = Job(frame, self._recipes.active)
                    self.lost += not hand_over(self._jobs, job, heartbeat, self._drain)
        finally:
            self._gate.end_capture()
            self._jobs.close()


class Inspection:
    """Jobs → answers, in one or several threads; answers leave in the order of the frames."""

    def __init__(self, jobs: Buffer[Job], gate: Gate, answers: Answers, count: int, at_end: Callable[[], None]) -> None:
        """For `count` threads; `at_end` is called when the last job is answered."""
        self._gate = gate
        self._answers = answers
        self._workers = Workers(jobs, count, at_end)
        self.count = count

    def run(self, heartbeat: Heartbeat, place: int) -> None:
        """For the thread that is `place`-th of all, from 0."""

        def answer(job: Job) -> Verdict:
            return self._judge(job, place)

        def give(verdict: Verdict) -> None:
            if self._gate.claim(verdict.identity):
                self._answers.give(verdict, heartbeat)

        self._workers.work(answer, give, heartbeat.beat)

    def _judge(self, job: Job, place: int) -> Verdict:
        inspector = job.recipe.inspectors[place]
        frame = job.frame
        verdict = None if self._gate.why_late(frame.identity) else inspector.answer(frame)
        late = self._gate.why_late(frame.identity)  # the deadline may come while the frame is judged
        if verdict is None or late:
            return inspector.no_result(frame.identity, Reason.DEADLINE_MISSED, late)
        return verdict


class Publishing:
    """Verdicts → delivery, and statistics in between."""

    def __init__(self, verdicts: Buffer[Verdict], health: Buffer[Message], delivery: Delivery, drain: Drain) -> None:
        self._verdicts = verdicts
        self._health = health
        self._delivery = delivery
        self._drain = drain
        self.lost = 0  # verdicts that neither disk nor broker took until draining was over

    def run(self, heartbeat: Heartbeat) -> None:
        """Until the last verdict is delivered."""
        while not self._verdicts.drained:
            verdict = self._verdicts.get(POLL_S)
            heartbeat.beat()
            if verdict is not None:
                self.lost += not self._deliver(verdict, heartbeat)
            health = self._health.get(0)
            if health is not None:
                self._delivery.send(health)

    def _deliver(self, verdict: Verdict, heartbeat: Heartbeat) -> bool:
        discarded = self._verdicts.discarded
        while not self._delivery.deliver(verdict, discarded):
            heartbeat.beat()
            if self._drain.over:
                return False
        return True
