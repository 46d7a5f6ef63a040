"""Counters and latency percentiles of the running service, in bounded memory."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque

import numpy as np

from edge.records import STAGES, Values, Verdict

_KEPT = 4096  # newest values of each stage that the percentiles of one interval are taken from
TIMED = (*STAGES, "latency", "commit", "delivery", "acknowledged")


class Statistics:
    """Told of every verdict by the inspecting thread and of every delivery by those that publish."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._times = {stage: deque[float](maxlen=_KEPT) for stage in TIMED}
        self._since = time.monotonic()
        self._since_frames = 0

    def judged(self, verdict: Verdict) -> None:
        """A frame was answered."""
        times = verdict.stages.by_stage() | {"latency": verdict.latency_ms}
        with self._lock:
            self._counts["frames"] += 1
            self._counts[verdict.outcome.lower()] += 1
            if verdict.reason:
                self._counts[f"no_result_{verdict.reason}"] += 1
            for stage, elapsed_ms in times.items():
                self._times[stage].append(elapsed_ms)

    def timed(self, stage: str, elapsed_ms: float) -> None:
        """One of `TIMED` took so long."""
        with self._lock:
            self._times[stage].append(elapsed_ms)

    def delivered(self, verdict: Verdict) -> None:
        """A verdict is safe: stored, or with the publishers."""
        with self._lock:
            elapsed = time.monotonic() - verdict.identity.captured_monotonic_s
            self._times["delivery"].append(1e3 * elapsed)

    def take(self) -> Values:
        """Totals since the start; rate and percentiles since the last call."""
        with self._lock:
            now = time.monotonic()
            frames = self._counts["frames"]
            fps = (frames - self._since_frames) / max(now - self._since, 1e-9)
            self._since, self._since_frames = now, frames
            values: Values = {"fps": round(fps, 2)}
            values |= {name: self._counts[name] for name in ("frames", "pass", "fail", "no_result")}
            values |= {name: count for name, count in self._counts.items() if name.startswith("no_result_")}
            for stage, times in self._times.items():
                values |= _percentiles(stage, times)
                times.clear()
            return values


def _percentiles(stage: str, times: deque[float]) -> Values:
    if not times:
        return {}
    p50, p95, p99, worst = np.percentile(np.fromiter(times, float), (50, 95, 99, 100))
    return {
        f"{stage}_p50_ms": round(float(p50), 2),
        f"{stage}_p95_ms": round(float(p95), 2),
        f"{stage}_p99_ms": round(float(p99), 2),
        f"{stage}_max_ms": round(float(worst), 2),
    }
