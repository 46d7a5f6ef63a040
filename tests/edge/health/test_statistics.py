from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from edge.health.statistics import TIMED, Statistics
from edge.records import FrameIdentity, Outcome, Reason, StageTimes, Verdict


def verdict(outcome: Outcome = Outcome.PASS, *, latency_ms: float = 1.0, reason: Reason = Reason.NONE) -> Verdict:
    return Verdict(
        identity=FrameIdentity(0, 0.0, time.monotonic() - 5),
        outcome=outcome,
        score=1.0,
        threshold=2.0,
        recipe="plate",
        model="0" * 12,
        reason=reason,
        stages=StageTimes(preprocess_ms=1, embed_ms=2, search_ms=3, score_ms=4),
        latency_ms=latency_ms,
    )


def test_every_outcome_and_reason_is_counted_since_the_start() -> None:
    statistics = Statistics()
    for _ in range(3):
        statistics.judged(verdict(Outcome.PASS))
    statistics.judged(verdict(Outcome.FAIL))
    statistics.judged(verdict(Outcome.NO_RESULT, reason=Reason.CAMERA_STALE))
    expected = {"frames": 5, "pass": 3, "fail": 1, "no_result": 1, "no_result_camera_stale": 1}
    for _ in range(2):
        values = statistics.take()
        assert {name: values[name] for name in expected} == expected


def test_percentiles_are_those_of_the_values() -> None:
    statistics = Statistics()
    latencies = np.random.default_rng(0).random(1000) * 50
    for latency in latencies:
        statistics.judged(verdict(latency_ms=float(latency)))
    values = statistics.take()
    for name, percentile in (("p50", 50), ("p95", 95), ("p99", 99), ("max", 100)):
        assert values[f"latency_{name}_ms"] == pytest.approx(np.percentile(latencies, percentile), abs=0.006)
    assert values["search_p50_ms"] == 3


def test_percentiles_are_of_the_interval_and_totals_are_not() -> None:
    statistics = Statistics()
    statistics.judged(verdict(latency_ms=1000))
    statistics.take()
    statistics.judged(verdict(latency_ms=7))
    values = statistics.take()
    assert values["latency_max_ms"] == 7
    assert values["frames"] == 2


def test_an_interval_without_frames_has_no_percentiles_and_no_rate() -> None:
    statistics = Statistics()
    statistics.judged(verdict())
    assert float(statistics.take()["fps"]) > 0
    values = statistics.take()
    assert values["fps"] == 0
    assert not [name for name in values if name.endswith("_ms")]


def test_delivery_is_measured_from_capture() -> None:
    statistics = Statistics()
    statistics.delivered(verdict())
    assert float(statistics.take()["delivery_p50_ms"]) >= 5000


def test_memory_stays_bounded_and_keeps_the_newest_values() -> None:
    statistics = Statistics()
    for number in range(10_000):
        statistics.judged(verdict(latency_ms=float(number)))
    values = statistics.take()
    assert float(values["latency_p50_ms"]) == pytest.approx(10_000 - 4096 / 2, abs=2)
    assert values["frames"] == 10_000


def test_threads_lose_no_count() -> None:
    statistics = Statistics()

    def judge() -> None:
        for _ in range(1000):
            statistics.judged(verdict(Outcome.FAIL))
            statistics.delivered(verdict())

    threads = [threading.Thread(target=judge) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(50):
        statistics.take()
    for thread in threads:
        thread.join()
    assert statistics.take()["fail"] == 4000


def test_every_stage_has_its_percentiles() -> None:
    statistics = Statistics()
    statistics.judged(verdict())
    statistics.delivered(verdict())
    statistics.timed("commit", 3.0)
    statistics.timed("acknowledged", 8.0)
    values = statistics.take()
    assert (values["commit_p50_ms"], values["acknowledged_max_ms"]) == (3.0, 8.0)
    for stage in TIMED:
        assert {f"{stage}_{name}_ms" for name in ("p50", "p95", "p99", "max")} <= values.keys()
