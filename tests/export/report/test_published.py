from __future__ import annotations

from statistics import mean

import pytest

from export.report.published import conditions_of, differences, published_category
from export.report.published_figures import BY_CATEGORY, FULL_SIZE, MEANS, Input, Published
from tests.export.evaluation.made_results import SETTINGS, make_results


def source(key: str) -> Published:
    return next(published for published in BY_CATEGORY + MEANS if published.key == key)


@pytest.mark.parametrize("published", BY_CATEGORY, ids=lambda published: published.key)
def test_published_means_are_the_means_of_the_published_categories(published: Published) -> None:
    for metric in ("image_auroc", "pixel_auroc", "aupro"):
        figures = [getattr(category, metric) for category in published.categories.values()]
        stated = getattr(published.mean, metric)
        if stated is not None and None not in figures:
            assert stated == pytest.approx(mean(figures), abs=0.1)


@pytest.mark.parametrize("published", BY_CATEGORY, ids=lambda published: published.key)
def test_every_category_is_published_but_hazelnut_in_the_student_report(published: Published) -> None:
    left_out = {"hazelnut"} if published.source == "student report" else set()
    assert set(published.categories) == set(FULL_SIZE) - left_out


def test_figures_of_one_category() -> None:
    screw = {key: source(key).categories["screw"] for key in ("paper_25", "paper_1", "authors_10", "student_25")}
    assert [figures.image_auroc for figures in screw.values()] == [98.1, 96.4, 98.8, 90.2]
    assert (screw["authors_10"].pixel_auroc, screw["authors_10"].aupro) == (99.5, 98.5)
    assert screw["paper_1"].pixel_auroc is None


def test_figures_are_percentages() -> None:
    every = [figures for published in BY_CATEGORY for figures in published.categories.values()]
    assert all(80 < (figures.image_auroc or 0) <= 100 for figures in every)


def test_keys_are_unique() -> None:
    keys = [published.key for published in BY_CATEGORY + MEANS]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("name", "layout", "expected"),
    [
        ("bottle", "mvtec", "bottle"),
        ("mvtec_bottle", "mvtec", "bottle"),
        ("Metal_Nut", "mvtec", "metal_nut"),
        ("bottle", "folders", None),  # somebody's own bottles
        ("hazelnut_toy", "mvtec", None),
    ],
)
def test_a_category_is_told_by_name_and_layout(name: str, layout: str, expected: str | None) -> None:
    assert published_category(make_results(name, layout=layout)) == expected


def test_the_same_conditions_differ_in_nothing() -> None:
    assert differences(conditions_of([make_results()]), source("paper_10")) == ()


def test_every_difference_is_said() -> None:
    ours = make_results(
        backbone="resnet18",
        ir_precision="int8",
        input_size=(256, 256),
        settings={
            "coreset": "random",
            "coreset_ratio": "0.01",
            "resize_shorter": "none",
            "frame_size": "450×450",
        },
    )
    assert conditions_of([ours]).input == Input(256, None)
    found = "; ".join(differences(conditions_of([ours]), source("paper_10"))).replace("\N{NO-BREAK SPACE}", " ")
    assert found == (
        "network resnet18, theirs wide_resnet50_2; int8 network, theirs f32; bank selected by random, theirs greedy; "
        "bank 1 %, theirs 10 %; input 256², not cropped, theirs 224², cropped from 256; "
        "pictures of another size (bottle 450×450, published 900×900)"
    )


def test_what_is_not_recorded_is_not_taken_for_equal() -> None:
    ours = conditions_of([make_results(settings={})])
    assert differences(ours, source("paper_10")) == (
        "bank size not recorded",
        "input size not recorded",
        "size of the pictures not recorded",
    )
    assert differences(conditions_of([make_results()]), source("rvorias_10")) == ("input size not published",)


def test_one_reduced_category_is_enough() -> None:
    reduced = make_results("cable", settings=SETTINGS | {"frame_size": "512×512"})
    ours = conditions_of([make_results(), reduced])
    assert differences(ours, source("paper_10")) == ("pictures of another size (cable 512×512, published 1024×1024)",)


def test_an_unreadable_ratio_counts_as_not_recorded() -> None:
    assert conditions_of([make_results(settings=SETTINGS | {"coreset_ratio": "all"})]).coreset_ratio is None
