from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.records import CompareResults, Latency, ratio, write_results
from edge.errors import ExportError
from edge.files.schema import read_json
from tests.benchmarks.made_results import latency, make_compare


def test_ratios_are_taken_within_rounds_that_have_both() -> None:
    # The machine is twice as slow in round 2, for both; round 1 has only the faster one.
    slower = Latency.of([(0, 100.0), (2, 200.0)])
    faster = Latency.of([(0, 10.0), (1, 1.0), (2, 20.0)])
    found = ratio(slower, faster)
    assert found is not None
    assert (found.median, found.low, found.high, found.rounds) == (10.0, 10.0, 10.0, 2)


def test_there_is_no_ratio_without_a_common_round() -> None:
    assert ratio(Latency.of([(0, 1.0)]), Latency.of([(1, 1.0)])) is None


def test_one_slow_frame_moves_neither_the_median_of_its_round_nor_the_ratio() -> None:
    disturbed = Latency.of([(0, 10.0), (0, 10.0), (0, 1000.0)])
    assert disturbed.medians() == {0: 10.0}
    assert disturbed.p99 > 900


def test_results_come_back_from_the_file_as_they_were_written(tmp_path: Path) -> None:
    results = make_compare()
    write_results(results, tmp_path / "new" / "compare.json")
    assert read_json(tmp_path / "new" / "compare.json", CompareResults) == results


def test_a_list_of_numbers_takes_one_line(tmp_path: Path) -> None:
    write_results(latency([1.5, 2.5, 1e-7]), tmp_path / "latency.json")
    lines = (tmp_path / "latency.json").read_text(encoding="utf-8").splitlines()
    assert ' "ms": [1.5, 2.5, 0.0],' in lines
    assert json.loads("".join(lines))["rounds"] == [0, 1, 2]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ExportError, match=r"file/compare\.json: cannot be written"):
        write_results(make_compare(), tmp_path / "file" / "compare.json")
