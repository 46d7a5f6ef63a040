"""Latency percentiles of every stage, throughput, and what they were measured on.

Both are measured with the code that runs on the line: `Inspector`, and `Workers` with a thread for each of its team.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from edge.bundle.bundle import Bundle
from edge.engine.threads import use_one_blas_thread
from edge.errors import PatchlineError, SourceError
from edge.health.usage import cpu_model, peak_memory_mb
from edge.inspection.inspector import Inspector
from edge.inspection.opening import open_inspector
from edge.inspection.options import InspectorOptions
from edge.line.buffer import Buffer, WhenFull
from edge.line.workers import Workers
from edge.records import STAGES, Frame, FrameIdentity, Outcome, UInt8Array, Verdict
from edge.terminal import phase, say

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}
# overhead: what is neither embed nor search
MEASURED = (*STAGES, "overhead", "total")
_PATIENCE_S = 60.0  # longest time for one frame before the measurement gives up


@dataclass(frozen=True, slots=True)
class BenchReport:
    """Everything that was measured. `latency_ms` is stage → percentile → milliseconds."""

    latency_ms: dict[str, dict[str, float]]
    frames: int
    throughput_fps: float
    throughput_requests: int  # frames inspected at the same time
    peak_memory_mb: float
    environment: dict[str, str | int | float]

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "latency_ms": self.latency_ms,
            "frames": self.frames,
            "throughput_fps": self.throughput_fps,
            "throughput_requests": self.throughput_requests,
            "peak_memory_mb": self.peak_memory_mb,
            "environment": self.environment,
        }


def run_bench(
    bundle: Bundle, options: InspectorOptions, pictures: Sequence[UInt8Array], *, warm_up: int, frames: int
) -> BenchReport:
    """Measure one frame at a time, then several at a time, on `pictures` in turn.

    Raises:
        SelfTestError: this device does not reproduce the golden scores.
        SourceError: a picture cannot be judged, so that nothing would be measured.
    """
    use_one_blas_thread()
    inspector = open_inspector(bundle, dataclasses.replace(options, mode="latency"), note=say, warn=say).inspector
    latency = _measure_latency(inspector, pictures, warm_up, frames)
    environment = describe_environment(bundle, inspector)
    del inspector  # its bank and its buffers, before there are others
    options = dataclasses.replace(options, mode="throughput")
    team = open_inspector(bundle, options, note=lambda _: None, warn=say).inspector.team()
    fps = _measure_throughput(team, pictures, frames)
    return BenchReport(
        latency_ms=latency,
        frames=frames,
        throughput_fps=round(fps, 2),
        throughput_requests=len(team),
        peak_memory_mb=round(peak_memory_mb(), 1),
        environment=environment,
    )


def _measure_latency(
    inspector: Inspector, pictures: Sequence[UInt8Array], warm_up: int, frames: int
) -> dict[str, dict[str, float]]:
    times: dict[str, list[float]] = {stage: [] for stage in MEASURED}
    with phase("one frame at a time", warm_up + frames) as done:
        for number in range(warm_up + frames):
            started = time.perf_counter()
            verdict = inspector.inspect(_frame(pictures, number)).verdict
            total_ms = 1e3 * (time.perf_counter() - started)
            if verdict.outcome is Outcome.NO_RESULT:
                raise SourceError(f"picture {number % len(pictures) + 1} cannot be judged: {verdict.detail}")
            done(number + 1)
            if number < warm_up:
                continue
            stages = verdict.stages
            overhead_ms = total_ms - stages.embed_ms - stages.search_ms
            measured = stages.by_stage() | {"overhead": overhead_ms, "total": total_ms}
            for stage, value in measured.items():
                times[stage].append(value)
    return {
        stage: {name: round(float(np.percentile(values, q)), 3) for name, q in PERCENTILES.items()}
        for stage, values in times.items()
    }


def _measure_throughput(team: Sequence[Inspector], pictures: Sequence[UInt8Array], frames: int) -> float:
    """Frames per second of a whole team, as in the service."""
    waiting: Buffer[Frame] = Buffer(len(team), WhenFull.BLOCK)
    finished = threading.Event()
    workers = Workers(waiting, len(team), finished.set)
    delivered: list[Verdict] = []
    with phase(f"{len(team)} at a time", frames) as done:
        started = time.perf_counter()
        for inspector in team:
            threading.Thread(target=_work, args=(workers, inspector, delivered, done), daemon=True).start()
        for number in range(frames):
            waiting.put(_frame(pictures, number), _PATIENCE_S)
        waiting.close()
        finished.wait(_PATIENCE_S)
        elapsed = time.perf_counter() - started
    if len(delivered) < frames:
        raise PatchlineError(f"only {len(delivered)} of {frames} frames were answered; the log above says why")
    return frames / elapsed


def _work(workers: Workers[Frame], inspector: Inspector, delivered: list[Verdict], done: Callable[[int], None]) -> None:
    def deliver(verdict: Verdict) -> None:
        delivered.append(verdict)
        done(len(delivered))

    workers.work(inspector.answer, deliver, lambda: None)


def _frame(pictures: Sequence[UInt8Array], number: int) -> Frame:
    return Frame(FrameIdentity(number, time.time(), time.monotonic()), pictures[number % len(pictures)])


def describe_environment(bundle: Bundle, inspector: Inspector) -> dict[str, str | int | float]:
    """What the figures were measured on."""
    manifest = bundle.manifest
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count() or 0,
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "device": inspector.embedder.execution_devices,
        "precision": f"{manifest.ir.precision} IR, {inspector.embedder.execution_precision} arithmetic",
        "embed_threads": inspector.embedder.threads,
        "search": inspector.search,
        "search_threads": inspector.bank.threads,
        "backbone": manifest.ir.backbone,
        "input": f"{manifest.ir.geometry.input_width}×{manifest.ir.geometry.input_height}",
        "frame": f"{manifest.frame_width}×{manifest.frame_height}",
        "patches": manifest.ir.grid[0] * manifest.ir.grid[1],
        "bank": f"{manifest.bank.vectors}×{manifest.bank.dimension}",
        "bundle": bundle.model,
        "openvino": version("openvino"),
        "faiss": version("faiss-cpu"),
        "patchline": version("patchline"),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def print_report(report: BenchReport, console: Console) -> None:
    """A table for people."""
    table = Table(title="Latency per frame, ms")
    table.add_column("stage")
    for name in PERCENTILES:
        table.add_column(name, justify="right")
    for stage, values in report.latency_ms.items():
        table.add_row(stage, *(f"{values[name]:.2f}" for name in PERCENTILES), style="bold" if stage == "total" else "")
    console.print(table)
    console.print(
        f"throughput {report.throughput_fps:.1f} frames/s with {report.throughput_requests} at a time; "
        f"peak memory {report.peak_memory_mb:.0f} MB; {report.frames} frames",
        highlight=False,
    )
    facts = Table(show_header=False, box=None)
    for key, value in report.environment.items():
        facts.add_row(key, str(value))
    console.print(facts)
