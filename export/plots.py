"""Plots of evaluations and experiments: every one a matplotlib `Figure`, drawn without global state.

One style for all: the Okabe-Ito palette, told apart by the colour-blind, and nothing that depends on colour alone
where a legend or a label can say it. The same figure gives the same bytes. Names of categories and kinds come from
folders: they are shown as they are, never read as mathematical text, and shortened where they would not fit.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter
from matplotlib.typing import RcKeyType

from edge.atomic import write_file
from edge.errors import ExportError
from export.metrics import PRO_LIMIT, PRO_LIMIT_STRICT, Float64Array
from export.results import CategoryResults, PictureResult

# What a page may replace in an SVG by colours of its own (light and dark).
INK = "#1b2126"
FAINT = "#c9ced3"
PAPER = "#fefefe"
# Okabe & Ito 2008, without black; good parts are the first one everywhere.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#b5a900")
GOOD_COLOUR = PALETTE[0]
OTHER_COLOUR = "#8a9097"

_DPI = 150  # of PNG files
_SIZE = (6.3, 3.9)  # inches: two side by side fill a page
_GOOD = "good"
_SHOWN_KINDS = len(PALETTE) - 1
_NAME_LENGTH = 26
_LOG_FROM = 30.0  # scores or values over more than this ratio are shown on a logarithmic axis
_LETTERS_ON_AXIS = 66  # that fit below one panel of a sweep
_MARKERS = "osD^vPX"
_STYLE: dict[RcKeyType, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.facecolor": PAPER,
    "axes.formatter.useoffset": False,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.prop_cycle": f"cycler('color', {list(PALETTE)!r})",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "figure.dpi": 100,
    "figure.facecolor": PAPER,
    "font.family": "DejaVu Sans",  # matplotlib's own: the same everywhere
    "font.size": 9.5,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 2.0,
    "lines.markersize": 6,
    "svg.fonttype": "none",  # text stays text: it can be read out, searched and printed
    "svg.hashsalt": "patchline",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": INK,
    "ytick.color": INK,
}


@dataclass(frozen=True, slots=True)
class Drawing:
    """A finished plot."""

    name: str  # of its files, without suffix
    description: str  # in words, for who cannot see it
    png: bytes
    svg: bytes


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


def save(drawing: Drawing, directory: Path) -> tuple[Path, Path]:
    """Write `drawing` as PNG and SVG below `directory`; returns both paths.

    Raises:
        ExportError: the disk refuses.
    """
    paths = directory / f"{drawing.name}.png", directory / f"{drawing.name}.svg"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, contents in zip(paths, (drawing.png, drawing.svg), strict=True):
            write_file(path, contents)
    except OSError as error:
        raise ExportError(f"{directory}: plots cannot be written ({error.strerror})") from error
    return paths


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
        _SIZE,
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
        _SIZE,
        draw,
    )


def plot_histogram(results: CategoryResults, name: str) -> Drawing:
    """Scores of good parts and of each kind of defect, stacked, with the deployed threshold."""
    threshold = results.operating.threshold
    groups = _score_groups(results.pictures)
    every = [score for scores in groups.values() for score in scores] + [threshold]
    logarithmic = min(every) > 0 and max(every) / min(every) > _LOG_FROM
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
        _SIZE,
        draw,
    )


def plot_stages(results: CategoryResults, name: str) -> Drawing:
    """Median time of each stage."""
    stages = {stage: value for stage, value in results.stage_ms.items() if stage != "total"}
    total = results.stage_ms.get("total", sum(stages.values()))

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        bars = axes.barh(list(stages), list(stages.values()), color=GOOD_COLOUR, height=0.62)
        axes.bar_label(bars, [_milliseconds(value) for value in stages.values()], padding=4)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlim(right=1.18 * max([*stages.values(), 1e-3]))
        axes.set_xlabel("median time for one picture (ms)")
        axes.set_title(f"Time per stage, {_milliseconds(total)} in all")

    described = ", ".join(f"{stage} {_milliseconds(value)}" for stage, value in stages.items())
    return drawing(name, f"Median time per stage: {described}; {_milliseconds(total)} in all.", _SIZE, draw)


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
        (_SIZE[0] * len(panels), _SIZE[1]),
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
            marker = _MARKERS[number % len(_MARKERS)]
            axes.plot([point.x for point in own], [point.y for point in own], marker, color=colour, zorder=3)
            for point in own:  # the labels of every other series below, so that near ones do not meet
                offset = (7, 4) if number % 2 == 0 else (7, -11)
                axes.annotate(shorten(point.name), (point.x, point.y), offset, textcoords="offset points")
        axes.margins(x=0.1, y=0.16)
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.set_title("Upper left is better: more quality in less time")
        if len(series) > 1:
            _write(
                axes.legend(axes.get_lines(), ["-"] * len(series), loc="best").get_texts(),
                [shorten(group) for group in series],
            )

    described = "; ".join(f"{point.series} {point.name}: {point.y:.2f} at {point.x:.1f}".strip() for point in points)
    return drawing(name, f"{y_label} over {x_label}. {described}.", (2 * _SIZE[0], _SIZE[1]), draw)


def shorten(name: str) -> str:
    """`name` in one line that fits a legend; what cannot be printed becomes �."""
    printable = "".join(letter if letter.isprintable() else "�" for letter in name)
    return printable if len(printable) <= _NAME_LENGTH else f"{printable[: _NAME_LENGTH - 1]}…"


def drawing(name: str, description: str, size: tuple[float, float], draw: Callable[[Figure], None]) -> Drawing:
    """What `draw` puts on a figure of `size` inches, in the style of every plot, as PNG and SVG."""
    with rc_context(_STYLE), warnings.catch_warnings():
        # Names in scripts that the font lacks: browsers show them in the SVG, the PNG has boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        return Drawing(
            name=name,
            description=description,
            png=_render(figure, "png", {"Software": None}),
            svg=_with_fallbacks(_render(figure, "svg", {"Date": None, "Creator": None, "Format": None, "Type": None})),
        )


def _render(figure: Figure, file_format: str, metadata: dict[str, None]) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format=file_format, dpi=_DPI if file_format == "png" else 72, metadata=metadata)
    return stream.getvalue()


def _with_fallbacks(svg: bytes) -> bytes:
    """Where the font is missing, browsers would take one with serifs."""
    return svg.replace(b"'DejaVu Sans'", b"'DejaVu Sans', Verdana, sans-serif")


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
    _write(legend.get_texts(), names)


def _legend_of_lines(figure: Figure, axes: Axes, lines: Sequence[Line]) -> None:
    handles = axes.get_lines()[: len(lines)]
    legend = figure.legend(handles, ["-"] * len(lines), loc="outside lower center", ncols=min(4, len(lines)))
    _write(legend.get_texts(), [shorten(line.name) for line in lines])


def _write(texts: Sequence[Text], names: Sequence[str]) -> None:
    """Put names into a legend; given to it at once, one that begins with _ would be left out."""
    for text, name in zip(texts, names, strict=True):
        text.set_text(name)


def _draw_panel(axes: Axes, panel: Panel, labels: Mapping[float | str, str]) -> None:
    values = _all_values(panel.lines)
    places = _places(values)
    for number, line in enumerate(panel.lines):
        axes.plot(
            [places[value] for value in line.x],
            line.y,
            marker=_MARKERS[number % len(_MARKERS)],
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
    logarithmic = not evenly and min(at) > 0 and max(at) / min(at) >= _LOG_FROM
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


def _milliseconds(value: float) -> str:
    return f"{value:.2g} ms" if value < 10 else f"{value:.0f} ms"
