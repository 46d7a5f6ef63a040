"""How plots look, and how they are written."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.typing import RcKeyType

from edge.errors import ExportError
from edge.files.atomic import write_file

# What a page may replace in an SVG by colours of its own (light and dark).
INK = "#1b2126"


FAINT = "#c9ced3"


PAPER = "#fefefe"


# Okabe & Ito 2008, without black; good parts are the first one everywhere.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#b5a900")


GOOD_COLOUR = PALETTE[0]


OTHER_COLOUR = "#8a9097"


_DPI = 150  # of PNG files


SIZE = (6.3, 3.9)  # inches: two side by side fill a page


_NAME_LENGTH = 26


LOG_FROM = 30.0  # scores or values over more than this ratio are shown on a logarithmic axis


MARKERS = "osD^vPX"


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


def write_legend(texts: Sequence[Text], names: Sequence[str]) -> None:
    """Put names into a legend; given to it at once, one that begins with _ would be left out."""
    for text, name in zip(texts, names, strict=True):
        text.set_text(name)


def show_milliseconds(value: float) -> str:
    """A duration as axes show it."""
    return f"{value:.2g} ms" if value < 10 else f"{value:.0f} ms"
