from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import ExportError, ResultsError
from export.evaluation.results import RESULTS, CategoryResults
from export.experiments.results import EXPERIMENT, ExperimentResults, ExperimentRow, write_experiment
from export.metrics.operating import rate_of
from export.report.evaluation_page import say_rate
from export.report.published_figures import FULL_SIZE
from export.report.render import PLOTS, render_experiment, render_report
from tests.export.evaluation.made_results import (
    SCORES,
    SETTINGS,
    make_experiment,
    make_measurement,
    make_results,
    write_category,
)

HOSTILE = "<script>alert('kind')</script>\"&$"


class Page(HTMLParser):
    """A page as a browser sees it: its elements, and its text without style and script."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.scripts: list[str] = []
        self._words: list[str] = []
        self._open = ""
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self._open = tag

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002 — the parser's own name
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            self.scripts.append(data)
        elif self._open != "style":
            self._words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self._words).replace("\N{NO-BREAK SPACE}", " ").split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def report_of(out: Path, *categories: CategoryResults) -> Page:
    for results in categories:
        write_category(out, results)
    return Page(render_report(out))


def experiment_page(directory: Path, results: ExperimentResults) -> Page:
    write_experiment(results, directory / EXPERIMENT)
    return Page(render_experiment(directory / EXPERIMENT))


def assert_self_contained(page: Page) -> None:
    for tag, attributes in page.elements:
        assert tag not in {"link", "iframe", "object", "embed", "base"}
        for name in ("src", "srcset", "poster", "data", "action"):
            assert attributes.get(name, "data:").startswith("data:"), (tag, attributes)
        if tag != "a":
            for name in ("href", "xlink:href"):
                assert attributes.get(name, "#").startswith("#"), (tag, attributes)
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
    assert "@import" not in page.source
    assert not re.search(r"url\((?!#)", page.source)


def assert_well_made(page: Page) -> None:
    """Ids are unique, links within the page lead somewhere, pictures are described, headers say of what."""
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    links = [attributes["href"] for attributes in page.all("a") if attributes["href"].startswith("#")]
    assert {link[1:] for link in links} <= set(ids)
    assert all(image["alt"] for image in page.all("img"))
    assert all("scope" in header for header in page.all("th"))
    assert all(svg["aria-label"] for svg in page.all("svg"))
    for drawing in re.findall(r"<svg.*?</svg>", page.source, re.DOTALL):
        used = set(re.findall(r'(?:xlink:href="#|url\(#)([^")]+)', drawing))
        assert used <= set(ids)


# ---- reports


def test_a_report_needs_nothing_but_itself(tmp_path: Path) -> None:
    write_category(tmp_path, make_results(), [("missed", 5), ("false_reject", 4), ("worst", 6), ("best", 9)])
    page = Page(render_report(tmp_path))
    assert_self_contained(page)
    assert_well_made(page)
    assert {link["href"] for link in page.all("a") if not link["href"].startswith("#")} >= {
        "https://arxiv.org/abs/2106.08265"
    }


def test_only_the_pages_own_script_may_run(tmp_path: Path) -> None:
    page = report_of(tmp_path, make_results(scores={**SCORES, HOSTILE: (3.0,)}))
    (script,) = page.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_hostile_names_are_text(tmp_path: Path) -> None:
    results = make_results(
        scores={**SCORES, HOSTILE: (3.0,)},
        machine=HOSTILE,
        backbone=HOSTILE,
        settings=SETTINGS | {HOSTILE: HOSTILE},
    ).model_copy(update={"category": HOSTILE})
    write_category(tmp_path, results.model_copy(update={"category": "bottle"}), [("worst", 10)])
    path = tmp_path / "bottle" / RESULTS
    path.write_text(
        path.read_text().replace('"category": "bottle"', f'"category": "{HOSTILE}'.replace('"&$', "") + '"')
    )
    page = Page(render_report(tmp_path))
    assert len(page.all("script")) == 1
    assert HOSTILE in page.text
    assert "alert('kind')" not in page.scripts[0]
    assert_self_contained(page)


def test_rendered_again_everything_is_the_same_to_the_byte(tmp_path: Path) -> None:
    write_category(tmp_path, make_results(), [("best", 9)])
    write_category(tmp_path, make_results("cable"))

    def render() -> dict[str, bytes]:
        files = [render_report(tmp_path), *(tmp_path / PLOTS).iterdir()]
        return {path.name: path.read_bytes() for path in files}

    first = render()
    assert len(first) == 1 + 2 * 2 * 4
    assert render() == first


def test_plots_are_files_too(tmp_path: Path) -> None:
    report_of(tmp_path, make_results(), make_results("cable", pixel=None))
    names = sorted(path.name for path in (tmp_path / PLOTS).glob("*.png"))
    assert names == [
        "bottle-pro.png",
        "bottle-roc.png",
        "bottle-scores.png",
        "bottle-stages.png",
        "cable-roc.png",
        "cable-scores.png",
        "cable-stages.png",
    ]
    assert all(cv2.imread(str(tmp_path / PLOTS / name)) is not None for name in names)


def test_figures_are_on_the_page(tmp_path: Path) -> None:
    text = report_of(tmp_path, make_results()).text
    for expected in (
        "Image AUROC 96.00 %",
        "Pixel AUROC 98.50 %",
        "1 of 5 good parts was rejected: 20 % (95 % confidence: 0.5–71.6 %).",
        "1 of 5 defective parts was missed: 20 % (95 % confidence: 0.5–71.6 %).",
        "16,385 vectors of 1,536 dimensions",
        "2026-01-02 03:04 UTC",
        "a CPU, 2 cores",
        "openvino 2026.4.0",
    ):
        assert expected in text


def test_every_category_leads_with_its_operating_table(tmp_path: Path) -> None:
    page = report_of(tmp_path, make_results())
    assert "Stated rate Threshold Good passed Defective found dent scratch 0.1 % * 1.967 4 of 5 (28–99 %)" in page.text
    assert "10 % 1.883 4 of 5 (28–99 %) 4 of 5 (28–99 %) 2 of 2 2 of 3" in page.text
    assert page.text.index("Stated rate") < page.text.index("Parts by kind")
    assert "<strong>1.967</strong>" in page.source  # the rate that was taught
    assert "Too few good parts for the rate that was asked for. 59 held-out parts cannot support" in page.text


def test_results_from_before_there_were_operating_tables_have_none(tmp_path: Path) -> None:
    page = report_of(tmp_path, make_results(operating_table=(), guarantee=None))
    assert "Stated rate" not in page.text
    assert "Too few good parts" not in page.text


def test_kinds_are_listed_with_the_most_missed_first(tmp_path: Path) -> None:
    text = report_of(tmp_path, make_results()).text
    assert "good 5 4 1 80 % 1.000 2.100 scratch 3 1 2 66.7 % 1.800 3.000 dent 2 0 2 100 % 3.500 4.000" in text


def test_pictures_of_the_gallery_are_inside_with_captions(tmp_path: Path) -> None:
    directory = write_category(tmp_path, make_results(), [("missed", 5), ("false_reject", 4)])
    page = Page(render_report(tmp_path))
    shown = [base64.b64decode(image["src"].removeprefix("data:image/jpeg;base64,")) for image in page.all("img")]
    assert shown == [(directory / f"panel-{number}.jpg").read_bytes() for number in range(2)]
    decoded = cv2.imdecode(np.frombuffer(shown[0], np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert decoded.shape == (40, 120, 3)
    assert "scratch · PASS, wrongly · score 1.800, 0.90 × threshold test/scratch/000.png" in page.text
    assert "good · FAIL, wrongly · score 2.100, 1.05 × threshold test/good/004.png" in page.text


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    directory = write_category(tmp_path, make_results(), [("best", 9)])
    (directory / "panel-0.jpg").unlink()
    with pytest.raises(ExportError, match=r"bottle/panel-0\.jpg: a picture of the gallery cannot be read"):
        render_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_picture_from_elsewhere_is_refused(tmp_path: Path) -> None:
    directory = write_category(tmp_path / "out", make_results(), [("best", 9)])
    (tmp_path / "secret.jpg").write_bytes((directory / "panel-0.jpg").read_bytes())
    path = directory / RESULTS
    path.write_text(path.read_text().replace("panel-0.jpg", "../../secret.jpg"))
    with pytest.raises(ExportError, match=r"secret\.jpg: not below"):
        render_report(tmp_path / "out")


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    directory = write_category(tmp_path, make_results(), [("best", 9)])
    (directory / "panel-0.jpg").write_text("<svg onload='alert()'>")
    with pytest.raises(ExportError, match="not a JPEG file"):
        render_report(tmp_path)


def test_a_gallery_that_names_no_picture_of_the_results_is_refused(tmp_path: Path) -> None:
    write_category(tmp_path, make_results(), [("best", 10)])
    with pytest.raises(ExportError, match="the gallery names picture 10, but there are 10"):
        render_report(tmp_path)


def test_without_results_it_says_what_to_do(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ExportError, match=r"no results\.json here or below; make some with patchline-export eval"):
            render_report(place)


def test_damaged_results_are_named(tmp_path: Path) -> None:
    directory = write_category(tmp_path, make_results())
    (directory / RESULTS).write_text("{}")
    with pytest.raises(ResultsError, match=r"bottle/results\.json"):
        render_report(tmp_path)


def test_without_masks_the_page_says_so(tmp_path: Path) -> None:
    text = report_of(tmp_path, make_results(pixel=None)).text
    assert "Pixel AUROC – there are no masks" in text
    assert "without masks of the defects there are no pixel metrics" in text


def test_like_for_like_is_said_only_where_it_is(tmp_path: Path) -> None:
    alike = report_of(tmp_path / "alike", make_results())
    reduced = report_of(tmp_path / "reduced", make_results(settings=SETTINGS | {"frame_size": "450×450"}))
    assert "Like for like, as far as is recorded, with: paper, 10 %; authors' repository, 10 %." in alike.text
    assert "Not like for like." not in alike.text
    assert "Not like for like." in reduced.text
    assert "differs in: pictures of another size (bottle 450×450, published 900×900)" in reduced.text


def test_own_parts_have_nothing_published_beside_them(tmp_path: Path) -> None:
    text = report_of(tmp_path, make_results("gearbox")).text
    assert "no published figure can stand beside them" in text
    assert "authors' repository" not in text


def test_fifteen_categories_have_the_published_means_beside_theirs(tmp_path: Path) -> None:
    page = report_of(tmp_path, *(make_results(category) for category in FULL_SIZE))
    assert "15 categories" in page.text
    assert "mean of these 15 96.0 98.5 93.1 99.1 98.9 99.0" in page.text
    assert "published mean, all 15 – – – 99.1 99.0 99.0" in page.text
    assert "of MVTec AD's 15 categories" not in page.text
    assert_well_made(page)


def test_runs_are_compared_and_told_apart(tmp_path: Path) -> None:
    write_category(tmp_path / "f32", make_results())
    write_category(tmp_path / "int8", make_results(ir_precision="int8"))
    page = Page(render_report(tmp_path))
    assert "All runs" in page.text
    assert "Run: f32" in page.text
    assert "Run: int8" in page.text
    assert (tmp_path / PLOTS / "int8-bottle-roc.svg").is_file()
    assert_well_made(page)


def test_one_categorys_directory_is_enough(tmp_path: Path) -> None:
    directory = write_category(tmp_path, make_results())
    assert "Image AUROC 96.00 %" in Page(render_report(directory)).text


def test_random_weights_are_said_loudly(tmp_path: Path) -> None:
    warned = report_of(tmp_path / "random", make_results(settings=SETTINGS | {"weights": "random 0"}))
    trained = report_of(tmp_path / "trained", make_results(settings=SETTINGS | {"weights": "file resnet18.pth"}))
    assert "Random weights." in warned.text
    assert "Random weights." not in trained.text


def test_a_threshold_that_saw_defects_is_not_called_innocent(tmp_path: Path) -> None:
    innocent = report_of(tmp_path / "conformal", make_results(settings=SETTINGS | {"method": "conformal"}))
    fitted = report_of(tmp_path / "best_f1", make_results(settings=SETTINGS | {"method": "best_f1"}))
    assert "without any defective part" in innocent.text
    assert "without any defective part" not in fitted.text
    assert "and on defective parts" in fitted.text


@pytest.mark.parametrize(
    ("count", "parts", "expected"),
    [
        (2, 20, "2 of 20 good parts were rejected: 10 % (95 % confidence: 1.2–31.7 %)"),
        (1, 20, "1 of 20 good parts was rejected: 5 % (95 % confidence: 0.1–24.9 %)"),
        (0, 63, "None of 63 good parts was rejected: 0 % (95 % confidence: 0–5.7 %)"),
        (3, 3, "3 of 3 good parts were rejected: 100 % (95 % confidence: 29.2–100 %)"),
    ],
)
def test_a_rate_in_plain_words(count: int, parts: int, expected: str) -> None:
    assert say_rate(rate_of(count, parts), "good parts", "rejected").replace("\N{NO-BREAK SPACE}", " ") == expected


# ---- experiments


def test_an_experiments_page_needs_nothing_but_itself(tmp_path: Path) -> None:
    page = experiment_page(tmp_path, make_experiment())
    assert_self_contained(page)
    assert_well_made(page)
    assert len(page.all("svg")) == 4
    for expected in ("Size of the memory bank", "How small may the bank be?", "Greedy selection wins.", "resnet18"):
        assert expected in page.text
    assert "1 % random 95.50 98.00 93.00 5.00 2.00 20.0 35.0 21.0 8,192" in page.text
    assert sorted(path.name for path in (tmp_path / PLOTS).glob("*.svg")) == [
        "coreset-errors.svg",
        "coreset-pixels.svg",
        "coreset-quality-and-time.svg",
        "coreset-tradeoff.svg",
    ]


def test_an_experiment_rendered_again_is_the_same(tmp_path: Path) -> None:
    assert experiment_page(tmp_path, make_experiment()).source == experiment_page(tmp_path, make_experiment()).source


def test_hostile_names_in_an_experiment_are_text(tmp_path: Path) -> None:
    rows = [
        ExperimentRow(
            label=HOSTILE, value=f"{HOSTILE}{number}", categories=(make_measurement(HOSTILE),), extra={HOSTILE: HOSTILE}
        )
        for number in range(2)
    ]
    page = experiment_page(tmp_path, make_experiment(rows, title=HOSTILE, question=HOSTILE, conclusion=(HOSTILE,)))
    assert len(page.all("script")) == 1
    assert HOSTILE in page.text
    assert_self_contained(page)


def test_an_experiment_without_masks_has_no_pixel_plot(tmp_path: Path) -> None:
    rows = [
        ExperimentRow(label=f"b = {b}", value=b, categories=(make_measurement(pixel_auroc=None, aupro=None),))
        for b in (0, 3, 9)
    ]
    page = experiment_page(tmp_path, make_experiment(rows))
    assert len(page.all("svg")) == 3
    assert "b = 3 99.00 – – 5.00 2.00" in page.text
    assert "image AUROC" in next(svg["aria-label"] for svg in page.all("svg") if "b = 0" in svg["aria-label"])


def test_several_categories_are_averaged_and_listed(tmp_path: Path) -> None:
    rows = [
        ExperimentRow(
            label=name,
            value=name,
            categories=(make_measurement("bottle", image_auroc=1.0), make_measurement("cable", image_auroc=0.9)),
        )
        for name in ("layer2", "layer3")
    ]
    text = experiment_page(tmp_path, make_experiment(rows)).text
    assert "layer2 95.00" in text
    assert "layer2 bottle 100.00" in text
    assert "layer3 cable 90.00" in text


def test_one_setting_makes_a_page(tmp_path: Path) -> None:
    row = ExperimentRow(label="10 %", value=0.1, categories=(make_measurement(),))
    page = experiment_page(tmp_path, make_experiment([row]))
    assert "10 % 99.00" in page.text


def test_an_experiment_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"experiment\.json: cannot be read"):
        render_experiment(tmp_path / EXPERIMENT)
