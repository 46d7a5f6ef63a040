"""The running service: capture, inspection and publishing, each in its own thread. The only wiring.

Data flows one way, through two bounded buffers. A frame that cannot be judged is answered with NO_RESULT. When the
source ends or the service is told to stop, capture stops first and what was captured is still answered and published.

Verdicts wait for the broker in memory only: they are lost with the process, and `verdict_buffer` bounds how many wait.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from edge.buffer import Buffer, WhenFull
from edge.bundle import Bundle, read_bundle
from edge.errors import DeliveryError, PatchlineError
from edge.inspector import Inspector, InspectorOptions
from edge.messages import StationTopics, crop_messages, health_message, last_message, verdict_message
from edge.mqtt import MqttPublisher
from edge.pictures import read_mask
from edge.process import default_cache_dir, read_usage
from edge.publish import JsonLinesPublisher, Publisher
from edge.records import Box, Frame, Message, Reason, Verdict
from edge.selftest import run_golden
from edge.settings import PublisherKind, RegionSettings, Settings
from edge.sources import open_source
from edge.sources.base import Source, SourceState
from edge.statistics import Statistics, Values
from edge.supervision import Heartbeat, SystemdNotifier, stalled

_POLL_S = 0.5  # longest wait without a look at whether to stop
_TICK_S = 1.0  # supervision
_CLOSE_S = 5.0  # for saying goodbye to a broker

_Item = TypeVar("_Item")

log = logging.getLogger("patchline.service")


def run_service(settings: Settings, stop: threading.Event) -> None:
    """Inspect until the source ends or `stop` is set; then drain.

    Raises:
        PatchlineError: the bundle, the source or the settings are refused, or verdicts could not be delivered.
    """
    notifier = SystemdNotifier()
    bundle = read_bundle(settings.bundle)
    inspector = Inspector(bundle, inspector_options(settings))
    if settings.inspection.self_test:
        run_golden(inspector, bundle)
    topics = station_topics(settings)
    with contextlib.ExitStack() as resources:
        source = open_source(settings.source)
        resources.callback(source.close)
        publishers = [resources.enter_context(_opened(kind, settings, topics)) for kind in settings.publish]
        line = _Line(
            settings=settings,
            bundle=bundle,
            inspector=inspector,
            source=source,
            publishers=publishers,
            topics=topics,
        )
        line.start(stop)
        notifier.notify("READY=1")
        log.info("inspecting", extra={"fields": {"station": topics.base, **_facts(settings, bundle, inspector)}})
        line.supervise(stop, notifier)
        notifier.notify("STOPPING=1")
        line.stop()


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
    """The three threads and what they share."""

    def __init__(
        self,
        *,
        settings: Settings,
        bundle: Bundle,
        inspector: Inspector,
        source: Source,
        publishers: Sequence[Publisher],
        topics: StationTopics,
    ) -> None:
        when_full = WhenFull.DROP_OLDEST if source.live else WhenFull.BLOCK
        self._settings = settings.service
        self._publish_last = settings.mqtt.publish_last
        self._inspector = inspector
        self._source = source
        self._publishers = publishers
        self._topics = topics
        self._epoch = int(time.time())
        self._facts = _facts(settings, bundle, inspector)
        self._frames: Buffer[Frame] = Buffer(settings.service.frame_buffer, when_full)
        self._verdicts: Buffer[Verdict] = Buffer(settings.service.verdict_buffer, when_full)
        self._health: Buffer[Message] = Buffer(1, WhenFull.DROP_OLDEST)
        self._statistics = Statistics()
        self._started = time.monotonic()
        self._capture_stops = threading.Event()
        self._delivery_ends_at: float | None = None  # monotonic; set when draining begins
        self._undelivered = 0
        self._failure: Exception | None = None
        self._reason = Reason.NONE
        self._heartbeats: dict[str, Heartbeat] = {}
        self._threads: list[threading.Thread] = []

    def start(self, stop: threading.Event) -> None:
        """Start the threads; `stop` is set when the last verdict is published or a thread fails."""
        for name, loop in (("publish", self._publish), ("inspect", self._inspect), ("capture", self._capture)):
            self._heartbeats[name] = Heartbeat()
            thread = threading.Thread(target=self._guard, args=(loop, name, stop), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def supervise(self, stop: threading.Event, notifier: SystemdNotifier) -> None:
        """Feed the watchdog while there is progress, and report statistics, until `stop` is set."""
        silent: tuple[str, ...] = ()
        report_at = time.monotonic() + self._settings.health_interval_s
        while not stop.wait(min(_TICK_S, self._settings.health_interval_s)):
            before, silent = silent, self._without_progress()
            if not silent:
                notifier.notify("WATCHDOG=1")
            if silent != before:
                level, text = (logging.ERROR, "no progress") if silent else (logging.INFO, "progress again")
                log.log(level, text, extra={"fields": {"stalled": ",".join(silent) or "none"}})
            if time.monotonic() >= report_at:
                report_at += self._settings.health_interval_s
                self._report("statistics")

    def stop(self) -> None:
        """Stop capturing; answer and publish what was captured, within the drain time-out.

        Raises:
            PatchlineError: a thread failed, or verdicts could not be delivered in time.
        """
        self._capture_stops.set()
        deadline = self._begin_drain()
        for thread in reversed(self._threads):
            thread.join(max(0.0, deadline - time.monotonic()) + _TICK_S)
        flushed = [publisher.flush(max(0.0, deadline - time.monotonic())) for publisher in self._publishers]
        left = self._undelivered + len(self._verdicts) + len(self._frames)
        self._report("stopped")
        if isinstance(self._failure, PatchlineError):
            raise self._failure
        if self._failure is not None:
            raise PatchlineError(f"a thread ended: {self._failure!r}; the log has the details") from self._failure
        if left or not all(flushed):
            raise DeliveryError(
                f"within {self._settings.drain_timeout_s:g} s {left} frames were not answered or published"
                f"{'' if all(flushed) else ', and not all that was published was acknowledged'}; "
                "is the broker reachable?"
            )

    def _capture(self, heartbeat: Heartbeat) -> None:
        try:
            while not self._capture_stops.is_set() and self._source.state is not SourceState.ENDED:
                frame = self._source.read(_POLL_S)
                heartbeat.beat()
                if frame is not None and not self._hand_over(self._frames, frame, heartbeat):
                    self._undelivered += 1
        finally:
            self._frames.close()

    def _inspect(self, heartbeat: Heartbeat) -> None:
        try:
            while not self._frames.drained:
                frame = self._frames.get(_POLL_S)
                heartbeat.beat()
                if frame is None:
                    continue
                verdict = self._answer(frame)
                self._statistics.judged(verdict)
                if not self._hand_over(self._verdicts, verdict, heartbeat):
                    self._undelivered += 1
        finally:
            self._verdicts.close()
            self._begin_drain()

    def _answer(self, frame: Frame) -> Verdict:
        try:
            verdict = self._inspector.inspect(frame).verdict
        except Exception as error:  # noqa: BLE001 — whatever went wrong, the frame gets its answer, and it is not PASS
            detail = f"{type(error).__name__}: {error}"
            verdict = self._inspector.no_result(frame.identity, Reason.INTERNAL_ERROR, detail)
        self._log_no_result(verdict)
        return verdict

    def _publish(self, heartbeat: Heartbeat) -> None:
        seq = 0
        while not self._verdicts.drained:
            verdict = self._verdicts.get(_POLL_S)
            heartbeat.beat()
            if verdict is not None:
                seq += 1
                if self._deliver(verdict, seq, heartbeat):
                    self._statistics.delivered(verdict)
                else:
                    self._undelivered += 1
            health = self._health.get(0)
            if health is not None:
                self._send(health)

    def _deliver(self, verdict: Verdict, seq: int, heartbeat: Heartbeat) -> bool:
        message = verdict_message(self._topics, verdict, self._epoch, seq)
        for part in (message, *crop_messages(self._topics, verdict, self._epoch, seq)):
            for publisher in self._publishers:
                while not publisher.send(part, _POLL_S):
                    heartbeat.beat()
                    if self._out_of_time():
                        return False
        if self._publish_last:
            self._send(last_message(self._topics, message))
        return True

    def _send(self, message: Message) -> None:
        """QoS 0: gone if nobody takes it now."""
        for publisher in self._publishers:
            publisher.send(message, 0)

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
        dead = tuple("mqtt" for publisher in self._publishers if not publisher.alive)
        return stalled(running, self._settings.stall_timeout_s) + dead

    def _report(self, title: str) -> None:
        values = self._collect()
        log.info(title, extra={"fields": values})
        self._health.put(health_message(self._topics, values), 0)

    def _collect(self) -> Values:
        values: Values = {
            **self._facts,
            "uptime_s": round(time.monotonic() - self._started),
            "source": self._source.state.value,
            **self._statistics.take(),
            "dropped": self._frames.discarded + self._source.dropped,
            "backlog": len(self._verdicts),
            "evicted": self._verdicts.discarded,
        }
        for publisher in self._publishers:
            values |= publisher.report()
        return values | read_usage()

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


def _facts(settings: Settings, bundle: Bundle, inspector: Inspector) -> Values:
    return {
        "model": bundle.model,
        "recipe": bundle.manifest.name,
        "settings": hashlib.sha256(settings.model_dump_json().encode()).hexdigest()[:12],
        "device": inspector.embedder.execution_devices,
        "precision": inspector.embedder.execution_precision,
    }


def _region(region: RegionSettings | None) -> Box | None:
    return None if region is None else Box(region.x, region.y, region.width, region.height)


@contextlib.contextmanager
def _opened(kind: PublisherKind, settings: Settings, topics: StationTopics) -> Iterator[Publisher]:
    publisher: Publisher
    match kind:
        case PublisherKind.JSON_LINES:
            publisher = JsonLinesPublisher(sys.stdout.buffer)
        case PublisherKind.MQTT:
            publisher = MqttPublisher(settings.mqtt, topics)
    try:
        yield publisher
    finally:
        publisher.close(_CLOSE_S)
