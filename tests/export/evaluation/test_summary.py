from __future__ import annotations

import csv
import io
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from edge.errors import ExportError, ResultsError
from export.evaluation.measure import measure_images, measure_operation
from export.evaluation.results import RESULTS, CategoryResults, PictureResult, write_results
from export.evaluation.summary import MEAN, Run, SummaryRow, read_runs, summarize, summary_table, write_summary
from export.metrics.records import PixelMetrics

GOOD_SCORES = (1.0, 2.0, 3.0, 6.0)
THRESHOLD = 4.0


def make_results(category: str, bad: tuple[float, ...], *, pixel_auroc: float | None = 0.9) -> CategoryResults:
    pictures = tuple(
        PictureResult(
            path=f"{kind}/{number}.png",
            kind=kind,
            score=score,
            map_peak=score,
            outcome="FAIL" if score > THRESHOLD else "PASS",
        )
        for kind, scores in (("good", GOOD_SCORES), ("dent", bad))
        for number, score in enumerate(scores)
    )
    image = measure_images(pictures)
    pixel = PixelMetrics(auroc=pixel_auroc or 0, aupro=0.8, aupro_strict=0.5, pro=image.roc, regions=3, pixels=1000)
    return CategoryResults(
        key="0",
        category=category,
        layout="mvtec",
        created_at="2026-01-01T00:00:00+00:00",
        backbone="resnet18",
        ir_precision="f32",
        arithmetic="f32",
        input_size=(224, 320),
        settings={"coreset": "greedy", "coreset_ratio": "0.1", "seed": "0", "reweight_neighbours": "0"},
        bundle="0" * 12,
        bank_vectors=100,
        dimension=384,
        taught=10,
        held_out=5,
        image=image,
        pixel=None if pixel_auroc is None else pixel,
        operating=measure_operation(pictures, THRESHOLD),
        pictures=pictures,
        gallery=(),
        stage_ms={"preprocess": 1.0, "embed": 10.0, "search": 5.0, "score": 1.0, "total": 17.0},
        teach_s=20.0,
        versions={},
        machine="a machine",
    )


BOLT = make_results("bolt", (5.0, 7.0), pixel_auroc=0.96)
NUT = make_results("nut", (2.5, 7.0, 8.0, 9.0), pixel_auroc=None)


def test_a_row_says_what_the_results_say() -> None:
    row, _ = summarize(Run("wide", (BOLT,)))
    assert (row.run, row.category, row.backbone, row.input) == ("wide", "bolt", "resnet18", "320×224")
    assert (row.image_auroc, row.pixel_auroc, row.aupro_30, row.aupro_5) == (7 / 8, 0.96, 0.8, 0.5)
    assert (row.good_passed, row.good_parts, row.defective_failed, row.defective_parts) == (3, 4, 2, 2)
    assert (row.false_reject_rate, row.miss_rate) == (0.25, 0.0)
    assert (row.embed_ms, row.total_ms, row.teach_s) == (10.0, 17.0, 20.0)


def test_the_mean_row_averages_rates_and_adds_up_counts() -> None:
    *rows, mean = summarize(Run("wide", (BOLT, NUT)))
    assert [row.category for row in rows] == ["bolt", "nut"]
    assert mean.category == MEAN
    assert mean.image_auroc == pytest.approx((7 / 8 + (2 + 3 * 4) / 16) / 2)
    assert mean.pixel_auroc is None  # one category has no masks
    assert (mean.miss_rate, mean.false_reject_rate) == (0.125, 0.25)
    assert (mean.defective_failed, mean.defective_parts, mean.bank_vectors) == (5, 6, 200)
    assert (mean.backbone, mean.coreset_ratio) == ("resnet18", "0.1")


def test_what_differs_between_categories_is_empty_in_their_mean() -> None:
    other = NUT.model_copy(update={"backbone": "resnet50"})
    assert summarize(Run("mixed", (BOLT, other)))[-1].backbone == ""


def test_without_any_masks_there_is_no_mean_of_pixels() -> None:
    assert summarize(Run("wide", (NUT,)))[-1].pixel_auroc is None


def put(results: CategoryResults, run: Path) -> None:
    write_results(results, run / results.category / RESULTS)


def test_runs_are_found_below_a_directory_and_named_by_their_path(tmp_path: Path) -> None:
    put(BOLT, tmp_path / "runs" / "wide_0.1")
    put(NUT, tmp_path / "runs" / "wide_0.1")
    put(BOLT, tmp_path / "runs" / "coreset" / "random_1")
    found = read_runs([tmp_path / "runs"])
    assert [(run.name, [results.category for results in run.results]) for run in found] == [
        ("coreset/random_1", ["bolt"]),
        ("wide_0.1", ["bolt", "nut"]),
    ]


@pytest.mark.parametrize("below", [".", "bolt"])
def test_a_run_or_one_of_its_categories_can_be_given_itself(tmp_path: Path, below: str) -> None:
    put(BOLT, tmp_path / "wide")
    assert [run.name for run in read_runs([tmp_path / "wide" / below])] == ["wide"]


def test_runs_of_the_same_name_are_told_apart_and_none_is_counted_twice(tmp_path: Path) -> None:
    put(BOLT, tmp_path / "a" / "wide")
    put(NUT, tmp_path / "b" / "wide")
    found = read_runs([tmp_path / "a" / "wide", tmp_path / "b" / "wide", tmp_path / "a"])
    assert [run.name for run in found] == [str(tmp_path / "a" / "wide"), str(tmp_path / "b" / "wide")]
    assert [len(run.results) for run in found] == [1, 1]


def test_a_place_without_results_is_refused(tmp_path: Path) -> None:
    put(BOLT, tmp_path / "wide")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ExportError, match=r"empty: no results\.json here or below"):
        read_runs([tmp_path / "wide", tmp_path / "empty"])


def test_results_of_another_version_are_refused_by_name(tmp_path: Path) -> None:
    put(BOLT, tmp_path / "wide")
    path = tmp_path / "wide" / "bolt" / RESULTS
    path.write_text(path.read_text(encoding="utf-8").replace('"schema_version": 1', '"schema_version": 9'))
    with pytest.raises(ResultsError, match=r"bolt/results\.json: schema_version"):
        read_runs([tmp_path])


def test_rows_are_csv_and_json_with_the_same_values(tmp_path: Path) -> None:
    rows = summarize(Run("wide, new", (BOLT, NUT)))
    write_summary(rows, tmp_path / "out")
    read_json: list[dict[str, Any]] = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert [SummaryRow(**row) for row in read_json] == list(rows)
    table = csv.DictReader(io.StringIO((tmp_path / "out" / "summary.csv").read_text(encoding="utf-8")))
    read_csv = list(table)
    assert table.fieldnames == [field.name for field in fields(SummaryRow)]
    for from_csv, from_json in zip(read_csv, read_json, strict=True):
        assert from_csv == {name: "" if value is None else str(value) for name, value in from_json.items()}


def shown(rows: tuple[SummaryRow, ...]) -> str:
    stream = io.StringIO()
    Console(file=stream, width=160).print(summary_table(rows))
    return stream.getvalue()


def test_the_table_shows_percentages_counts_and_what_is_missing() -> None:
    text = shown(summarize(Run("wide", (BOLT, NUT))))
    for cell in ("bolt", "87.50", "96.00", "80.00", "50.00", "3 of 4", "2 of 2", "–", "mean", "5 of 6"):
        assert cell in text
    assert "wide" not in text


def test_several_runs_are_named_in_the_table() -> None:
    rows = (*summarize(Run("wide", (BOLT,))), *summarize(Run("small", (replace_auroc(BOLT),))))
    text = shown(rows)
    assert text.count("wide") == text.count("small") == 2
    assert text.count(" mean ") == 2


def replace_auroc(results: CategoryResults) -> CategoryResults:
    return results.model_copy(update={"image": results.image.model_copy(update={"auroc": 0.5})})


def test_the_mean_of_one_category_is_that_category() -> None:
    row, mean = summarize(Run("wide", (BOLT,)))
    assert replace(mean, category="bolt") == row
