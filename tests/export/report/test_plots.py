from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import cv2
import numpy as np
import pytest

from edge.errors import ExportError
from export.report.plots import plot_histogram, plot_pro, plot_roc, plot_stages
from export.report.style import Drawing, save, shorten
from export.report.sweep_plots import Line, Panel, Point, plot_sweep, plot_tradeoff
from tests.export.evaluation.made_results import SCORES, make_results

RATIOS = (0.25, 0.01, 0.001)
LABELS: dict[float | str, str] = {0.25: "25 %", 0.01: "1 %", 0.001: "0.1 %"}


def sweep(labels: dict[float | str, str] = LABELS) -> Drawing:
    x = tuple(labels)
    lines = tuple(Line(name, x, tuple(99.0 - place for place in range(len(x)))) for name in ("greedy", "random"))
    panels = (Panel("Quality", "image AUROC (%)", lines, "up_to_100"), Panel("Time", "ms", lines, "from_0"))
    return plot_sweep("coreset ratio", labels, panels, "sweep")


def every_plot() -> list[Drawing]:
    results = make_results()
    drawn = [
        plot_roc(results, "roc"),
        plot_pro(results, "pro"),
        plot_histogram(results, "scores"),
        plot_stages(results, "stages"),
        sweep(),
        plot_tradeoff([Point("a", "", 20.0, 99.0), Point("b", "", 50.0, 99.5)], "ms", "AUROC (%)", "tradeoff"),
    ]
    return [drawing for drawing in drawn if drawing is not None]


def texts(drawing: Drawing) -> list[str]:
    return [element.text or "" for element in ET.fromstring(drawing.svg).iter("{http://www.w3.org/2000/svg}text")]


def place_of(drawing: Drawing, text: str) -> float:
    for element in ET.fromstring(drawing.svg).iter("{http://www.w3.org/2000/svg}text"):
        if element.text == text:
            return float(element.attrib["x"])
    raise AssertionError(f"{text} is not in {texts(drawing)}")


@pytest.mark.parametrize("drawing", every_plot(), ids=lambda drawing: drawing.name)
def test_every_plot_is_a_picture_and_valid_svg(drawing: Drawing) -> None:
    picture = cv2.imdecode(np.frombuffer(drawing.png, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert min(picture.shape[:2]) > 300
    assert picture.std() > 5
    assert ET.fromstring(drawing.svg).tag == "{http://www.w3.org/2000/svg}svg"
    assert len(texts(drawing)) > 5


def test_the_same_results_give_the_same_bytes() -> None:
    for first, second in zip(every_plot(), every_plot(), strict=True):
        assert first == second
        assert b"<dc:date>" not in first.svg


def test_without_masks_there_is_no_pro() -> None:
    assert plot_pro(make_results(pixel=None), "pro") is None


def test_pro_says_both_areas() -> None:
    drawing = plot_pro(make_results(), "pro")
    assert drawing is not None
    assert "PRO of defect regions: AUPRO 93.1 %" in texts(drawing)
    assert "to 5 %: AUPRO 65.0 %" in texts(drawing)


def test_the_histogram_counts_each_kind() -> None:
    shown = texts(plot_histogram(make_results(), "scores"))
    assert {"good (5)", "scratch (3)", "dent (2)", "threshold 2"} <= set(shown)


def test_names_are_shown_as_they_are() -> None:
    names = ("<script>&", "$x_1$", "_hidden", "欠陥", "line\nbreak")
    shown = texts(plot_histogram(make_results(scores={"good": (1.0,)} | dict.fromkeys(names, (3.0,))), "scores"))
    assert {"<script>& (1)", "$x_1$ (1)", "_hidden (1)", "欠陥 (1)", "line�break (1)"} <= set(shown)


def test_a_long_name_is_shortened_and_keeps_its_count() -> None:
    drawing = plot_histogram(make_results(scores={"good": (1.0,), "long" * 50: (3.0, 4.0)}), "scores")
    (shown,) = [text for text in texts(drawing) if text.startswith("long")]
    assert shown.endswith("… (2)")
    assert len(shown) < 40


def test_more_kinds_than_colours_are_put_together() -> None:
    scores = {"good": (1.0,)} | {f"kind{number}": (3.0,) * (20 - number) for number in range(12)}
    shown = texts(plot_histogram(make_results(scores=scores), "scores"))
    assert "kind0 (20)" in shown
    assert f"7 further kinds ({sum(20 - number for number in range(5, 12))})" in shown


def test_equal_scores_can_be_drawn() -> None:
    scores = {"good": (2.0, 2.0), "dent": (2.0,)}
    assert "dent (1)" in texts(plot_histogram(make_results(scores=scores), "scores"))


def test_scores_far_apart_are_drawn_on_a_logarithmic_axis() -> None:
    far = plot_histogram(make_results(scores={**SCORES, "dent": (900.0,)}), "scores")
    near = plot_histogram(make_results(), "scores")
    assert "anomaly score (higher is worse, logarithmic)" in texts(far)
    assert "anomaly score (higher is worse)" in texts(near)
    assert not [text for text in texts(far) if "mathdefault" in text]


def test_a_sweep_over_numbers_far_apart_is_spaced_logarithmically() -> None:
    drawing = sweep({0.001: "0.1 %", 0.01: "1 %", 0.1: "10 %"})
    first, second, third = (place_of(drawing, text) for text in ("0.1 %", "1 %", "10 %"))
    assert second - first == pytest.approx(third - second, rel=0.01)


def test_a_sweep_over_near_numbers_is_spaced_by_value() -> None:
    drawing = sweep({1: "one", 2: "two", 5: "five"})
    first, second, third = (place_of(drawing, text) for text in ("one", "two", "five"))
    assert third - second == pytest.approx(3 * (second - first), rel=0.01)


def test_a_sweep_over_texts_is_spaced_evenly() -> None:
    drawing = sweep({"layer1": "layer1", "layer2": "layer2", "both": "both"})
    first, second, third = (place_of(drawing, text) for text in ("layer1", "layer2", "both"))
    assert second - first == pytest.approx(third - second, rel=0.01)


def test_a_sweep_names_its_series_once() -> None:
    assert texts(sweep()).count("greedy") == 1


def test_a_description_says_the_figures() -> None:
    assert plot_roc(make_results(), "roc").description == (
        "ROC curve, image AUROC 96.00 %. The deployed threshold rejects 20.0 % of the good parts and finds 80.0 % of "
        "the defective ones."
    )
    assert "greedy: 99 at 0.25, 98 at 0.01, 97 at 0.001" in sweep().description


def test_plots_are_saved_as_png_and_svg(tmp_path: Path) -> None:
    drawing = sweep()
    png, svg = save(drawing, tmp_path / "plots")
    assert (png.name, svg.name) == ("sweep.png", "sweep.svg")
    assert (png.read_bytes(), svg.read_bytes()) == (drawing.png, drawing.svg)


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "plots").write_text("a file")
    with pytest.raises(ExportError, match=r"plots: plots cannot be written"):
        save(sweep(), tmp_path / "plots")


def test_shorten_keeps_short_names() -> None:
    assert shorten("broken_large") == "broken_large"
    assert len(shorten("x" * 100)) == 26
