"""Commands are taken, executed and answered here, and triggers that no verdict answers get theirs.

One thread runs `run`. The network thread only hands requests over; a recipe that is being loaded is answered when it
is ready. An answer that the broker cannot take at once is dropped: whoever misses it asks again and is told the same.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from time import monotonic

from edge.health.supervision import Heartbeat
from edge.line.buffer import Buffer, WhenFull
from edge.line.command_log import CommandLog
from edge.line.gate import Gate
from edge.line.recipes import Recipes, RecipeState, Switch
from edge.line.triggers import Miss
from edge.protocol.commands import (
    Answer,
    Command,
    Deduplicator,
    Ignored,
    Pause,
    Reader,
    Refusal,
    Request,
    Resume,
    SwitchRecipe,
    Trigger,
)
from edge.protocol.text import bounded
from edge.records import FrameIdentity, Message, Values, Verdict
from edge.settings.source import SourceKind
from edge.settings.tree import Settings

log = logging.getLogger("patchline.commands")

_POLL_S = 0.5  # longest wait without a look at whether to stop
_QUEUE = 64  # requests between the network thread and ours
_ERROR_BYTES = 400  # of an answer

Give = Callable[[Verdict, Heartbeat], None]
Reply = Callable[[Message], bool]


class Control:
    """`request` may be called from any thread; `end` once, from another one than `run`."""

    def __init__(
        self,
        settings: Settings,
        base: str,
        gate: Gate,
        recipes: Recipes,
        *,
        give: Give,
        reply: Reply,
    ) -> None:
        """For one station.

        Args:
            settings: what is allowed.
            base: what every topic of the station begins with.
            gate: what pause, resume and triggers act on.
            recipes: what may be switched to.
            give: takes the answer to a trigger that no verdict answers; may block, and says with the heartbeat that
                it lives.
            reply: sends an answer to a command. False: the broker cannot take it now.
        """
        self._reader = Reader(settings.commands, base)
        self._deduplicator = Deduplicator(settings.commands)
        self._simulated = settings.source.kind is SourceKind.SIMULATED
        self._gate = gate
        self._recipes = recipes
        self._give = give
        self._reply = reply
        self._requests: Buffer[Request | tuple[Request, Switch]] = Buffer(_QUEUE, WhenFull.BLOCK)
        self._answering = threading.Lock()  # held from taking what is missed until it is delivered
        self._log = CommandLog()

    @property
    def topic_filter(self) -> str:
        """What to subscribe to."""
        return self._reader.topic_filter

    def request(self, request: Request) -> None:
        """Take `request` without waiting; beyond what the queue holds it is not heard."""
        if not self._requests.put(request, 0):
            self._log.unheard()

    def run(self, heartbeat: Heartbeat) -> None:
        """Execute commands and answer what is missed, until `end`."""
        while not self._requests.drained:
            heartbeat.beat()
            item = self._requests.get(self._gate.patience_s(_POLL_S))
            try:
                self._handle(item)
            except Exception:  # whatever somebody sends, the line goes on
                log.exception("a fault of ours: a command is left without an answer")
            self._answer_missed(heartbeat)

    def end(self) -> None:
        """No verdict will come any more: every open trigger is answered when this returns, and `run` ends."""
        self._gate.end_inspection()
        self._answer_missed(Heartbeat())
        self._requests.close()

    def report(self) -> Values:
        """Counters for `/health`."""
        return self._log.report()

    def _answer_missed(self, heartbeat: Heartbeat) -> None:
        """Answer the triggers that no verdict answers."""
        with self._answering:
            for miss in self._gate.take_missed():
                identity = _identity(miss, simulated=self._simulated)
                self._give(self._recipes.active.no_result(identity, miss.reason, miss.detail), heartbeat)

    def _handle(self, item: Request | tuple[Request, Switch] | None) -> None:
        if isinstance(item, Request):
            self._take(item)
        elif item is not None:
            request, switch = item
            self._conclude(request, _judge(switch))

    def _take(self, request: Request) -> None:
        now_s = monotonic()
        if not self._deduplicator.admit(now_s):
            self._log.flooded(now_s)
            return
        self._log.heard()
        unanswerable = self._reader.why_unanswerable(request)
        if unanswerable:
            self._log.note(self._reader.name(request), request, Ignored(unanswerable))
            return
        known = self._deduplicator.recall(request, now_s)
        if isinstance(known, Answer):
            self._answer(request, known, repeated=True)
        elif known is not None:
            self._log.note(self._reader.name(request), request, known)
        else:
            answer = self._execute(request, self._reader.read(request))
            if answer is not None:
                self._conclude(request, answer)

    def _execute(self, request: Request, command: Command | Refusal) -> Answer | None:
        """What became of the command; None: that is not known yet."""
        match command:
            case Refusal():
                return self._done(command.error)
            case Trigger():
                return self._done(self._gate.trigger(command, request.received_s))
            case Pause() | Resume():
                self._gate.pause(paused=isinstance(command, Pause))
                return self._done()
            case SwitchRecipe():
                switch = self._recipes.switch(command.name, lambda later: self._tell(request, later))
                return None if switch.state is RecipeState.LOADING else _judge(switch)

    def _done(self, error: str = "") -> Answer:
        recipe = self._recipes.active
        return Answer(error, recipe.name, recipe.model)

    def _tell(self, request: Request, switch: Switch) -> None:
        """In the thread that loads recipes."""
        if not self._requests.put((request, switch), _POLL_S):
            self._log.unheard()

    def _conclude(self, request: Request, answer: Answer) -> None:
        self._deduplicator.conclude(request, answer)
        self._answer(request, answer)

    def _answer(self, request: Request, answer: Answer, *, repeated: bool = False) -> None:
        sent = bool(request.response_topic) and self._reply(self._reader.reply(request, answer))
        self._log.note(self._reader.name(request), request, answer, repeated=repeated, sent=sent)


def _identity(miss: Miss, *, simulated: bool) -> FrameIdentity:
    """Its frame's; of a trigger without one, its own, at the time when it arrived."""
    if miss.frame is not None:
        return miss.frame
    ticket = miss.ticket
    return FrameIdentity(
        sequence=0,
        captured_at_s=time.time() - (monotonic() - ticket.arrived_s),
        captured_monotonic_s=ticket.arrived_s,
        trigger_id=ticket.trigger_id,
        part_id=ticket.part_id,
        simulated=simulated,
    )


def _judge(switch: Switch) -> Answer:
    match switch.state:
        case RecipeState.ACTIVE:
            error = ""
        case RecipeState.REFUSED:
            error = bounded(f"refused, the recipe before goes on: {switch.detail}", _ERROR_BYTES)
        case _:
            error = "meanwhile another recipe was asked for"
    return Answer(error, switch.recipe, switch.model)
