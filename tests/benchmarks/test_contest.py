from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.contest import COUNTED, Samples, Variant, Worker, compete, conclude
from benchmarks.worker import Engine, Spec
from edge.bundle.bundle import read_bundle
from edge.files.pictures import list_pictures, read_picture
from edge.inspection.inspector import Inspector
from tests.bundles import make_frame


@pytest.fixture
def spec(bundle_dir: Path, good_pictures: Path, defective_pictures: Path, tmp_path: Path) -> Spec:
    return Spec(
        engine="fast",
        model=str(bundle_dir),
        arithmetic="f32",
        good=str(good_pictures),
        defective=str(defective_pictures),
        cache=str(tmp_path),
    )


@pytest.fixture
def worker(spec: Spec) -> Worker:
    return Worker.start(spec)


def variant(spec: Spec, engine: Engine, every: int) -> Variant:
    return Variant(engine, engine, replace(spec, engine=engine), "f32", every)


def test_variants_take_turns_and_are_timed_on_both_kinds_of_frames(spec: Spec) -> None:
    variants = [variant(spec, "plain", 2), variant(spec, "fast", 1)]
    ended: list[int] = []
    samples = compete(variants, rounds=3, starts=1, throughput_s=0.1, between=ended.append)
    assert ended == [0, 1, 2]
    for one, rounds in zip(variants, ({0, 2}, {0, 1, 2}), strict=True):
        found = samples[one.name]
        assert {number for number, _ in found.passes} == rounds
        assert len(found.passes) + len(found.fails) == len(rounds) * 2 * COUNTED
        assert found.fails  # drawn defects are found
        result = conclude(one, found)
        assert len(result.start_s) == 1
        assert 50 < result.peak_memory_mb < 2000
        assert result.in_flight >= 1
        assert result.in_flight_fps > 0
        assert sum(result.stages_p50_ms.values()) <= 2 * result.passes.p50


def test_a_worker_judges_as_the_inspector_does_and_times_the_whole_frame(
    worker: Worker, bundle_dir: Path, defective_pictures: Path
) -> None:
    inspector = Inspector(read_bundle(bundle_dir))
    paths = list_pictures(str(defective_pictures))[:4]
    expected = [inspector.inspect(make_frame(read_picture(path))).verdict.outcome == "FAIL" for path in paths]
    try:
        turn = worker.ask(do="inspect", kind="defective", count=3, warm_s=0)
    finally:
        worker.close()
    timed = [turn["first"], *turn["timed"]]
    assert [entry["failed"] for entry in timed] == expected
    assert any(expected)
    assert all(entry["ms"] >= sum(entry["stages"].values()) * 0.99 for entry in timed)


def test_a_turn_works_for_a_while_before_it_counts(worker: Worker) -> None:
    started = time.perf_counter()
    try:
        turn = worker.ask(do="inspect", kind="good", count=2, warm_s=0.5)
    finally:
        worker.close()
    assert time.perf_counter() - started >= 0.5
    assert len(turn["timed"]) == 2


def test_a_worker_stays_on_the_processors_it_is_given(spec: Spec) -> None:
    worker = Worker.start(replace(spec, cpus=1))
    try:
        assert len(os.sched_getaffinity(worker.process.pid)) == 1
    finally:
        worker.close()


def test_a_worker_that_cannot_start_is_reported(spec: Spec, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="a worker ended with code 1"):
        Worker.start(replace(spec, model=str(tmp_path / "none")))
    assert "no such directory" in capfd.readouterr().err


def test_overhead_is_what_is_neither_embedding_nor_search(spec: Spec) -> None:
    stages = {"preprocess_ms": 1.0, "embed_ms": 5.0, "search_ms": 3.0, "score_ms": 0.5, "total_ms": 10.0}
    samples = Samples(starts_s=[1.0], passes=[(0, 10.0)], stages=[stages], fps=[90.0, 110.0])
    result = conclude(variant(spec, "fast", 1), samples)
    assert result.overhead_p99_ms == 2.0
    assert result.in_flight_fps == 100.0
    assert result.fails is None
