from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import cv2
import numpy as np

from benchmarks.figures import draw_curve, draw_latencies
from export.report.style import Drawing, save
from tests.benchmarks.made_results import make_case, make_curves


def texts(drawing: Drawing) -> list[str]:
    return [element.text or "" for element in ET.fromstring(drawing.svg).iter("{http://www.w3.org/2000/svg}text")]


def test_the_histogram_names_every_variant_with_its_medians() -> None:
    shown = texts(draw_latencies(make_case(), "latency"))
    for variant in make_case().variants:
        assert variant.title in shown
    assert "p50 20 / 40 ms" in shown


def test_the_histogram_is_written_as_png_and_svg(tmp_path: Path) -> None:
    png, svg = save(draw_latencies(make_case(), "latency"), tmp_path)
    picture = cv2.imread(str(png))
    assert picture is not None
    assert min(picture.shape[:2]) > 300
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20  # drawn, not blank
    assert svg.name == "latency.svg"


def test_the_same_results_give_the_same_picture() -> None:
    assert draw_latencies(make_case(), "latency") == draw_latencies(make_case(), "latency")


def test_a_curve_names_its_lines_and_writes_thousands_short() -> None:
    shown = texts(draw_curve(make_curves().curves[0]))
    assert {"fast", "exact", "1k", "20k", "vectors in the bank"} <= set(shown)
