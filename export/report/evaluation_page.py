"""What the page of an evaluation shows: figures as texts, parts by kind, plots, pictures.

Made from `results.json` files and the pictures beside them, and from nothing else: made again, it is the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from edge.errors import ExportError
from export.evaluation.operating_table import Line, lines_of
from export.evaluation.results import RESULTS, CategoryResults, GalleryEntry, PictureResult, read_results
from export.metrics.means import mean_of_all
from export.metrics.records import GOOD, Rate
from export.report.comparison import Comparison, compare
from export.report.page import embed_jpeg, milliseconds, moment, percent, short_percent
from export.report.plots import plot_histogram, plot_pro, plot_roc, plot_stages
from export.report.style import Drawing
from export.teaching.promise import why_unsupported

# In the order in which a process engineer looks: what went wrong, then what nearly did.
_GROUPS = (
    ("missed", "Missed", "defective parts that passed"),
    ("false_reject", "Falsely rejected", "good parts that failed"),
    ("worst", "Worst", "only just judged rightly"),
    ("best", "Best", "judged most clearly"),
)


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure of the summary."""

    name: str
    value: str
    unit: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class KindRow:
    """One kind of part, and what became of it."""

    kind: str
    parts: int
    failed: int
    lowest: float | None  # scores; none: no picture of this kind is listed
    highest: float | None


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture of the gallery."""

    picture: PictureResult
    relative: float  # score over threshold
    source: str  # data address


@dataclass(frozen=True, slots=True)
class Group:
    """Pictures of the gallery that belong together."""

    title: str
    meaning: str
    pictures: tuple[Shown, ...]


@dataclass(frozen=True, slots=True)
class CategoryView:
    """One category's part of the page."""

    anchor: str
    results: CategoryResults
    sentences: tuple[str, ...]
    operating: tuple[Line, ...]  # empty: evaluated before there were operating tables
    warning: str  # empty: so many held-out parts support the rate
    kinds: tuple[KindRow, ...]
    drawings: tuple[Drawing, ...]
    gallery: tuple[Group, ...]


@dataclass(frozen=True, slots=True)
class RunView:
    """One evaluation: all categories with the same IR and settings."""

    name: str  # empty: the only one
    anchor: str
    categories: tuple[CategoryView, ...]
    facts: tuple[tuple[str, str], ...]
    meaningless: bool  # a network with random weights took part: its quality says nothing
    tiles: tuple[Tile, ...]
    comparison: Comparison | None


def view_run(name: str, directories: Sequence[Path], number: int) -> RunView:
    """The evaluation called `name`, from its categories' `directories`; the `number`-th on its page.

    Raises:
        ResultsError: a `results.json` cannot be read or is of another version.
        ExportError: a picture of a gallery is missing.
    """
    categories = tuple(
        _view_category(directory, read_results(directory / RESULTS), prefix=f"{name}-" if name else "")
        for directory in directories
    )
    results = [category.results for category in categories]
    return RunView(
        name=name,
        anchor=f"run-{number}",
        categories=categories,
        facts=_facts(results),
        meaningless=any(entry.settings.get("weights", "").startswith("random") for entry in results),
        tiles=_tiles(results),
        comparison=compare(results),
    )


def subject_of(runs: Sequence[RunView]) -> str:
    """What the page is about."""
    names = list(dict.fromkeys(category.results.category for run in runs for category in run.categories))
    shown = ", ".join(names) if len(names) <= 3 else f"{len(names)} categories"
    return shown if len(runs) == 1 else f"{shown}, {len(runs)} runs"


def say_rate(rate: Rate, parts: str, what: str) -> str:
    """A rate in plain words: '2 of 20 good parts were rejected: 10 % (95 % confidence: 1.2–31.7 %)'."""
    subject = f"{rate.count} of {rate.parts} {parts} {'was' if rate.count == 1 else 'were'}"
    if rate.count == 0:
        subject = f"None of {rate.parts} {parts} was"
    confidence = f"{short_percent(rate.confidence)} confidence: {_interval(rate)}"
    return f"{subject} {what}: {short_percent(rate.rate)} ({confidence})"


def _view_category(directory: Path, results: CategoryResults, prefix: str) -> CategoryView:
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", f"{prefix}{directory.name}")
    drawn = (
        plot_histogram(results, f"{name}-scores"),
        plot_stages(results, f"{name}-stages"),
        plot_roc(results, f"{name}-roc"),
        plot_pro(results, f"{name}-pro"),
    )
    return CategoryView(
        anchor=f"category-{name}",
        results=results,
        sentences=_sentences(results),
        operating=lines_of(results),
        warning=_warning(results),
        kinds=_kinds(results),
        drawings=tuple(drawing for drawing in drawn if drawing is not None),
        gallery=tuple(_gallery(directory, results)),
    )


def _sentences(results: CategoryResults) -> tuple[str, ...]:
    operating = results.operating
    taught = f"{results.held_out} good parts that were held out from teaching"
    seen = "and on defective parts" if results.settings.get("method") == "best_f1" else "without any defective part"
    return (
        f"A part fails when its score is above {operating.threshold:.4g}, a threshold set on {taught}, {seen}.",
        say_rate(operating.false_rejects, "good parts", "rejected") + ".",
        say_rate(operating.misses, "defective parts", "missed") + ".",
    )


def _warning(results: CategoryResults) -> str:
    guarantee = results.guarantee
    return "" if guarantee is None or guarantee.supported else f"{why_unsupported(guarantee)}."


def _kinds(results: CategoryResults) -> tuple[KindRow, ...]:
    """Good parts first, then the kinds of defects, those that were missed most before the others."""
    operating = results.operating
    rejected = operating.false_rejects
    counts = {kind.kind: (kind.parts, kind.failed) for kind in operating.kinds}
    counts[GOOD] = (rejected.parts, rejected.count)
    order = sorted(counts, key=lambda kind: (kind != GOOD, counts[kind][1] - counts[kind][0], kind))
    return tuple(_kind_row(kind, *counts[kind], results.pictures) for kind in order)


def _kind_row(kind: str, parts: int, failed: int, pictures: Sequence[PictureResult]) -> KindRow:
    scores = [picture.score for picture in pictures if picture.kind == kind]
    return KindRow(kind, parts, failed, min(scores, default=None), max(scores, default=None))


def _gallery(directory: Path, results: CategoryResults) -> list[Group]:
    groups = []
    for key, title, meaning in _GROUPS:
        entries = [entry for entry in results.gallery if entry.group == key]
        if entries:
            groups.append(Group(title, meaning, tuple(_shown(directory, results, entry) for entry in entries)))
    return groups


def _shown(directory: Path, results: CategoryResults, entry: GalleryEntry) -> Shown:
    if not 0 <= entry.picture < len(results.pictures):
        raise ExportError(
            f"{directory / RESULTS}: the gallery names picture {entry.picture}, but there are "
            f"{len(results.pictures)}; evaluate again"
        )
    picture = results.pictures[entry.picture]
    return Shown(picture, picture.score / results.operating.threshold, embed_jpeg(directory, entry.panel))


def _facts(run: Sequence[CategoryResults]) -> tuple[tuple[str, str], ...]:
    """What was measured with what; where categories differ, all their values."""

    def each(value: Callable[[CategoryResults], str]) -> str:
        return ", ".join(dict.fromkeys(value(results) for results in run))

    taught = f"{_range([results.taught for results in run])} good parts"
    held_out = f"{_range([results.held_out for results in run])} held out for the threshold"
    return (
        ("Network", each(lambda results: results.backbone)),
        ("Arithmetic", each(lambda results: f"IR {results.ir_precision}, executed in {results.arithmetic}")),
        ("Input", each(lambda results: f"{results.input_size[1]}×{results.input_size[0]} pixels")),
        ("Memory bank", f"{_range([results.bank_vectors for results in run])} vectors of {_dimensions(run)}"),
        ("Taught from", f"{taught}, and {held_out}"),
        ("Time to teach", f"{_range([round(results.teach_s) for results in run])} s"),
        ("Bundle", each(lambda results: results.bundle)),
        ("Machine", each(lambda results: results.machine)),
        ("Evaluated", _range_of_times([results.created_at for results in run])),
        ("Settings", each(lambda results: _listed(results.settings))),
        ("Versions", each(lambda results: _listed(results.versions))),
    )


def _dimensions(run: Sequence[CategoryResults]) -> str:
    return _range([results.dimension for results in run]) + " dimensions"


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def _range_of_times(times: Sequence[str]) -> str:
    first, last = moment(min(times)), moment(max(times))
    return first if first == last else f"{first} to {last}"


def _listed(values: dict[str, str]) -> str:
    return ", ".join(f"{key} {value}" for key, value in sorted(values.items()))


def _tiles(run: Sequence[CategoryResults]) -> tuple[Tile, ...]:
    pixels = [results.pixel for results in run]
    total = fmean(results.stage_ms.get("total", sum(results.stage_ms.values())) for results in run)
    return (
        _mean_tile("Image AUROC", [results.image.auroc for results in run]),
        _mean_tile("Pixel AUROC", [None if pixel is None else pixel.auroc for pixel in pixels]),
        _mean_tile("AUPRO, to 30 %", [None if pixel is None else pixel.aupro for pixel in pixels]),
        _rate_tile("Good parts rejected", [results.operating.false_rejects for results in run]),
        _rate_tile("Defective parts missed", [results.operating.misses for results in run]),
        Tile("Time for one picture", milliseconds(total), "ms", f"median, all stages{_averaged(len(run))}"),
    )


def _mean_tile(name: str, shares: Sequence[float | None]) -> Tile:
    mean = mean_of_all(shares)
    if mean is None:
        lacking = sum(share is None for share in shares)
        return Tile(name, "–", note="there are no masks" if lacking == len(shares) else f"{lacking} without masks")
    return Tile(name, percent(mean), "%", f"mean of {len(shares)} categories" if len(shares) > 1 else "")


def _rate_tile(name: str, rates: Sequence[Rate]) -> Tile:
    """One category's parts; or the mean of the categories' rates, as every mean, and how many parts that are."""
    if len(rates) == 1:
        (rate,) = rates
        note = f"{short_percent(rate.confidence)} confidence: {_interval(rate)}"
        return Tile(name, str(rate.count), f"of {rate.parts} ({short_percent(rate.rate)})", note)
    parts = f"{sum(rate.count for rate in rates)} of {sum(rate.parts for rate in rates)} parts"
    return Tile(name, percent(fmean(rate.rate for rate in rates), 1), "%", f"mean of {len(rates)} categories; {parts}")


def _averaged(categories: int) -> str:
    return f", mean of {categories} categories" if categories > 1 else ""


def _interval(rate: Rate) -> str:
    return f"{percent(rate.low, 1).removesuffix('.0')}–{short_percent(rate.high)}"
