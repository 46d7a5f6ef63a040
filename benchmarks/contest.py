"""Variants of the same work, each in its own process, taking turns: what disturbs the machine disturbs all."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np

from benchmarks.materials import ROOT
from benchmarks.records import Latency, VariantResult
from benchmarks.worker import Kind, Spec

COUNTED = 4  # frames of a turn
SCORED = 8  # pictures of either kind whose scores are compared
# Work before them. After a pause caches are filled again and the matrix units come back to speed; that takes time, not
# frames: some 50 ms, in which one variant inspects one frame and another five.
WARM_S = 0.08
STAGES = ("preprocess_ms", "embed_ms", "search_ms", "score_ms")


@dataclass(frozen=True, slots=True)
class Variant:
    """One contestant."""

    name: str
    title: str
    spec: Spec
    arithmetic: str  # whose matrix peak the network is compared with
    every: int = 1  # takes part in every so-many-th round: the slow ones would take most of the time


@dataclass(frozen=True, slots=True, eq=False)
class Worker:
    """A worker that has answered its first frame."""

    process: subprocess.Popen[str]
    start_s: float

    @classmethod
    def start(cls, spec: Spec) -> Self:
        """Start one and wait for its first verdict."""
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", json.dumps(asdict(spec))],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        worker = cls(process, 0.0)
        worker.read()
        return cls(process, time.perf_counter() - started)

    def ask(self, **request: Any) -> dict[str, Any]:
        """The answer to one request."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self.read()

    def read(self) -> dict[str, Any]:
        """The next line.

        Raises:
            RuntimeError: the worker has ended; what it said is on standard error.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.close()
            raise RuntimeError(f"a worker ended with code {self.process.returncode}: see standard error above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End it, and wait."""
        self.process.communicate()


@dataclass(slots=True)
class Samples:
    """What one variant was timed at."""

    starts_s: list[float] = field(default_factory=list)
    passes: list[tuple[int, float]] = field(default_factory=list)  # (round, ms)
    fails: list[tuple[int, float]] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)  # ms of passes, the first frames of their turns
    stages: list[dict[str, float]] = field(default_factory=list)  # of passes, with their total
    peak_mb: float = 0.0
    fps: list[float] = field(default_factory=list)  # several in flight
    in_flight: int = 0
    scores: list[float] = field(default_factory=list)  # of the same pictures in every variant


def compete(
    variants: Sequence[Variant],
    *,
    rounds: int,
    starts: int,
    throughput_s: float,
    between: Callable[[int], None] = lambda _: None,
) -> dict[str, Samples]:
    """Start, time frame by frame in turns, and time several frames in flight.

    Args:
        variants: at least one.
        rounds: turns of each kind of frame that a variant with `every` = 1 gets.
        starts: of each; the first one may have to fill the cache of compiled models.
        throughput_s: about how long each runs with several frames in flight.
        between: called after every round with its number, while all variants stand still.
    """
    samples = {variant.name: Samples() for variant in variants}
    for _ in range(starts - 1):
        for variant in variants:
            worker = Worker.start(variant.spec)
            samples[variant.name].starts_s.append(worker.start_s)
            worker.close()
    with _workers(variants, samples) as workers:
        for name, worker in workers.items():
            samples[name].scores = worker.ask(do="scores", count=SCORED)["scores"]
        for number in range(rounds):
            for variant in _order(variants, number):
                for kind in ("good", "defective"):
                    _take_turn(workers[variant.name], variant, samples[variant.name], number, kind)
            between(number)
        for name, worker in workers.items():
            samples[name].peak_mb = worker.ask(do="memory")["peak_mb"]
        for order in (variants, variants[::-1]):
            for variant in order:
                _measure_in_flight(workers[variant.name], samples[variant.name], throughput_s / 2)
    return samples


@contextmanager
def _workers(variants: Sequence[Variant], samples: Mapping[str, Samples]) -> Iterator[dict[str, Worker]]:
    with ExitStack() as running:
        workers = {}
        for variant in variants:
            worker = Worker.start(variant.spec)
            running.callback(worker.close)
            samples[variant.name].starts_s.append(worker.start_s)
            workers[variant.name] = worker
        yield workers


def _order(variants: Sequence[Variant], number: int) -> list[Variant]:
    """Who takes part in this round: forwards and backwards in turn, so that nobody always follows the same one."""
    taking_part = [variant for variant in variants if number % variant.every == 0]
    return taking_part if number % 2 == 0 else taking_part[::-1]


def _take_turn(worker: Worker, variant: Variant, samples: Samples, number: int, kind: Kind) -> None:
    def failed(timed: Mapping[str, Any]) -> bool:
        # The graph says nothing of pass or fail: what it is compared with are frames of the same kind.
        return kind == "defective" if variant.spec.engine in {"graph", "anomalib"} else bool(timed["failed"])

    turn = worker.ask(do="inspect", kind=kind, count=COUNTED, warm_s=WARM_S)
    if not failed(turn["first"]):
        samples.firsts.append(turn["first"]["ms"])
    for timed in turn["timed"]:
        (samples.fails if failed(timed) else samples.passes).append((number, timed["ms"]))
        if timed["stages"] and not failed(timed):
            samples.stages.append({**timed["stages"], "total_ms": timed["ms"]})


def _measure_in_flight(worker: Worker, samples: Samples, seconds: float) -> None:
    measured = worker.ask(do="throughput", kind="good", seconds=seconds)
    samples.fps.append(measured["fps"])
    samples.in_flight = measured["in_flight"]


def conclude(variant: Variant, samples: Samples) -> VariantResult:
    """The result, without its share of the machine's limits."""
    stages = {stage: [entry[stage] for entry in samples.stages] for stage in (*STAGES, "total_ms")}
    overhead = [
        total - embed - search
        for total, embed, search in zip(stages["total_ms"], stages["embed_ms"], stages["search_ms"], strict=True)
    ]
    return VariantResult(
        name=variant.name,
        title=variant.title,
        passes=Latency.of(samples.passes),
        fails=Latency.of(samples.fails) if samples.fails else None,
        after_pause_p50_ms=round(float(np.median(samples.firsts)), 3) if samples.firsts else None,
        stages_p50_ms={stage: round(float(np.median(stages[stage])), 3) for stage in STAGES if stages[stage]},
        overhead_p99_ms=round(float(np.percentile(overhead, 99)), 3) if overhead else None,
        one_at_a_time_fps=round(1e3 * len(samples.passes) / sum(ms for _, ms in samples.passes), 2),
        in_flight_fps=round(float(np.mean(samples.fps)), 2),
        in_flight=samples.in_flight,
        start_s=tuple(round(seconds, 3) for seconds in samples.starts_s),
        peak_memory_mb=round(samples.peak_mb, 1),
        network_share=None,
        arithmetic=variant.arithmetic,
    )
