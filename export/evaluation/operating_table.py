"""The table that every evaluation leads with: a false-reject rate stated, what would pass and what would be found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from export.evaluation.results import CategoryResults
from export.metrics.operating import complement
from export.metrics.records import GOOD, OperatingRow, Rate


@dataclass(frozen=True, slots=True)
class Line:
    """One stated rate, as people read it."""

    rate: str
    supported: bool
    chosen: bool  # the rate that the bundle was taught with
    threshold: str
    passed: str  # good parts
    found: str  # defective parts
    kinds: tuple[tuple[str, str], ...]  # kind of defect, how many of how many were found


def lines_of(results: CategoryResults) -> tuple[Line, ...]:
    """One line for each stated rate; none where the evaluation was made before there were such tables."""
    taught = float(results.settings.get("false_reject_rate", "nan"))
    return tuple(_line(row, chosen=math.isclose(row.rate, taught)) for row in results.operating_table)


def operating_table(run: Sequence[CategoryResults]) -> Table:
    """The categories one below the other, for a terminal."""
    table = Table(title="Stated false-reject rate, and what it costs; with intervals at 95 % confidence")
    table.add_column("category")
    table.add_column("stated rate", no_wrap=True)
    for name in ("good passed", "defective found"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("found, by kind")
    for results in run:
        lines = lines_of(results)
        for number, line in enumerate(lines, start=1):
            table.add_row(
                results.category if number == 1 else "",
                line.rate if line.supported else f"{line.rate} *",
                line.passed,
                line.found,
                ", ".join(f"{kind} {found}" for kind, found in line.kinds),
                style="bold" if line.chosen else "",
                end_section=number == len(lines),
            )
    if not all(row.supported for results in run for row in results.operating_table):
        table.caption = "* so few held-out parts cannot support it: the threshold is their highest score"
    return table


def _line(row: OperatingRow, *, chosen: bool) -> Line:
    point = row.point
    return Line(
        rate=f"{100 * row.rate:g} %",
        supported=row.supported,
        chosen=chosen,
        threshold=f"{point.threshold:.4g}",
        passed=_say(complement(point.false_rejects)),
        found=_say(complement(point.misses)),
        kinds=tuple((kind.kind, f"{kind.failed} of {kind.parts}") for kind in point.kinds if kind.kind != GOOD),
    )


def _say(rate: Rate) -> str:
    return f"{rate.count} of {rate.parts} ({100 * rate.low:.0f}–{100 * rate.high:.0f} %)"
