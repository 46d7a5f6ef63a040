from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from edge.bundle.bundle import read_bundle
from edge.errors import SourceError
from edge.inspection.options import InspectorOptions
from edge.tools.bench import MEASURED, PERCENTILES, BenchReport, print_report, run_bench
from tests.bundles import draw_defective, draw_good


@pytest.fixture(scope="module")
def report(bundle_dir: Path) -> BenchReport:
    pictures = [draw_good(0).image, draw_defective(0).image]
    return run_bench(read_bundle(bundle_dir), InspectorOptions(workers=2), pictures, warm_up=2, frames=20)


def test_every_stage_has_percentiles_in_rising_order(report: BenchReport) -> None:
    assert list(report.latency_ms) == list(MEASURED)
    for values in report.latency_ms.values():
        assert list(values) == list(PERCENTILES)
        assert list(values.values()) == sorted(values.values())
        assert values["max"] >= values["p50"] >= 0


def test_overhead_is_what_is_neither_embedding_nor_search(report: BenchReport) -> None:
    latency = report.latency_ms
    assert latency["preprocess"]["p50"] <= latency["overhead"]["p50"] <= latency["total"]["p50"]
    assert latency["overhead"]["max"] <= latency["total"]["max"]


def test_throughput_is_that_of_the_workers_that_were_asked_for(report: BenchReport) -> None:
    assert report.throughput_requests == 2
    assert report.throughput_fps > 0
    assert report.frames == 20


def test_pictures_that_cannot_be_judged_measure_nothing(bundle_dir: Path) -> None:
    with pytest.raises(SourceError, match="picture 1 cannot be judged: expected 256×192"):
        run_bench(read_bundle(bundle_dir), InspectorOptions(), [np.zeros((50, 60, 3), np.uint8)], warm_up=0, frames=10)


def test_the_report_is_complete_for_machines_and_legible_for_people(report: BenchReport) -> None:
    values = json.loads(json.dumps(report.as_json()))
    assert values["environment"]["search_threads"] >= 1
    assert values["environment"]["search"] in {"exact", "fast"}
    console = Console(record=True, width=120)
    print_report(report, console)
    text = console.export_text()
    assert "overhead" in text
    assert "2 at a time" in text
    assert str(values["environment"]["bank"]) in text
