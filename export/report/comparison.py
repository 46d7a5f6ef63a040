"""A run's figures beside the published ones, and in which of them like is compared with like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from export.evaluation.results import CategoryResults
from export.metrics.means import mean_of_all
from export.report.published import conditions_of, differences, published_category
from export.report.published_figures import BY_CATEGORY, FULL_SIZE, MEANS, Figures, Published

_METRICS = ("image_auroc", "pixel_auroc", "aupro")
_NAMES = ("image", "pixel", "AUPRO")


@dataclass(frozen=True, slots=True)
class Column:
    """One metric of one source."""

    source: Published
    metric: int  # index into image AUROC, pixel AUROC, AUPRO

    @property
    def name(self) -> str:
        """Of the metric."""
        return _NAMES[self.metric]


@dataclass(frozen=True, slots=True)
class Row:
    """One category, or a mean. Percentages; none: not measured, or not published."""

    name: str
    ours: tuple[float | None, ...]
    theirs: tuple[float | None, ...]  # one for each column


@dataclass(frozen=True, slots=True)
class Source:
    """A published source, and what besides the common differences keeps this run from being compared with it."""

    published: Published
    differences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The categories of a run that others published figures for."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    mean_of_rows: Row
    published_mean: Row
    sources: tuple[Source, ...]
    common: tuple[str, ...]  # differences from every source; left out of `sources`
    alike: tuple[str, ...]  # titles of the sources that differ in nothing that is known
    categories: int  # of the dataset

    @property
    def groups(self) -> tuple[tuple[Published, int], ...]:
        """Sources in the order of the columns, and how many columns each has."""
        sources = dict.fromkeys(column.source.key for column in self.columns)
        by_key = {column.source.key: column.source for column in self.columns}
        return tuple((by_key[key], sum(column.source.key == key for column in self.columns)) for key in sources)


def compare(run: Sequence[CategoryResults]) -> Comparison | None:
    """Put `run` beside what is published; none, where nothing is published about any of its categories."""
    known = [(name, results) for results in run if (name := published_category(results)) is not None]
    if not known:
        return None
    columns = tuple(_columns())
    rows = tuple(
        Row(name, _ours(results), tuple(_theirs(column, name) for column in columns)) for name, results in known
    )
    conditions = conditions_of([results for _, results in known])
    found = [(published, differences(conditions, published)) for published in BY_CATEGORY + MEANS]
    common = tuple(text for text in found[0][1] if all(text in texts for _, texts in found))
    return Comparison(
        columns=columns,
        rows=rows,
        mean_of_rows=_mean_of(rows),
        published_mean=Row(
            f"published mean, all {len(FULL_SIZE)}",
            (None,) * len(_METRICS),
            tuple(_figure(column.source.mean, column.metric) for column in columns),
        ),
        sources=tuple(
            Source(published, tuple(text for text in texts if text not in common)) for published, texts in found
        ),
        common=common,
        alike=tuple(published.title for published, texts in found if not texts),
        categories=len(FULL_SIZE),
    )


def _columns() -> list[Column]:
    return [
        Column(source, metric)
        for source in BY_CATEGORY
        for metric in range(len(_METRICS))
        if any(_figure(figures, metric) is not None for figures in source.categories.values())
    ]


def _figure(figures: Figures, metric: int) -> float | None:
    return (figures.image_auroc, figures.pixel_auroc, figures.aupro)[metric]


def _ours(results: CategoryResults) -> tuple[float | None, ...]:
    pixel = results.pixel
    return (
        100 * results.image.auroc,
        None if pixel is None else 100 * pixel.auroc,
        None if pixel is None else 100 * pixel.aupro,
    )


def _theirs(column: Column, category: str) -> float | None:
    return _figure(column.source.categories.get(category, Figures()), column.metric)


def _mean_of(rows: Sequence[Row]) -> Row:
    count = "this one" if len(rows) == 1 else f"these {len(rows)}"
    return Row(
        f"mean of {count}",
        tuple(mean_of_all(values) for values in zip(*(row.ours for row in rows), strict=True)),
        tuple(mean_of_all(values) for values in zip(*(row.theirs for row in rows), strict=True)),
    )
