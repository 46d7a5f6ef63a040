"""Plots of evaluations and experiments: every one a matplotlib `Figure`, drawn without global state.

One style for all: the Okabe-Ito palette, told apart by the colour-blind, and nothing that depends on colour alone
where a legend or a label can say it. The same figure gives the same bytes. Names of categories and kinds come from
folders: they are shown as they are, never read as mathematical text, and shortened where they would not fit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

from export.evaluation.results import CategoryResults, PictureResult
from export.metrics.detection import PRO_LIMIT, PRO_LIMIT_STRICT, Float64Array
from export.report.style import (
    GOOD_COLOUR,
    INK,
    LOG_FROM,
    OTHER_COLOUR,
    PALETTE,
    PAPER,
    SIZE,
    Drawing,
    drawing,
    shorten,
    show_milliseconds,
    write_legend,
)

_GOOD = "good"
_SHOWN_KINDS = len(PALETTE) - 1


def plot_roc(results: CategoryResults, name: str) -> Drawing:
    """ROC of the image scores, with the point at which the deployed threshold works."""
    rejected, missed = results.operating.false_rejects.rate, results.operating.misses.rate

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.plot(results.image.roc.x, results.image.roc.y, color=GOOD_COLOUR, clip_on=False, zorder=3)
        axes.plot([0, 1], [0, 1], color=OTHER_COLOUR, linestyle=(0, (2, 3)), linewidth=1, label="chance")
        axes.plot(
            [rejected],
            [1 - missed],
            marker="o",
            markersize=9,
            color=PALETTE[1],
            markeredgecolor=PAPER,
            linestyle="none",
            clip_on=False,
            zorder=4,
            label="deployed threshold",
        )
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="good parts rejected", ylabel="defective parts found")
        _as_percentages(axes)
        axes.legend(loc="lower right")
        axes.set_title(f"ROC of parts: AUROC {100 * results.image.auroc:.2f} %")

    return drawing(
        name,
        f"ROC curve, image AUROC {100 * results.image.auroc:.2f} %. The deployed threshold rejects "
        f"{100 * rejected:.1f} % of the good parts and finds {100 * (1 - missed):.1f} % of the defective ones.",
        SIZE,
        draw,
    )


def plot_pro(results: CategoryResults, name: str) -> Drawing | None:
    """PRO up to 30 % false positives, with the stricter limit of 5 %; none without pixel metrics."""
    pixel = results.pixel
    if pixel is None:
        return None

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        x, y = _cut(pixel.pro.x, pixel.pro.y, PRO_LIMIT)
        axes.fill_between(x, y, color=GOOD_COLOUR, alpha=0.13, linewidth=0)
        axes.plot(x, y, color=GOOD_COLOUR, zorder=3)
        axes.axvline(PRO_LIMIT_STRICT, color=PALETTE[1], linewidth=1.4, linestyle=(0, (4, 2)))
        axes.annotate(
            f"to 5 %: AUPRO {100 * pixel.aupro_strict:.1f} %",
            (PRO_LIMIT_STRICT, 0.06),
            (6, 0),
            textcoords="offset points",
        )
        axes.set(xlim=(0, PRO_LIMIT), ylim=(0, 1))
        axes.set(xlabel="normal pixels marked (false positives)", ylabel="mean overlap with the defects")
        _as_percentages(axes)
        axes.set_title(f"PRO of defect regions: AUPRO {100 * pixel.aupro:.1f} %")

    return drawing(
        name,
        f"PRO curve up to 30 % false positives over {pixel.regions} defect regions: AUPRO {100 * pixel.aupro:.1f} %, "
        f"up to 5 %: {100 * pixel.aupro_strict:.1f} %.",
        SIZE,
        draw,
    )


def plot_histogram(results: CategoryResults, name: str) -> Drawing:
    """Scores of good parts and of each kind of defect, stacked, with the deployed threshold."""
    threshold = results.operating.threshold
    groups = _score_groups(results.pictures)
    every = [score for scores in groups.values() for score in scores] + [threshold]
    logarithmic = min(every) > 0 and max(every) / min(every) > LOG_FROM
    edges = _bin_edges(every, threshold, logarithmic=logarithmic)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        colours = _kind_colours(list(groups))
        axes.hist(
            list(groups.values()),
            bins=edges.tolist(),
            stacked=True,
            color=colours,
            edgecolor=PAPER,
            linewidth=0.5,
        )
        if logarithmic:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_locator(NullLocator())
        axes.axvline(threshold, color=INK, linewidth=1.6, linestyle=(0, (5, 2)), zorder=4)
        axes.set_ylim(top=axes.get_ylim()[1] * 1.12)
        axes.annotate(
            f"threshold {threshold:.3g}",
            (threshold, 1.0),
            (5, -4),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            va="top",
        )
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        scale = ", logarithmic" if logarithmic else ""
        axes.set(xlabel=f"anomaly score (higher is worse{scale})", ylabel="parts")
        _legend(axes, [f"{shorten(kind)} ({len(scores)})" for kind, scores in groups.items()], colours)
        axes.set_title("Scores: left of the threshold passes, right of it fails")

    counted = ", ".join(f"{len(scores)} {kind}" for kind, scores in groups.items())
    return drawing(
        name,
        f"Histogram of anomaly scores ({counted}) with the deployed threshold at {threshold:.4g}.",
        SIZE,
        draw,
    )


def plot_stages(results: CategoryResults, name: str) -> Drawing:
    """Median time of each stage."""
    stages = {stage: value for stage, value in results.stage_ms.items() if stage != "total"}
    total = results.stage_ms.get("total", sum(stages.values()))

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        bars = axes.barh(list(stages), list(stages.values()), color=GOOD_COLOUR, height=0.62)
        axes.bar_label(bars, [show_milliseconds(value) for value in stages.values()], padding=4)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlim(right=1.18 * max([*stages.values(), 1e-3]))
        axes.set_xlabel("median time for one picture (ms)")
        axes.set_title(f"Time per stage, {show_milliseconds(total)} in all")

    described = ", ".join(f"{stage} {show_milliseconds(value)}" for stage, value in stages.items())
    return drawing(name, f"Median time per stage: {described}; {show_milliseconds(total)} in all.", SIZE, draw)


def _as_percentages(axes: Axes) -> None:
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))


def _cut(x: Sequence[float], y: Sequence[float], limit: float) -> tuple[list[float], list[float]]:
    """The curve up to `limit`, where it ends on a straight line between its neighbours."""
    inside = [place for place, value in enumerate(x) if value < limit]
    kept = len(inside)
    end = float(np.interp(limit, x, y))
    return [*x[:kept], limit], [*y[:kept], end]


def _score_groups(pictures: Sequence[PictureResult]) -> dict[str, list[float]]:
    """Scores by kind, good parts first, then the most frequent kinds, what is left over as one."""
    groups: dict[str, list[float]] = {_GOOD: []}
    for picture in pictures:
        groups.setdefault(picture.kind, []).append(picture.score)
    kinds = sorted((kind for kind in groups if kind != _GOOD), key=lambda kind: (-len(groups[kind]), kind))
    shown = kinds if len(kinds) <= _SHOWN_KINDS else kinds[: _SHOWN_KINDS - 1]
    result = {_GOOD: groups[_GOOD], **{kind: groups[kind] for kind in shown}}
    rest = kinds[len(shown) :]
    if rest:
        result[f"{len(rest)} further kinds"] = [score for kind in rest for score in groups[kind]]
    return result


def _kind_colours(kinds: Sequence[str]) -> list[str]:
    return list(PALETTE[: len(kinds)])


def _bin_edges(values: Sequence[float], threshold: float, *, logarithmic: bool) -> Float64Array:
    low, high = min(values), max(values)
    if high <= low:
        return np.array([low - 0.5, low, low + 0.5])
    count = int(np.clip(round(2 * len(values) ** 0.5) + 6, 12, 48))
    if logarithmic:
        return np.exp(_edges_at(np.log(threshold), np.log(low), np.log(high), count))
    return _edges_at(threshold, low, high, count)


def _edges_at(place: float, low: float, high: float, count: int) -> Float64Array:
    """About `count` equal bins over `low` … `high`; one ends at `place`, so that no bar is on both sides of it."""
    width = (high - low) / count
    left, right = np.ceil((place - low) / width), np.ceil((high - place) / width)
    return place + width * np.arange(-max(left, 1), max(right, 1) + 1)


def _legend(axes: Axes, names: Sequence[str], colours: Sequence[str]) -> None:
    legend = axes.legend([Patch(color=colour) for colour in colours], ["-"] * len(names), loc="best")
    write_legend(legend.get_texts(), names)
