"""Latency percentiles of every stage, throughput, and what they were measured on."""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import openvino as ov
from rich.console import Console
from rich.table import Table

from edge.bundle import Bundle
from edge.inspector import Inspector, InspectorOptions
from edge.preprocess import prepare
from edge.records import Frame, FrameIdentity, UInt8Array
from edge.terminal import phase

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}
STAGES = ("preprocess", "embed", "search", "score", "total")


@dataclass(frozen=True, slots=True)
class BenchReport:
    """Everything that was measured. `latency_ms` is stage → percentile → milliseconds."""

    latency_ms: dict[str, dict[str, float]]
    frames: int
    throughput_fps: float
    throughput_requests: int
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
    """Measure one frame at a time, then several in flight, on `pictures` in turn."""
    inspector = Inspector(bundle, options)
    latency = _measure_latency(inspector, pictures, warm_up, frames)
    requests, fps = _measure_throughput(inspector, pictures, frames)
    return BenchReport(
        latency_ms=latency,
        frames=frames,
        throughput_fps=round(fps, 2),
        throughput_requests=requests,
        peak_memory_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        environment=describe_environment(bundle, inspector),
    )


def _measure_latency(
    inspector: Inspector, pictures: Sequence[UInt8Array], warm_up: int, frames: int
) -> dict[str, dict[str, float]]:
    times: dict[str, list[float]] = {stage: [] for stage in STAGES}
    with phase("one frame at a time", warm_up + frames) as done:
        for number in range(warm_up + frames):
            started = time.perf_counter()
            identity = FrameIdentity(number, time.time(), time.monotonic())
            verdict = inspector.inspect(Frame(identity, pictures[number % len(pictures)])).verdict
            total_ms = 1e3 * (time.perf_counter() - started)
            done(number + 1)
            if number < warm_up:
                continue
            stages = verdict.stages
            measured = (stages.preprocess_ms, stages.embed_ms, stages.search_ms, stages.score_ms, total_ms)
            for stage, value in zip(STAGES, measured, strict=True):
                times[stage].append(value)
    return {
        stage: {name: round(float(np.percentile(values, q)), 3) for name, q in PERCENTILES.items()}
        for stage, values in times.items()
    }


def _measure_throughput(inspector: Inspector, pictures: Sequence[UInt8Array], frames: int) -> tuple[int, float]:
    """Several requests in flight: this thread prepares and searches while OpenVINO embeds."""
    compiled = inspector.embedder.recompile_for_throughput()
    count = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
    requests = [compiled.create_infer_request() for _ in range(count)]
    inputs = [np.zeros(compiled.input(0).shape, np.uint8) for _ in requests]
    for request, buffer in zip(requests, inputs, strict=True):
        request.set_input_tensor(ov.Tensor(buffer, shared_memory=True))
    running = [False] * count
    with phase(f"{count} in flight", frames) as done:
        started = time.perf_counter()
        for number in range(frames + count):
            slot = number % count
            if running[slot]:
                requests[slot].wait()
                inspector.bank.search(requests[slot].get_output_tensor().data)
                running[slot] = False
            if number < frames:
                prepare(pictures[number % len(pictures)], inspector.region, inputs[slot][0])
                requests[slot].start_async()
                running[slot] = True
            done(min(number + 1, frames))
        elapsed = time.perf_counter() - started
    return count, frames / elapsed


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
        "search_threads": int(faiss.omp_get_max_threads()),
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


def cpu_model() -> str:
    """The CPU's own name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


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
        f"throughput {report.throughput_fps:.1f} frames/s with {report.throughput_requests} requests in flight; "
        f"peak memory {report.peak_memory_mb:.0f} MB; {report.frames} frames",
        highlight=False,
    )
    facts = Table(show_header=False, box=None)
    for key, value in report.environment.items():
        facts.add_row(key, str(value))
    console.print(facts)
