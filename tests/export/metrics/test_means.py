from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from export.cli.experiments import print_experiment
from export.evaluation.summary import Run, summarize, summary_table
from export.experiments.results import ExperimentRow
from export.metrics.means import mean_of_all
from export.report.comparison import compare
from export.report.evaluation_page import view_run
from export.report.experiment_page import view_experiment
from tests.export.evaluation.made_results import make_experiment, make_measurement, make_results, write_category


@pytest.mark.parametrize(
    ("values", "expected"), [([0.5, 1.0], 0.75), ([0.5], 0.5), ([0.5, None], None), ([None], None), ([], None)]
)
def test_a_mean_is_of_all_or_there_is_none(values: list[float | None], expected: float | None) -> None:
    assert mean_of_all(values) == expected


def shown(print_to: Console) -> str:
    assert isinstance(print_to.file, io.StringIO)
    return print_to.file.getvalue()


def test_tables_and_pages_give_no_mean_where_one_category_has_no_masks(tmp_path: Path) -> None:
    results = (make_results("bottle"), make_results("cable", pixel=None))
    mean = summarize(Run("run", results))[-1]
    assert (mean.pixel_auroc, mean.aupro_30, mean.aupro_5) == (None, None, None)
    console = Console(file=io.StringIO(), width=200)
    console.print(summary_table(summarize(Run("run", results))))
    assert shown(console).splitlines()[-2].count("–") == 3
    page = view_run("", [write_category(tmp_path, entry) for entry in results], 0)
    assert [(tile.value, tile.note) for tile in page.tiles[1:3]] == [("–", "1 without masks")] * 2
    comparison = compare(results)
    assert comparison is not None
    assert comparison.mean_of_rows.ours[1:] == (None, None)
    assert comparison.mean_of_rows.ours[0] is not None


def test_an_experiment_gives_no_mean_where_one_category_has_no_masks() -> None:
    measured = (make_measurement("bottle"), make_measurement("cable", pixel_auroc=None, aupro=None, miss=0.04))
    results = make_experiment([ExperimentRow(label="10 %", value=0.1, categories=measured)])
    (row,) = view_experiment(results).rows
    assert (row.pixel_auroc, row.aupro) == (None, None)
    assert row.miss == pytest.approx(0.03)
    console = Console(file=io.StringIO(), width=200)
    print_experiment(results, console)
    assert shown(console).count("–") == 2


def test_rates_and_times_are_means_over_categories_everywhere(tmp_path: Path) -> None:
    many = {"good": (1.0,) * 9 + (2.1,), "dent": (3.0,)}
    few = {"good": (1.0, 2.1), "dent": (3.0,)}
    results = (
        make_results("bottle", many, stage_ms={"total": 10.0}),
        make_results("cable", few, stage_ms={"total": 40.0}),
        make_results("capsule", few, stage_ms={"total": 40.0}),
    )
    mean = summarize(Run("run", results))[-1]
    assert mean.false_reject_rate == pytest.approx(1.1 / 3)
    assert mean.total_ms == 30.0
    page = view_run("", [write_category(tmp_path, entry) for entry in results], 0)
    assert (page.tiles[3].value, page.tiles[3].note) == ("36.7", "mean of 3 categories; 3 of 14 parts")
    assert page.tiles[5].value == "30.0"
