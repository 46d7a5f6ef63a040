"""Results of evaluations side by side: one row for each run and category, and one for the mean of each run.

A run is the directory that holds the directories of its categories; its rows come from their `results.json` alone.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from rich.table import Table

from edge.errors import ExportError
from edge.files.atomic import write_file
from edge.files.names import shown
from export.evaluation.results import RESULTS, CategoryResults, read_results
from export.metrics.means import mean_of_all
from export.metrics.records import GOOD

SUMMARY_CSV = "summary.csv"
SUMMARY_JSON = "summary.json"
MEAN = "mean"
_MEANS = (
    "image_auroc", "average_precision", "best_f1", "pixel_auroc", "aupro_30", "aupro_5",
    "false_reject_rate", "miss_rate", "preprocess_ms", "embed_ms", "search_ms", "score_ms", "total_ms", "teach_s",
)  # fmt: skip
_TOTALS = (
    "bank_vectors", "taught", "held_out", "good_parts", "good_passed", "defective_parts", "defective_failed",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Run:
    """The categories that were evaluated into one directory."""

    name: str
    results: tuple[CategoryResults, ...]


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One category of one run, or, called `mean`, all of them: rates and times are means, counts are added up."""

    run: str
    category: str
    backbone: str
    ir_precision: str
    arithmetic: str
    input: str  # width×height
    coreset: str
    coreset_ratio: str
    reweight_neighbours: str
    seed: str
    bank_vectors: float
    taught: float
    held_out: float
    image_auroc: float | None
    average_precision: float | None
    best_f1: float | None
    pixel_auroc: float | None  # here and in AUPRO: none without masks
    aupro_30: float | None
    aupro_5: float | None
    good_parts: float
    good_passed: float
    defective_parts: float
    defective_failed: float
    false_reject_rate: float | None
    miss_rate: float | None
    preprocess_ms: float | None
    embed_ms: float | None
    search_ms: float | None
    score_ms: float | None
    total_ms: float | None
    teach_s: float | None


def read_runs(places: Sequence[Path]) -> tuple[Run, ...]:
    """Every run below `places`, in the order of the places and by name.

    A run is called after its path below the place, or after its own directory where it is the place itself.

    Raises:
        ExportError: there are no results below one of the places.
        ResultsError: a `results.json` is of another version or damaged.
    """
    directories: dict[Path, tuple[str, list[CategoryResults]]] = {}
    for place in places:
        found = sorted(place.rglob(RESULTS))
        if not found:
            raise ExportError(f"{place}: no {RESULTS} here or below; make some with patchline-export evaluate --out")
        for path in found:
            directory = path.parent.parent.resolve()
            if directory not in directories:
                directories[directory] = (_run_name(directory, place), [])
            if all(results.category != shown(path.parent.name) for results in directories[directory][1]):
                directories[directory][1].append(read_results(path))
    names = Counter(name for name, _ in directories.values())
    return tuple(
        Run(name if names[name] == 1 else shown(directory), tuple(results))
        for directory, (name, results) in directories.items()
    )


def summarize(run: Run) -> tuple[SummaryRow, ...]:
    """The categories of a run, and their mean as the last row."""
    rows = tuple(_row(run.name, results) for results in run.results)
    return (*rows, _mean_row(rows))


def write_summary(rows: Sequence[SummaryRow], directory: Path) -> None:
    """Write `summary.csv` and `summary.json` into `directory`.

    Raises:
        ExportError: the disk refuses.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_file(directory / SUMMARY_CSV, _as_csv(rows).encode())
        write_file(directory / SUMMARY_JSON, (json.dumps([asdict(row) for row in rows], indent=1) + "\n").encode())
    except OSError as error:
        raise ExportError(f"{directory}: cannot be written ({error.strerror}); check disk space") from error


def summary_table(rows: Sequence[SummaryRow]) -> Table:
    """The rows for people, in percent; runs are named where there are several."""
    several = len({row.run for row in rows}) > 1
    table = Table(title="Image and pixel quality in %; parts at the threshold taught from good parts only")
    for name in (*(("run",) if several else ()), "category"):
        table.add_column(name)
    for name in (
        "image AUROC", "AP", "best F1", "pixel AUROC", "AUPRO 30 %", "AUPRO 5 %", "good passed", "defective failed",
    ):  # fmt: skip
        table.add_column(name, justify="right")
    for row in rows:
        is_mean = row.category == MEAN
        table.add_row(
            *((row.run,) if several else ()), *_cells(row), style="bold" if is_mean else "", end_section=is_mean
        )
    return table


def _run_name(directory: Path, place: Path) -> str:
    below = os.path.relpath(directory, place.resolve())
    return shown(directory.name if below in {".", ".."} else below)


def _row(run: str, results: CategoryResults) -> SummaryRow:
    good = next(kind for kind in results.operating.kinds if kind.kind == GOOD)
    bad = [kind for kind in results.operating.kinds if kind.kind != GOOD]
    pixel, settings, stages = results.pixel, results.settings, results.stage_ms
    return SummaryRow(
        run=run,
        category=results.category,
        backbone=results.backbone,
        ir_precision=results.ir_precision,
        arithmetic=results.arithmetic,
        input=f"{results.input_size[1]}×{results.input_size[0]}",
        coreset=settings.get("coreset", ""),
        coreset_ratio=settings.get("coreset_ratio", ""),
        reweight_neighbours=settings.get("reweight_neighbours", ""),
        seed=settings.get("seed", ""),
        bank_vectors=results.bank_vectors,
        taught=results.taught,
        held_out=results.held_out,
        image_auroc=results.image.auroc,
        average_precision=results.image.average_precision,
        best_f1=results.image.best_f1,
        pixel_auroc=None if pixel is None else pixel.auroc,
        aupro_30=None if pixel is None else pixel.aupro,
        aupro_5=None if pixel is None else pixel.aupro_strict,
        good_parts=good.parts,
        good_passed=good.parts - good.failed,
        defective_parts=sum(kind.parts for kind in bad),
        defective_failed=sum(kind.failed for kind in bad),
        false_reject_rate=results.operating.false_rejects.rate,
        miss_rate=results.operating.misses.rate,
        preprocess_ms=stages.get("preprocess"),
        embed_ms=stages.get("embed"),
        search_ms=stages.get("search"),
        score_ms=stages.get("score"),
        total_ms=stages.get("total"),
        teach_s=results.teach_s,
    )


def _mean_row(rows: Sequence[SummaryRow]) -> SummaryRow:
    combined: dict[str, str | float | None] = {}
    for field in fields(SummaryRow):
        values = [getattr(row, field.name) for row in rows]
        if field.name in _MEANS:
            combined[field.name] = mean_of_all(values)
        elif field.name in _TOTALS:
            combined[field.name] = sum(values)
        else:
            combined[field.name] = values[0] if len(set(values)) == 1 else ""
    return replace(rows[0], **{**combined, "category": MEAN})  # type: ignore[arg-type] # by the fields' own names


def _as_csv(rows: Sequence[SummaryRow]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [field.name for field in fields(SummaryRow)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return stream.getvalue()


def _cells(row: SummaryRow) -> tuple[str, ...]:
    figures = (row.image_auroc, row.average_precision, row.best_f1, row.pixel_auroc, row.aupro_30, row.aupro_5)
    return (
        row.category,
        *("–" if figure is None else f"{100 * figure:.2f}" for figure in figures),
        f"{row.good_passed:.0f} of {row.good_parts:.0f}",
        f"{row.defective_failed:.0f} of {row.defective_parts:.0f}",
    )
