"""Plots over a parameter that was varied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from export.metrics.detection import Float64Array
from export.report.style import (
    LOG_FROM,
    MARKERS,
    OTHER_COLOUR,
    PALETTE,
    PAPER,
    SIZE,
    Drawing,
    drawing,
    shorten,
    write_legend,
)

_LETTERS_ON_AXIS = 66  # that fit below one panel of a sweep


@dataclass(frozen=True, slots=True)
class Line:
    """One series of a sweep; a text among the x values makes the axis evenly spaced."""

    name: str
    x: tuple[float | str, ...]
    y: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """One of a sweep's plots."""

    title: str
    y_label: str
    lines: tuple[Line, ...]
    bounds: Literal["up_to_100", "from_0"]  # percentages of quality; whatever is better the smaller it is


@dataclass(frozen=True, slots=True)
class Point:
    """One setting, by what it costs and what it gives."""

    name: str
    series: str
    x: float
    y: float


def plot_sweep(parameter: str, labels: Mapping[float | str, str], panels: Sequence[Panel], name: str) -> Drawing:
    """Panels side by side over the same parameter; numbers far apart are spaced logarithmically.

    Args:
        parameter: what is varied, with its unit.
        labels: for each value of it what the axis says.
        panels: what came of it.
        name: of the drawing.
    """

    def draw(figure: Figure) -> None:
        for number, panel in enumerate(panels):
            axes = figure.add_subplot(1, len(panels), number + 1)
            _draw_panel(axes, panel, labels)
            axes.set_xlabel(parameter)
            if number == 0 and len(panel.lines) > 1:
                _legend_of_lines(figure, axes, panel.lines)

    return drawing(
        name,
        " ".join(_describe_panel(panel, parameter) for panel in panels),
        (SIZE[0] * len(panels), SIZE[1]),
        draw,
    )


def plot_tradeoff(points: Sequence[Point], x_label: str, y_label: str, name: str) -> Drawing:
    """Every setting as a labelled point: the best are at the upper left."""
    series = list(dict.fromkeys(point.series for point in points))

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for number, group in enumerate(series):
            own = [point for point in points if point.series == group]
            colour = PALETTE[number % len(PALETTE)]
            marker = MARKERS[number % len(MARKERS)]
            axes.plot([point.x for point in own], [point.y for point in own], marker, color=colour, zorder=3)
            for point in own:  # the labels of every other series below, so that near ones do not meet
                offset = (7, 4) if number % 2 == 0 else (7, -11)
                axes.annotate(shorten(point.name), (point.x, point.y), offset, textcoords="offset points")
        axes.margins(x=0.1, y=0.16)
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.set_title("Upper left is better: more quality in less time")
        if len(series) > 1:
            write_legend(
                axes.legend(axes.get_lines(), ["-"] * len(series), loc="best").get_texts(),
                [shorten(group) for group in series],
            )

    described = "; ".join(f"{point.series} {point.name}: {point.y:.2f} at {point.x:.1f}".strip() for point in points)
    return drawing(name, f"{y_label} over {x_label}. {described}.", (2 * SIZE[0], SIZE[1]), draw)


def _legend_of_lines(figure: Figure, axes: Axes, lines: Sequence[Line]) -> None:
    handles = axes.get_lines()[: len(lines)]
    legend = figure.legend(handles, ["-"] * len(lines), loc="outside lower center", ncols=min(4, len(lines)))
    write_legend(legend.get_texts(), [shorten(line.name) for line in lines])


def _draw_panel(axes: Axes, panel: Panel, labels: Mapping[float | str, str]) -> None:
    values = _all_values(panel.lines)
    places = _places(values)
    for number, line in enumerate(panel.lines):
        axes.plot(
            [places[value] for value in line.x],
            line.y,
            marker=MARKERS[number % len(MARKERS)],
            color=PALETTE[number] if number < len(PALETTE) else OTHER_COLOUR,
            markeredgecolor=PAPER,
            zorder=3,
        )
    _label_values(axes, places, labels)
    _bound(axes, panel)
    axes.set_ylabel(panel.y_label)
    axes.set_title(shorten(panel.title))


def _bound(axes: Axes, panel: Panel) -> None:
    """Keep differences that mean nothing from looking large, and the axis from promising more than 100 %."""
    every = [y for line in panel.lines for y in line.y]
    if panel.bounds == "from_0":
        axes.set_ylim(0, 1.1 * max([*every, 1.0]))
    else:
        middle, span = (max(every) + min(every)) / 2, max(max(every) - min(every), 1.0)
        axes.set_ylim(max(0.0, middle - 0.58 * span), min(middle + 0.58 * span, 100 + 0.04 * span))


def _all_values(lines: Sequence[Line]) -> list[float | str]:
    """Each x value once: numbers rising, otherwise in the order of their first appearance."""
    values = list(dict.fromkeys(value for line in lines for value in line.x))
    numbers = [value for value in values if not isinstance(value, str)]
    return sorted(numbers) if len(numbers) == len(values) else values


def _places(values: Sequence[float | str]) -> Mapping[float | str, float]:
    if any(isinstance(value, str) for value in values):
        return {value: float(number) for number, value in enumerate(values)}
    return {value: float(value) for value in values}


def _label_values(axes: Axes, places: Mapping[float | str, float], labels: Mapping[float | str, str]) -> None:
    at = list(places.values())
    evenly = any(isinstance(value, str) for value in places)
    logarithmic = not evenly and min(at) > 0 and max(at) / min(at) >= LOG_FROM
    if logarithmic:
        axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(at))
    axes.xaxis.set_minor_locator(NullLocator())
    texts = [shorten(labels[value]) for value in places]
    crowded = _crowded(np.log(at) if logarithmic else np.array(at), texts)
    axes.set_xticklabels(texts, rotation=30 if crowded else 0, ha="right" if crowded else "center")
    axes.margins(x=0.06)


def _crowded(at: Float64Array, texts: Sequence[str]) -> bool:
    """Whether two neighbours' labels would touch."""
    if len(texts) < 2:
        return False
    room = np.diff(at) / (at[-1] - at[0]) * _LETTERS_ON_AXIS
    lengths = np.array([len(text) for text in texts])
    return bool((room < (lengths[:-1] + lengths[1:]) / 2 + 1).any())


def _describe_panel(panel: Panel, parameter: str) -> str:
    lines = "; ".join(
        f"{line.name}: " + ", ".join(f"{y:.4g} at {x}" for x, y in zip(line.x, line.y, strict=True))
        for line in panel.lines
    )
    return f"{panel.title} ({panel.y_label}) over {parameter}. {lines}."
