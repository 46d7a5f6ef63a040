from __future__ import annotations

import pytest

from export.report.comparison import compare
from tests.export.evaluation.made_results import SETTINGS, make_results


def test_nothing_is_compared_where_nothing_is_published() -> None:
    assert compare([make_results("my_part"), make_results("bottle", layout="folders")]) is None


def test_only_published_categories_are_rows() -> None:
    compared = compare([make_results("mvtec_bottle"), make_results("my_part"), make_results("cable")])
    assert compared is not None
    assert [row.name for row in compared.rows] == ["bottle", "cable"]


def test_the_mean_is_over_the_same_categories_on_both_sides() -> None:
    compared = compare([make_results("bottle"), make_results("cable", pixel=None)])
    assert compared is not None
    columns = [(column.source.key, column.name) for column in compared.columns]
    paper = columns.index(("paper_10", "image"))
    assert compared.mean_of_rows.theirs[paper] == pytest.approx((100 + 99.4) / 2)
    assert compared.mean_of_rows.ours[0] == pytest.approx(96.0)
    assert compared.mean_of_rows.ours[1:] == (None, None)  # one of the two has no masks
    assert compared.published_mean.theirs[paper] == 99.0
    assert compared.published_mean.ours == (None, None, None)


def test_a_category_that_a_source_left_out_leaves_no_mean() -> None:
    compared = compare([make_results("bottle"), make_results("hazelnut")])
    assert compared is not None
    student = [column.source.key for column in compared.columns].index("student_10")
    assert [row.theirs[student] for row in compared.rows] == [100.0, None]
    assert compared.mean_of_rows.theirs[student] is None


def test_sources_alike_are_named() -> None:
    compared = compare([make_results()])
    assert compared is not None
    assert [title.replace("\N{NO-BREAK SPACE}", " ") for title in compared.alike] == [
        "paper, 10 %",
        "authors' repository, 10 %",
    ]
    assert compared.common == ()


def test_what_differs_from_all_is_said_once() -> None:
    compared = compare([make_results(settings=SETTINGS | {"frame_size": "450×450"})])
    assert compared is not None
    assert compared.alike == ()
    assert compared.common == ("pictures of another size (bottle 450×450, published 900×900)",)
    assert all("another size" not in text for source in compared.sources for text in source.differences)


def test_groups_cover_the_columns() -> None:
    compared = compare([make_results()])
    assert compared is not None
    groups = {published.key: count for published, count in compared.groups}
    assert groups["authors_10"] == 3
    assert sum(groups.values()) == len(compared.columns)
