"""Self-contained HTML pages: one file that opens without a network, on paper too, with everything escaped.

Templates escape by themselves. What comes around that is made here: pictures as data addresses, and plots as SVG that
takes the page's colours, light or dark.
"""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from edge import __version__
from edge.errors import ExportError
from edge.files.atomic import write_file
from export.report.style import FAINT, INK, PAPER, Drawing

_SVG = "{http://www.w3.org/2000/svg}"
_HREF = "{http://www.w3.org/1999/xlink}href"
_PAGE_COLOURS = {INK: "var(--ink)", FAINT: "var(--line)", PAPER: "var(--panel)"}
_JPEG = b"\xff\xd8\xff"


def write_page(path: Path, template: str, **context: Any) -> None:
    """Render `template` to `path`, whole or not at all.

    Raises:
        ExportError: the disk refuses.
    """
    text = _environment().get_template(template).render(program=f"Patchline {__version__}", **context)
    try:
        write_file(path, text.encode())
    except OSError as error:
        raise ExportError(f"{path}: cannot be written ({error.strerror})") from error


def embed_jpeg(directory: Path, name: str) -> str:
    """The picture `directory/name` as a data address.

    Raises:
        ExportError: it lies elsewhere, cannot be read, or is no JPEG.
    """
    path = directory / name
    if not path.resolve().is_relative_to(directory.resolve()):
        raise ExportError(f"{path}: not below {directory}; results name pictures that lie beside them: evaluate again")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ExportError(
            f"{path}: a picture of the gallery cannot be read ({error.strerror}); "
            "copy the directory of results whole, or evaluate again"
        ) from error
    if not data.startswith(_JPEG):
        raise ExportError(f"{path}: not a JPEG file; copy the directory of results whole, or evaluate again")
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def embed_drawing(drawing: Drawing) -> Markup:
    """The plot as SVG for use inside a page: colours follow the page, and its ids are its own."""
    for prefix, uri in (("", _SVG), ("xlink", _HREF)):
        ET.register_namespace(prefix, uri[1 : uri.index("}")])
    root = ET.fromstring(drawing.svg)  # noqa: S314 — made by `plots`, from figures
    width, height = root.attrib.pop("width"), root.attrib.pop("height")
    # Drawn at 72 points to the inch; a page has 96 pixels to the inch.
    root.set("style", f"width: {_pixels(width):.0f}px; aspect-ratio: {_pixels(width) / _pixels(height):.4f}")
    root.set("role", "img")
    root.set("aria-label", drawing.description)
    for parent in list(root.iter()):
        for style in parent.findall(f"{_SVG}style"):
            parent.remove(style)  # it would hold for the whole page, which has its own
        _localise(parent, drawing.name)
    return Markup(ET.tostring(root, encoding="unicode"))  # noqa: S704 — serialised, hence escaped


def percent(share: float, digits: int = 2) -> str:
    """A share as a percentage, without its sign."""
    return f"{100 * share:.{digits}f}"


def short_percent(share: float) -> str:
    """A share as people say it, not to be broken over lines: '10 %', '1.2 %', '0 %'."""
    return f"{100 * share:.1f}".removesuffix(".0") + "\N{NO-BREAK SPACE}%"


def as_published(figure: float) -> str:
    """A percentage with the digits that it was published with: one, or two."""
    return f"{figure:.2f}".removesuffix("0")


def moment(text: str) -> str:
    """A time of RFC 3339 as people read it, to the minute; what is none stays as it is."""
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        return text
    return f"{parsed:%Y-%m-%d %H:%M} {parsed.tzname() or ''}".rstrip()


def milliseconds(value: float) -> str:
    """Two digits where there are few."""
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "percent": percent,
        "short_percent": short_percent,
        "as_published": as_published,
        "moment": moment,
        "ms": milliseconds,
        "plot": embed_drawing,
        "policy_hash": _policy_hash,
    }
    return environment


def _policy_hash(script: str) -> str:
    """Of the one script that the page's own policy lets run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _localise(element: ET.Element, name: str) -> None:
    own = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    for key, value in element.attrib.items():
        if key == "id":
            element.set(key, f"{own}-{value}")
        elif key == _HREF:
            element.set(key, value.replace("#", f"#{own}-"))
        elif key == "clip-path":
            element.set(key, value.replace("url(#", f"url(#{own}-"))
        elif key == "style":
            element.set(key, _with_page_colours(value))


def _with_page_colours(style: str) -> str:
    for colour, variable in _PAGE_COLOURS.items():
        style = style.replace(colour, variable)
    return style


def _pixels(points: str) -> float:
    return float(points.removesuffix("pt")) * 96 / 72
