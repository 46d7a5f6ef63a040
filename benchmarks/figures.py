"""Plots of benchmarks, in the style of the evaluation's."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from benchmarks.records import CaseResult, Curve, VariantResult
from export.metrics.detection import Float64Array

# Same style, same bytes for the same figure: drawn by the very function that draws the evaluation's plots.
from export.report.style import FAINT, INK, OTHER_COLOUR, PALETTE, Drawing, drawing
from export.report.sweep_plots import Line, Panel, plot_sweep

_ROW, _REST, _WIDTH = 0.62, 1.35, 8.4  # inches: of one variant, of axis and legend, of the whole
_BINS_PER_DECADE = 44
_TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)  # milliseconds
_PASS, _FAIL = PALETTE[0], PALETTE[1]
_KINDS = ["PASS (graph: good parts)", "FAIL: map, regions, crops (graph: defective parts)"]


def draw_latencies(case: CaseResult, name: str) -> Drawing:
    """A row for each variant over one logarithmic axis: how often a frame took how long."""
    every = [ms for variant in case.variants for ms in _all_ms(variant)]
    edges = _edges(min(every), max(every))

    def draw(figure: Figure) -> None:
        rows = figure.subplots(len(case.variants), 1, sharex=True, squeeze=False)[:, 0]
        for axes, variant in zip(rows, case.variants, strict=True):
            _draw_row(axes, variant, edges)
        _label_axis(rows[-1], edges)
        handles = [rows[0].fill_between([], [], color=colour, alpha=0.75) for colour in (_PASS, _FAIL)]
        figure.legend(handles, _KINDS, loc="outside lower right", ncols=2)
        figure.suptitle(
            f"{case.backbone}, {case.input_size}, bank {case.bank_vectors}×{case.dimension}: time of one frame",
            x=0.01, ha="left", fontsize=11, fontweight="bold",
        )  # fmt: skip

    described = "; ".join(f"{variant.title}: {_describe(variant)}" for variant in case.variants)
    size = (_WIDTH, _ROW * len(case.variants) + _REST)
    return drawing(name, f"Histograms of the latency of one frame, {case.name}. {described}.", size, draw)


def draw_curve(curve: Curve) -> Drawing:
    """Its panels side by side."""
    panels = [
        Panel(panel.title, panel.y_label, tuple(Line(line.name, line.x, line.y) for line in panel.lines), "from_0")
        for panel in curve.panels
    ]
    values = sorted({x for panel in curve.panels for line in panel.lines for x in line.x})
    return plot_sweep(curve.parameter, {value: _short(value) for value in values}, panels, curve.name)


def _draw_row(axes: Axes, variant: VariantResult, edges: Float64Array) -> None:
    for latency, colour in ((variant.passes, _PASS), (variant.fails, _FAIL)):
        if latency is None:
            continue
        counts, _ = np.histogram(latency.ms, edges)
        axes.stairs(counts / counts.max(), edges, fill=True, color=colour, alpha=0.75, linewidth=0)
        axes.axvline(latency.p50, color=colour, linewidth=1.2)
    axes.set_ylim(0, 1.15)
    axes.yaxis.set_major_locator(NullLocator())
    axes.spines["left"].set_visible(False)
    axes.grid(visible=True, axis="x", color=FAINT)
    axes.tick_params(axis="x", length=0)
    axes.text(-0.01, 0.18, variant.title, transform=axes.transAxes, ha="right", color=INK)
    axes.text(1.005, 0.18, _describe(variant), transform=axes.transAxes, ha="left", color=INK, fontsize=8.5)
    axes.axhline(0, color=OTHER_COLOUR, linewidth=0.8)


def _label_axis(axes: Axes, edges: Float64Array) -> None:
    axes.set_xscale("log")
    axes.set_xlim(edges[0], edges[-1])
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in _TICKS if edges[0] <= tick <= edges[-1]]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("milliseconds, picture in memory to verdict (logarithmic; lines: median)")


def _describe(variant: VariantResult) -> str:
    fails = "" if variant.fails is None else f" / {_short(variant.fails.p50)}"
    return f"p50 {_short(variant.passes.p50)}{fails} ms"


def _edges(low: float, high: float) -> Float64Array:
    count = max(8, round(_BINS_PER_DECADE * np.log10(1.2 * high / low)))
    return np.geomspace(low / 1.1, high * 1.1, count + 1)


def _all_ms(variant: VariantResult) -> list[float]:
    return [*variant.passes.ms, *(() if variant.fails is None else variant.fails.ms)]


def _short(value: float) -> str:
    """Three digits, thousands as k."""
    if value >= 1000 and value % 100 == 0:
        return f"{value / 1000:g}k"
    return f"{value:.0f}" if value >= 100 or value == round(value) else f"{value:.1f}"
