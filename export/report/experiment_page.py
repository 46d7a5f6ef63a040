"""What the page of an experiment shows: lines over the parameter, quality against time, and the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from export.experiments.results import CategoryMeasurement, ExperimentResults, ExperimentRow
from export.metrics.means import mean_of_all
from export.report.page import moment
from export.report.style import PALETTE, Drawing
from export.report.sweep_plots import Line, Panel, Point, plot_sweep, plot_tradeoff

# A trade-off of more settings than this cannot be labelled legibly.
_LABELLED_POINTS = 14

Metric = Callable[[CategoryMeasurement], float | None]


@dataclass(frozen=True, slots=True)
class TableRow:
    """One setting on one category, or, with the empty name, the mean of all."""

    setting: str
    series: str
    category: str
    image_auroc: float
    pixel_auroc: float | None
    aupro: float | None
    false_reject: float
    miss: float
    embed_ms: float
    search_ms: float
    total_ms: float
    bank_vectors: float
    extra: tuple[str, ...]  # in the order of `extra_names`
    best: bool  # the largest image AUROC of its table


@dataclass(frozen=True, slots=True)
class ExperimentView:
    """An experiment, ready for its page."""

    results: ExperimentResults
    facts: tuple[tuple[str, str], ...]
    drawings: tuple[Drawing, ...]
    categories: tuple[str, ...]
    several_series: bool
    extra_names: tuple[str, ...]
    rows: tuple[TableRow, ...]  # means over the categories
    details: tuple[TableRow, ...]  # each category; empty where there is but one


def view_experiment(results: ExperimentResults) -> ExperimentView:
    """Everything that the page says about `results`."""
    categories = tuple(sorted(entry.category for entry in results.rows[0].categories))
    extra_names = tuple(dict.fromkeys(name for row in results.rows for name in row.extra))
    details = [_table_row(row, entry.category, [entry], extra_names) for row in results.rows for entry in _by_name(row)]
    return ExperimentView(
        results=results,
        facts=_facts(results, categories),
        drawings=tuple(_drawings(results, categories)),
        categories=categories,
        several_series=len({row.series for row in results.rows}) > 1,
        extra_names=extra_names,
        rows=_marked([_table_row(row, "", row.categories, extra_names) for row in results.rows]),
        details=tuple(details) if len(categories) > 1 else (),
    )


def _facts(results: ExperimentResults, categories: Sequence[str]) -> tuple[tuple[str, str], ...]:
    pairs = [
        ("Varied", results.parameter),
        ("Categories", ", ".join(categories)),
        *sorted(results.settings.items()),
        ("Machine", results.machine),
        ("Measured", moment(results.created_at)),
        ("Versions", ", ".join(f"{name} {number}" for name, number in sorted(results.versions.items()))),
    ]
    return tuple((name, value) for name, value in pairs if value)


def _by_name(row: ExperimentRow) -> list[CategoryMeasurement]:
    return sorted(row.categories, key=lambda entry: entry.category)


def _table_row(
    row: ExperimentRow, category: str, entries: Sequence[CategoryMeasurement], extra_names: Sequence[str]
) -> TableRow:
    return TableRow(
        setting=row.label,
        series=row.series,
        category=category,
        image_auroc=fmean(entry.image_auroc for entry in entries),
        pixel_auroc=mean_of_all(entry.pixel_auroc for entry in entries),
        aupro=mean_of_all(entry.aupro for entry in entries),
        false_reject=fmean(entry.false_reject for entry in entries),
        miss=fmean(entry.miss for entry in entries),
        embed_ms=fmean(entry.embed_ms for entry in entries),
        search_ms=fmean(entry.search_ms for entry in entries),
        total_ms=fmean(entry.total_ms for entry in entries),
        bank_vectors=fmean(entry.bank_vectors for entry in entries),
        extra=tuple(row.extra.get(name, "") for name in extra_names),
        best=False,
    )


def _marked(rows: Sequence[TableRow]) -> tuple[TableRow, ...]:
    best = max(row.image_auroc for row in rows)
    return tuple(replace(row, best=row.image_auroc == best and len(rows) > 1) for row in rows)


def _drawings(results: ExperimentResults, categories: Sequence[str]) -> list[Drawing]:
    labels = {row.value: row.label for row in results.rows}
    averaged = f", mean of {len(categories)}" if len(categories) > 1 else ""

    def panel(title: str, label: str, metric: Metric, *, quality: bool, unit: float = 100.0) -> Panel:
        lines = _lines(results, categories, metric, unit)
        return Panel(title, label, lines, "up_to_100" if quality else "from_0")

    pairs = [
        (
            "quality-and-time",
            panel("Parts told apart", "image AUROC (%)", lambda entry: entry.image_auroc, quality=True),
            panel("Time for one picture", "median (ms)", lambda entry: entry.total_ms, quality=False, unit=1.0),
        ),
        (
            "errors",
            panel("Good parts rejected", "of the good parts (%)", lambda entry: entry.false_reject, quality=False),
            panel("Defective parts missed", "of the defective parts (%)", lambda entry: entry.miss, quality=False),
        ),
    ]
    if all(
        entry.aupro is not None and entry.pixel_auroc is not None for row in results.rows for entry in row.categories
    ):
        aupro = panel("Defects covered", "AUPRO to 30 % (%)", lambda entry: entry.aupro, quality=True)
        pixel = panel("Pixels told apart", "pixel AUROC (%)", lambda entry: entry.pixel_auroc, quality=True)
        pairs.insert(1, ("pixels", aupro, pixel))
    drawings = [
        plot_sweep(results.parameter, labels, (left, right), f"{results.name}-{name}") for name, left, right in pairs
    ]
    if 1 < len(results.rows) <= _LABELLED_POINTS:
        drawings.insert(1, _tradeoff(results, averaged))
    return drawings


def _lines(results: ExperimentResults, categories: Sequence[str], metric: Metric, unit: float) -> tuple[Line, ...]:
    """One for each series and category while that can be told apart; otherwise means over the categories."""
    series = list(dict.fromkeys(row.series for row in results.rows))
    each = len(categories) > 1 and len(series) * len(categories) <= len(PALETTE)
    groups = [(name, category) for name in series for category in (categories if each else ("",))]
    return tuple(_line(results, name, category, metric, unit) for name, category in groups)


def _line(results: ExperimentResults, series: str, category: str, metric: Metric, unit: float) -> Line:
    points = [
        (row.value, mean_of_all(metric(entry) for entry in row.categories if category in {"", entry.category}))
        for row in results.rows
        if row.series == series
    ]
    if all(not isinstance(x, str) for x, _ in points):
        points.sort(key=lambda point: float(point[0]))
    known = [(x, unit * y) for x, y in points if y is not None]
    name = ", ".join(part for part in (series, category) if part)
    return Line(name or "all", tuple(x for x, _ in known), tuple(y for _, y in known))


def _tradeoff(results: ExperimentResults, averaged: str) -> Drawing:
    """By AUPRO where there is one: image AUROC is soon 100 % for every setting."""
    aupro = [mean_of_all(entry.aupro for entry in row.categories) for row in results.rows]
    auroc = [fmean(entry.image_auroc for entry in row.categories) for row in results.rows]
    known = [value for value in aupro if value is not None]
    name, quality = ("AUPRO to 30 %", known) if len(known) == len(aupro) else ("image AUROC", auroc)
    points = [
        Point(row.label, row.series, fmean(entry.total_ms for entry in row.categories), 100 * value)
        for row, value in zip(results.rows, quality, strict=True)
    ]
    time = f"median time for one picture{averaged} (ms)"
    return plot_tradeoff(points, time, f"{name}{averaged} (%)", f"{results.name}-tradeoff")
