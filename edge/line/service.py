"""The running service: opens what the settings name, wires the stages, and ends them in order. The only wiring.

Data flows one way, through two bounded buffers. A frame that cannot be judged is answered with NO_RESULT. When the
source ends or the service is told to stop, capture stops first and what was captured is still answered and delivered.
What the broker does not take in time waits on disk for the next start.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import logging
import threading
import time
from dataclasses import dataclass

from edge import __version__
from edge.delivery.delivery import Delivery
from edge.delivery.opening import open_delivery
from edge.engine.threads import use_one_blas_thread
from edge.errors import DeliveryError
from edge.health.alarms import Alarms, Conditions
from edge.health.clock import read_clock_state
from edge.health.statistics import Statistics
from edge.health.supervision import SystemdNotifier
from edge.health.usage import read_usage
from edge.line.answers import Answers
from edge.line.buffer import Buffer, WhenFull
from edge.line.control import Control
from edge.line.drain import Drain
from edge.line.first_recipe import FirstRecipe, choose_first
from edge.line.gate import Gate
from edge.line.opening import last_recipe, open_recipes, station_topics
from edge.line.recipes import Recipes
from edge.line.stages import Capture, Inspection, Job, Publishing
from edge.line.supervisor import Supervisor
from edge.line.threads import Threads
from edge.protocol.messages import health_message
from edge.protocol.topics import StationTopics
from edge.records import Message, Values, Verdict
from edge.settings.tree import Settings
from edge.sources import open_source
from edge.sources.base import Source, SourceState, most_pixels

_GRACE_S = 1.0  # for a thread to see that draining is over

log = logging.getLogger("patchline.service")


def run_service(settings: Settings, stop: threading.Event, reload: threading.Event) -> None:
    """Inspect until the source ends or `stop` is set; then drain.

    Args:
        settings: everything that can be set.
        stop: set from outside to end.
        reload: set from outside when the recipe in force may have been taught anew.

    Raises:
        PatchlineError: the bundle, the source or the settings are refused, or verdicts could not be delivered.
    """
    notifier = SystemdNotifier()
    use_one_blas_thread()
    topics = station_topics(settings)
    last = last_recipe(settings)
    first = choose_first(settings, last.read())
    recipes = open_recipes(settings, first, last)
    with contextlib.ExitStack() as resources:
        resources.callback(recipes.close)
        source = open_source(settings.source, functools.partial(_most_pixels, recipes))
        resources.callback(source.close)
        statistics = Statistics()
        delivery = resources.enter_context(open_delivery(settings, topics, statistics))
        parts = _Parts(settings, topics, recipes, first, source, delivery, statistics)
        line, threads = _wire(parts), Threads(stop)
        supervisor = _make_supervisor(parts, line, threads)
        _start(line, threads, parts)
        notifier.notify("READY=1")
        log.info("inspecting", extra={"fields": {"station": topics.base, **_identity(settings, recipes)}})
        supervisor.run(stop, notifier, lambda: _reload(recipes, reload))
        notifier.notify("STOPPING=1")
        _stop(line, threads, supervisor, parts)


@dataclass(frozen=True, slots=True, eq=False)
class _Parts:
    """What was opened for one station."""

    settings: Settings
    topics: StationTopics
    recipes: Recipes
    first: FirstRecipe
    source: Source
    delivery: Delivery
    statistics: Statistics


@dataclass(frozen=True, slots=True, eq=False)
class _Line:
    """The stages of one station and what joins them."""

    jobs: Buffer[Job]
    verdicts: Buffer[Verdict]
    health: Buffer[Message]
    drain: Drain
    gate: Gate
    answers: Answers
    control: Control
    capture: Capture
    inspection: Inspection
    publishing: Publishing


def _wire(parts: _Parts) -> _Line:
    """Every stage, with what the one before hands to it; nothing runs yet."""
    settings, recipes, source, delivery = parts.settings, parts.recipes, parts.source, parts.delivery
    when_full = WhenFull.DROP_OLDEST if source.live else WhenFull.BLOCK
    drain = Drain(settings.service.drain_timeout_s)
    jobs: Buffer[Job] = Buffer(_room_for_frames(settings), when_full)
    verdicts: Buffer[Verdict] = Buffer(settings.service.verdict_buffer, when_full)
    health: Buffer[Message] = Buffer(1, WhenFull.DROP_OLDEST)
    gate = Gate(settings.inspection, live=source.live)
    answers = Answers(verdicts, parts.statistics, drain)
    control = Control(settings, parts.topics.base, gate, recipes, give=answers.give, reply=delivery.reply)

    def all_judged() -> None:
        control.end()
        verdicts.close()
        drain.begin()

    return _Line(
        jobs=jobs,
        verdicts=verdicts,
        health=health,
        drain=drain,
        gate=gate,
        answers=answers,
        control=control,
        capture=Capture(source, gate, recipes, jobs, drain),
        inspection=Inspection(jobs, gate, answers, len(recipes.active.inspectors), all_judged),
        publishing=Publishing(verdicts, health, delivery, drain),
    )


def _make_supervisor(parts: _Parts, line: _Line, threads: Threads) -> Supervisor:
    alarms = Alarms(parts.settings.alarms)
    return Supervisor(
        parts.settings.service,
        threads,
        parts.delivery,
        alarms,
        conditions=functools.partial(_conditions, parts),
        collect=functools.partial(_collect, parts, line, alarms, time.monotonic()),
        publish=functools.partial(_publish_health, parts, line),
    )


def _start(line: _Line, threads: Threads, parts: _Parts) -> None:
    """Start the threads, the last stage first."""
    takes_commands = parts.settings.commands.enabled
    threads.start("publish", line.publishing.run, ends_service=True)
    if takes_commands:
        threads.start("commands", line.control.run)
    count = line.inspection.count
    for place in range(count):
        name = "inspect" if count == 1 else f"inspect-{place + 1}"
        threads.start(name, functools.partial(line.inspection.run, place=place))
    threads.start("capture", line.capture.run)
    if takes_commands:
        parts.delivery.listen(line.control.topic_filter, line.control.request)


def _stop(line: _Line, threads: Threads, supervisor: Supervisor, parts: _Parts) -> None:
    """Stop capturing; answer, store and publish what was captured, within the drain time-out.

    Raises:
        PatchlineError: a thread failed, or verdicts could be neither delivered nor stored in time.
    """
    line.capture.stop()
    deadline_s = line.drain.begin()
    threads.join(deadline_s, _GRACE_S)
    unanswered = parts.delivery.finish(max(0.0, deadline_s - time.monotonic()))
    left = line.capture.lost + line.answers.lost + line.publishing.lost + len(line.verdicts) + len(line.jobs)
    supervisor.report("stopped")
    threads.raise_failure()
    if left or unanswered:
        raise DeliveryError(
            f"within {parts.settings.service.drain_timeout_s:g} s {left} frames were not answered, or their verdicts "
            f"neither delivered nor stored; {unanswered} messages that are not stored were not acknowledged; "
            "is the broker reachable, and does the outbox's disk take anything?"
        )


def _conditions(parts: _Parts) -> Conditions:
    """What alarms are judged by, now."""
    return dataclasses.replace(
        parts.delivery.conditions(),
        source_away=parts.source.state is SourceState.AWAY,
        clock_synchronised=read_clock_state(),
        recipe_left="" if parts.recipes.chosen else parts.first.left,
    )


def _collect(parts: _Parts, line: _Line, alarms: Alarms, started_s: float) -> Values:
    """The statistics, now; those of an interval begin anew."""
    values: Values = {
        **_identity(parts.settings, parts.recipes),
        "time": round(time.time(), 3),
        "uptime_s": round(time.monotonic() - started_s),
        "source": parts.source.state.value,
        **parts.statistics.take(),
        "dropped": line.jobs.discarded + parts.source.dropped,
        "backlog": len(line.verdicts),
        "evicted": line.verdicts.discarded,
        "alarms": ",".join(alarms.active),
        "recipes": ",".join(f"{name}:{state}" for name, state in parts.recipes.states().items()),
    }
    return values | line.gate.report() | line.control.report() | parts.delivery.report() | read_usage()


def _publish_health(parts: _Parts, line: _Line, values: Values) -> None:
    retain = parts.settings.mqtt.retain_health
    line.health.put(health_message(parts.topics, values, retain=retain), 0)
    parts.delivery.publish_health(values, source_present=parts.source.state is not SourceState.AWAY)


def _identity(settings: Settings, recipes: Recipes) -> Values:
    """What inspects."""
    recipe = recipes.active
    inspector = recipe.inspectors[0]
    embedder = inspector.embedder
    return {
        "version": __version__,
        "model": recipe.model,
        "recipe": recipe.name,
        "settings": hashlib.sha256(settings.model_dump_json().encode()).hexdigest()[:12],
        "device": embedder.execution_devices,
        "precision": embedder.execution_precision,
        "workers": len(recipe.inspectors),
        "mode": settings.inspection.mode,
        "search": inspector.search,
    }


def _reload(recipes: Recipes, wanted: threading.Event) -> None:
    if wanted.is_set():
        wanted.clear()
        log.info("the recipe in force is compared with the disk", extra={"fields": {"recipe": recipes.active.name}})
        recipes.reload()


def _room_for_frames(settings: Settings) -> int:
    """With room for every open trigger, those that a live source drops are answered already."""
    triggered = settings.inspection.trigger == "command"
    return max(settings.service.frame_buffer, settings.inspection.max_triggers if triggered else 0)


def _most_pixels(recipes: Recipes) -> int:
    manifest = recipes.active.manifest
    return most_pixels(manifest.frame_width, manifest.frame_height)
