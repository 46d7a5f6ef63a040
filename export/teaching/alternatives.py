"""Settings that were measured for a latency budget: which one is chosen, and how they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from edge.errors import ExportError
from edge.records import Precision, Search
from edge.terminal import table_console

_SAME_AUROC = 0.002  # of drawn defects: less is no difference


@dataclass(frozen=True, slots=True)
class Alternative:
    """One setting, what it takes and what it gives."""

    ir_precision: str
    arithmetic: Precision
    coreset_ratio: float
    vectors: int
    search: Search
    pass_ms: float  # median of parts that pass
    fail_ms: float  # 99th percentile of parts with map, regions and crops
    auroc: float  # held-out good parts against the same parts with drawn defects
    found: float  # share of the drawn defects above the taught threshold

    def meets(self, budget_ms: float) -> bool:
        """The slowest frames are within the budget."""
        return self.fail_ms <= budget_ms


def choose(alternatives: Sequence[Alternative], budget_ms: float) -> Alternative:
    """The best separation within the budget; among equals the largest bank, then the fastest.

    Raises:
        ExportError: none is within the budget, or there are none.
    """
    if not alternatives:
        raise ExportError(
            f"--latency-budget-ms {budget_ms:g}: nothing could be tried, as this machine miscalculates every IR given "
            "(the notes above say how); give the f32 IR, or another device"
        )
    within = [entry for entry in alternatives if entry.meets(budget_ms)]
    if not within:
        fastest = min(alternatives, key=lambda entry: entry.fail_ms)
        raise ExportError(
            f"--latency-budget-ms {budget_ms:g}: no setting meets it on this machine; the fastest, "
            f"{describe(fastest)}, takes {fastest.fail_ms:.1f} ms (99th percentile). Allow that much, convert a "
            "smaller network or input, or give an int8 IR"
        )
    best = max(entry.auroc for entry in within)
    equals = [entry for entry in within if entry.auroc >= best - _SAME_AUROC]
    return max(equals, key=lambda entry: (entry.vectors, -entry.fail_ms))


def describe(alternative: Alternative) -> str:
    """In a few words."""
    return (
        f"{alternative.ir_precision} IR, {alternative.arithmetic}, {100 * alternative.coreset_ratio:g} % bank, "
        f"{alternative.search} search"
    )


def print_alternatives(alternatives: Sequence[Alternative], chosen: Alternative, budget_ms: float) -> None:
    """A table for people, on standard output."""
    table = Table(title=f"Latency budget {budget_ms:g} ms, 99th percentile of a failed part", title_justify="left")
    for title in ("IR", "arithmetic", "bank", "search", "pass p50", "fail p99", "AUROC", "found", ""):
        table.add_column(title, justify="left" if title in {"IR", "arithmetic", "search", ""} else "right")
    for entry in alternatives:
        note = "chosen" if entry is chosen else "" if entry.meets(budget_ms) else "too slow"
        table.add_row(
            entry.ir_precision,
            entry.arithmetic,
            f"{100 * entry.coreset_ratio:g} %, {entry.vectors}",
            entry.search,
            f"{entry.pass_ms:.1f} ms",
            f"{entry.fail_ms:.1f} ms",
            f"{100 * entry.auroc:.2f}",
            f"{100 * entry.found:.0f} %",
            note,
            style="bold" if entry is chosen else "",
        )
    console = table_console()
    console.print(table)
    console.print(
        "AUROC and found: held-out good parts against the same parts with drawn defects; compare, do not quote."
    )
