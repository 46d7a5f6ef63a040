"""The running service: capture, inspection and publishing, each in its own thread. The only wiring.

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
from collections.abc import Callable, Iterator
from typing import TypeVar

from edge.delivery.delivery import Delivery, open_delivery
from edge.engine.threads import use_one_blas_thread
from edge.errors import DeliveryError, PatchlineError
from edge.files.pictures import read_mask
from edge.files.places import default_cache_dir
from edge.health.alarms import Alarms
from edge.health.clock import read_clock_state
from edge.health.statistics import Statistics
from edge.health.supervision import Heartbeat, SystemdNotifier, stalled
from edge.health.usage import read_usage
from edge.inspection.options import InspectorOptions
from edge.line.buffer import Buffer, WhenFull
from edge.line.control import Control
from edge.line.gate import Gate
from edge.line.recipes import Recipes, open_recipe
from edge.line.workers import Workers
from edge.protocol.messages import health_message
from edge.protocol.topics import StationTopics
from edge.records import Box, Frame, FrameIdentity, Message, Reason, Values, Verdict
from edge.settings.sections import RegionSettings
from edge.settings.tree import Settings
from edge.sources import open_source
from edge.sources.base import Source, SourceState, most_pixels

_POLL_S = 0.5  # longest wait without a look at whether to stop
_TICK_S = 1.0  # supervision

_Item = TypeVar("_Item")

log = logging.getLogger("patchline.service")


def run_service(settings: Settings, stop: threading.Event) -> None:
    """Inspect until the source ends or `stop` is set; then drain.

    Raises:
        PatchlineError: the bundle, the source or the settings are refused, or verdicts could not be delivered.
    """
    notifier = SystemdNotifier()
    use_one_blas_thread()
    recipes = open_recipes(settings)
    topics = station_topics(settings)
    with contextlib.ExitStack() as resources:
        resources.callback(recipes.close)
        source = open_source(settings.source, functools.partial(_most_pixels, recipes))
        resources.callback(source.close)
        statistics = Statistics()
        delivery = resources.enter_context(open_delivery(settings, topics, statistics))
        line = _Line(
            settings=settings,
            recipes=recipes,
            source=source,
            delivery=delivery,
            statistics=statistics,
            topics=topics,
        )
        line.start(stop)
        notifier.notify("READY=1")
        log.info("inspecting", extra={"fields": {"station": topics.base, **_facts(settings, recipes)}})
        line.supervise(stop, notifier)
        notifier.notify("STOPPING=1")
        line.stop()


def open_recipes(settings: Settings) -> Recipes:
    """The bundles that the settings name, the first of them ready to inspect.

    Raises:
        PatchlineError: bundle, device, region or mask are refused.
    """
    inspection, options = settings.inspection, inspector_options(settings)
    own_name = next((name for name, directory in settings.recipes.items() if directory == settings.bundle), "")
    active = open_recipe(settings.bundle, options, self_test=inspection.self_test, name=own_name)
    others = dataclasses.replace(options, workers=len(active.inspectors))
    return Recipes(
        active,
        frozenset(settings.recipes),
        lambda name: open_recipe(
            settings.recipes.get(name, settings.bundle), others, self_test=inspection.self_test, name=name
        ),
        inspection.recipes_loaded,
    )


def inspector_options(settings: Settings) -> InspectorOptions:
    """The settings as the inspector takes them.

    Raises:
        SourceError: the mask cannot be read.
    """
    inspection, defects = settings.inspection, settings.defects
    return InspectorOptions(
        device=inspection.device,
        precision=inspection.precision,
        search=inspection.search,
        mode=inspection.mode,
        workers=inspection.workers,
        embed_threads=inspection.embed_threads,
        search_threads=inspection.search_threads,
        cache_dir=inspection.cache_dir or default_cache_dir(),
        region=_region(inspection.region),
        mask=None if inspection.mask is None else read_mask(inspection.mask),
        threshold=inspection.threshold,
        minimum_area=defects.minimum_area,
        max_crops=defects.max_crops,
        crop_margin=defects.crop_margin,
        crop_max_bytes=defects.crop_max_bytes,
    )


def station_topics(settings: Settings) -> StationTopics:
    """The topics of this station."""
    station = settings.station
    return StationTopics(root=station.root, site=station.site, line=station.line, name=station.name)


class _Line:
    """The threads and what they share."""

    def __init__(
        self,
        *,
        settings: Settings,
        recipes: Recipes,
        source: Source,
        delivery: Delivery,
        statistics: Statistics,
        topics: StationTopics,
    ) -> None:
        when_full = WhenFull.DROP_OLDEST if source.live else WhenFull.BLOCK
        self._settings = settings.service
        self._recipes = recipes
        self._source = source
        self._delivery = delivery
        self._alarms = Alarms(settings.alarms)
        self._topics = topics
        self._facts = functools.partial(_facts, settings, recipes)
        self._gate = Gate(settings.inspection, live=source.live)
        self._control = Control(
            settings,
            topics.base,
            self._gate,
            recipes,
            no_result=self._no_result,
            deliver=self._keep,
            reply=delivery.reply,
        )
        self._takes_commands = settings.commands.enabled
        self._frames: Buffer[Frame] = Buffer(_room_for_frames(settings), when_full)
        self._verdicts: Buffer[Verdict] = Buffer(settings.service.verdict_buffer, when_full)
        self._workers = Workers(self._frames, len(recipes.active.inspectors), self._all_judged)
        self._health: Buffer[Message] = Buffer(1, WhenFull.DROP_OLDEST)
        self._statistics = statistics
        self._started = time.monotonic()
        self._capture_stops = threading.Event()
        self._delivery_ends_at: float | None = None  # monotonic; set when draining begins
        self._undelivered = 0
        self._failure: Exception | None = None
        self._reason = Reason.NONE
        self._heartbeats: dict[str, Heartbeat] = {}
        self._threads: list[threading.Thread] = []

    def start(self, stop: threading.Event) -> None:
        """Start the threads; `stop` is set when the last verdict is delivered or a thread fails."""
        commands = [("commands", self._control.run)] if self._takes_commands else []
        for name, loop in (("publish", self._publish), *commands, *self._inspecting(), ("capture", self._capture)):
            self._heartbeats[name] = Heartbeat()
            thread = threading.Thread(target=self._guard, args=(loop, name, stop), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
        if self._takes_commands:
            self._delivery.listen(self._control.topic_filter, self._control.request)

    def _inspecting(self) -> Iterator[tuple[str, Callable[[Heartbeat], None]]]:
        """Name and loop of every inspecting thread."""
        count = len(self._recipes.active.inspectors)
        for place in range(count):
            name = "inspect" if count == 1 else f"inspect-{place + 1}"
            yield name, functools.partial(self._inspect, place=place)

    def supervise(self, stop: threading.Event, notifier: SystemdNotifier) -> None:
        """Feed the watchdog while there is progress, raise alarms, and report statistics, until `stop` is set."""
        silent: tuple[str, ...] = ()
        self._look_for_alarms()
        report_at = time.monotonic() + self._settings.health_interval_s
        while not stop.wait(min(_TICK_S, self._settings.health_interval_s)):
            before, silent = silent, self._without_progress()
            if not silent:
                notifier.notify("WATCHDOG=1")
            if silent != before:
                level, text = (logging.ERROR, "no progress") if silent else (logging.INFO, "progress again")
                log.log(level, text, extra={"fields": {"stalled": ",".join(silent) or "none"}})
            self._look_for_alarms()
            if time.monotonic() >= report_at:
                report_at += self._settings.health_interval_s
                self._report("statistics")

    def stop(self) -> None:
        """Stop capturing; answer, store and publish what was captured, within the drain time-out.

        Raises:
            PatchlineError: a thread failed, or verdicts could be neither delivered nor stored in time.
        """
        self._capture_stops.set()
        deadline = self._begin_drain()
        for thread in reversed(self._threads):
            thread.join(max(0.0, deadline - time.monotonic()) + _TICK_S)
        unanswered = self._delivery.finish(max(0.0, deadline - time.monotonic()))
        left = self._undelivered + len(self._verdicts) + len(self._frames)
        self._report("stopped")
        if isinstance(self._failure, PatchlineError):
            raise self._failure
        if self._failure is not None:
            raise PatchlineError(f"a thread ended: {self._failure!r}; the log has the details") from self._failure
        if left or unanswered:
            raise DeliveryError(
                f"within {self._settings.drain_timeout_s:g} s {left} frames were not answered, or their verdicts "
                f"neither delivered nor stored; {unanswered} messages that are not stored were not acknowledged; "
                "is the broker reachable, and does the outbox's disk take anything?"
            )

    def _capture(self, heartbeat: Heartbeat) -> None:
        try:
            while not self._capture_stops.is_set() and self._source.state is not SourceState.ENDED:
                captured = self._source.read(_POLL_S) if self._gate.wants_frame(_POLL_S) else None
                heartbeat.beat()
                frame = None if captured is None else self._gate.admit(captured)
                if frame is not None and not self._hand_over(self._frames, frame, heartbeat):
                    self._undelivered += 1
        finally:
            self._gate.end_capture()
            self._frames.close()

    def _inspect(self, heartbeat: Heartbeat, place: int) -> None:
        def answer(frame: Frame) -> Verdict:
            inspector = self._recipes.active.inspectors[place]  # of this frame: the next may have another recipe
            verdict = None if self._gate.why_late(frame.identity) else inspector.answer(frame)
            late = self._gate.why_late(frame.identity)  # the deadline may come while the frame is judged
            if verdict is None or late:
                return inspector.no_result(frame.identity, Reason.DEADLINE_MISSED, late)
            return verdict

        self._workers.work(answer, lambda verdict: self._judged(verdict, heartbeat), heartbeat.beat)

    def _judged(self, verdict: Verdict, heartbeat: Heartbeat) -> None:
        if self._gate.claim(verdict.identity):
            self._keep(verdict, heartbeat)

    def _keep(self, verdict: Verdict, heartbeat: Heartbeat) -> None:
        """The answer to a frame or trigger: there is no other one."""
        self._log_no_result(verdict)
        self._statistics.judged(verdict)
        if not self._hand_over(self._verdicts, verdict, heartbeat):
            self._undelivered += 1

    def _no_result(self, identity: FrameIdentity, reason: Reason, detail: str) -> Verdict:
        return self._recipes.active.inspectors[0].no_result(identity, reason, detail)

    def _all_judged(self) -> None:
        self._control.end()
        self._verdicts.close()
        self._begin_drain()

    def _publish(self, heartbeat: Heartbeat) -> None:
        while not self._verdicts.drained:
            verdict = self._verdicts.get(_POLL_S)
            heartbeat.beat()
            if verdict is not None and not self._deliver(verdict, heartbeat):
                self._undelivered += 1
            health = self._health.get(0)
            if health is not None:
                self._delivery.send(health)

    def _deliver(self, verdict: Verdict, heartbeat: Heartbeat) -> bool:
        lost = self._verdicts.discarded
        while not self._delivery.deliver(verdict, lost):
            heartbeat.beat()
            if self._out_of_time():
                return False
        return True

    def _hand_over(self, buffer: Buffer[_Item], item: _Item, heartbeat: Heartbeat) -> bool:
        while not buffer.put(item, _POLL_S):
            heartbeat.beat()
            if self._out_of_time():
                return False
        return True

    def _begin_drain(self) -> float:
        if self._delivery_ends_at is None:
            self._delivery_ends_at = time.monotonic() + self._settings.drain_timeout_s
        return self._delivery_ends_at

    def _out_of_time(self) -> bool:
        return self._delivery_ends_at is not None and time.monotonic() > self._delivery_ends_at

    def _guard(self, loop: Callable[[Heartbeat], None], name: str, stop: threading.Event) -> None:
        try:
            loop(self._heartbeats[name])
        except Exception as error:  # the top of a thread: report, and stop the service
            self._failure = self._failure or error
            expected = isinstance(error, PatchlineError)
            log.log(logging.ERROR, "thread ended", exc_info=not expected, extra={"fields": {"thread": name}})
            stop.set()
        if name == "publish":
            stop.set()

    def _without_progress(self) -> tuple[str, ...]:
        running = {thread.name: self._heartbeats[thread.name] for thread in self._threads if thread.is_alive()}
        limit_s = self._settings.stall_timeout_s
        return stalled(running, limit_s) + self._delivery.without_progress(limit_s)

    def _look_for_alarms(self) -> None:
        facts = dataclasses.replace(
            self._delivery.conditions(),
            source_away=self._source.state is SourceState.AWAY,
            clock_synchronised=read_clock_state(),
        )
        for change in self._alarms.look(facts, time.monotonic(), time.time()):
            self._delivery.announce(change)
        self._delivery.say_what_is_unsaid()

    def _report(self, title: str) -> None:
        values = self._collect()
        log.info(title, extra={"fields": values})
        self._health.put(health_message(self._topics, values), 0)
        self._delivery.tell_hosts(values, source_present=self._source.state is not SourceState.AWAY)

    def _collect(self) -> Values:
        values: Values = {
            **self._facts(),
            "uptime_s": round(time.monotonic() - self._started),
            "source": self._source.state.value,
            **self._statistics.take(),
            "dropped": self._frames.discarded + self._source.dropped,
            "backlog": len(self._verdicts),
            "evicted": self._verdicts.discarded,
            "alarms": ",".join(self._alarms.active),
            "recipes": ",".join(f"{name}:{state}" for name, state in self._recipes.states().items()),
        }
        return values | self._gate.report() | self._control.report() | self._delivery.report() | read_usage()

    def _log_no_result(self, verdict: Verdict) -> None:
        """One line when frames begin, and when they cease, to go unanswered for a reason."""
        if verdict.reason is self._reason:
            return
        self._reason = verdict.reason
        fields = {"reason": verdict.reason.value or "none", "frame": verdict.identity.sequence}
        if verdict.reason is Reason.NONE:
            log.info("frames are judged again", extra={"fields": fields})
        else:
            fields |= {"name": verdict.identity.name, "detail": verdict.detail}
            log.warning("frames cannot be judged", extra={"fields": fields})


def _facts(settings: Settings, recipes: Recipes) -> Values:
    inspector = recipes.active.inspectors[0]
    return {
        "model": inspector.model,
        "recipe": recipes.active.name,
        "settings": hashlib.sha256(settings.model_dump_json().encode()).hexdigest()[:12],
        "device": inspector.embedder.execution_devices,
        "precision": inspector.embedder.execution_precision,
    }


def _room_for_frames(settings: Settings) -> int:
    """With room for every open trigger, those that a live source drops are answered already."""
    triggered = settings.inspection.trigger == "command"
    return max(settings.service.frame_buffer, settings.inspection.max_triggers if triggered else 0)


def _region(region: RegionSettings | None) -> Box | None:
    return None if region is None else Box(region.x, region.y, region.width, region.height)


def _most_pixels(recipes: Recipes) -> int:
    manifest = recipes.active.manifest
    return most_pixels(manifest.frame_width, manifest.frame_height)
