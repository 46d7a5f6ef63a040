"""The documents say what the committed results say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.compare import RESULTS
from benchmarks.records import write_results
from benchmarks.table import (
    PERFORMANCE,
    README,
    compare_tables,
    curve_tables,
    document_tables,
    put_tables,
    read_results,
    summary_table,
)
from edge.errors import BundleError, ExportError
from tests.benchmarks.made_results import make_case, make_compare, make_curves


def row_of(table: str, title: str) -> list[str]:
    line = next(line for line in table.splitlines() if line.startswith(f"| {title} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize("name", ["compare.json", "curves.json"])
def test_the_documents_have_the_tables_of_the_committed_results(name: str) -> None:
    for document, tables in document_tables(read_results(RESULTS / name)).items():
        text = document.read_text(encoding="utf-8")
        assert put_tables(text, tables, document) == text, f"python -m benchmarks.table benchmarks/results/{name}"


def test_every_picture_that_the_tables_show_is_there() -> None:
    shown = re.findall(r"\]\((\.\./benchmarks/results/[^)]+)\)", PERFORMANCE.read_text(encoding="utf-8"))
    assert len(shown) >= 6  # five curves, a histogram
    for picture in shown:
        assert (PERFORMANCE.parent / picture).is_file(), picture


def test_a_row_has_latencies_rates_start_memory_and_how_many_times_faster_it_is() -> None:
    table = summary_table(make_case())
    assert row_of(table, "ours, int8 IR, bf16") == [
        "ours, int8 IR, bf16", "**20.0**", "20.0", "40.0", "40.0", "30.0", "50.0", "60.0", "1.0 s", "500 MB",
        "**20.0** (20.0–20.0)", "**6.0** (6.0–6.0)",
    ]  # fmt: skip


def test_a_start_is_shown_by_its_phases_and_against_the_graph_with_filled_caches() -> None:
    (table,) = [text for text in compare_tables(make_compare()) if "process start" in text]
    # 1.5 / 0.5 and 1.7 / 0.5; the first start filled the cache.
    assert row_of(table, "net-100") == ["net-100", "1.50", "0.50", "**3.2**", "0.70", "0.20"]


def test_a_case_says_that_all_do_the_same_work_where_that_was_checked() -> None:
    checked = make_case().model_copy(update={"reweight_neighbours": 9, "score_difference": 0.0002})
    assert "re-weights its image score over 9 neighbours" in summary_table(checked)
    assert "differ by 2e-04 of themselves" in summary_table(checked)
    assert "The graph alone re-weights" in summary_table(make_case())


def test_every_row_of_every_table_has_as_many_cells_as_its_head() -> None:
    for text in [*compare_tables(make_compare()), *curve_tables(make_curves())]:
        for table in text.split("\n\n"):
            lines = [line for line in table.splitlines() if line.startswith("|")]
            assert len({line.count("|") for line in lines}) <= 1, table


def test_a_line_that_two_panels_show_is_one_column() -> None:
    table = curve_tables(make_curves())[1]
    assert "| vectors in the bank | Both: fast, ms | Both: exact, ms |" in table
    assert "| 20000 | 4.0 | 100 |" in table


def test_only_what_stands_between_the_markers_is_replaced() -> None:
    text = "before\n<!-- a:begin -->\nold\n<!-- a:end -->\nafter\n"
    put = put_tables(text, {"a": "new"}, README)
    assert put == "before\n<!-- a:begin -->\n\nnew\n\n<!-- a:end -->\nafter\n"
    assert put_tables(put, {"a": "new"}, README) == put


@pytest.mark.parametrize("text", ["", "<!-- a:begin -->", "<!-- a:end --> <!-- a:begin -->"])
def test_a_missing_marker_is_named(text: str) -> None:
    with pytest.raises(ExportError, match=r"README\.md: expected '<!-- a:begin -->' and then '<!-- a:end -->'"):
        put_tables(text, {"a": "new"}, README)


def test_both_kinds_of_results_are_told_apart(tmp_path: Path) -> None:
    write_results(make_curves(), tmp_path / "curves.json")
    write_results(make_compare(), tmp_path / "compare.json")
    assert read_results(tmp_path / "curves.json") == make_curves()
    assert read_results(tmp_path / "compare.json") == make_compare()


def test_results_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"none\.json: cannot be read"):
        read_results(tmp_path / "none.json")
