"""What an experiment has shown, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np

from export.experiments.results import (
    ExperimentRow,
)

RANDOM = "random: its quality means nothing"


_SAME_MISSES = 0.02


_AS_GOOD = 0.001  # image AUROC: a tenth of a point is no difference worth paying for


def conclude(rows: Sequence[ExperimentRow]) -> tuple[str, ...]:
    """What the figures say: the best setting, and the fastest that is as good.

    Networks without weights of their own are left out, unless there is nothing else to compare with.
    """
    meant = [row for row in rows if RANDOM not in row.extra.values()]
    compared = meant if len(meant) > 1 else rows
    best, worst = max(compared, key=mean_auroc), min(compared, key=mean_auroc)
    fastest = min((row for row in compared if mean_auroc(row) >= mean_auroc(best) - _AS_GOOD), key=mean_total_ms)
    if mean_auroc(best) == mean_auroc(worst):
        extremes = f"Every setting has a mean image AUROC of {_percent(best)}."
    else:
        extremes = (
            f"Best mean image AUROC: {_percent(best)} with {_name(best)}; worst: {_percent(worst)} with {_name(worst)}."
        )
    choice = (
        f"The fastest setting within 0.1 point of the best is {_name(fastest)}: {_percent(fastest)} at "
        f"{mean_total_ms(fastest):.1f} ms per picture."
    )
    missed = [fmean(entry.miss for entry in row.categories) for row in compared]
    if max(missed) - min(missed) < _SAME_MISSES:
        return extremes, choice
    fewest, most = compared[int(np.argmin(missed))], compared[int(np.argmax(missed))]
    misses = (
        f"At the taught threshold, defective parts missed: from {100 * min(missed):.1f} % with {_name(fewest)} to "
        f"{100 * max(missed):.1f} % with {_name(most)}."
    )
    return extremes, choice, misses


def mean_auroc(row: ExperimentRow) -> float:
    """Over the categories."""
    return fmean(category.image_auroc for category in row.categories)


def mean_total_ms(row: ExperimentRow) -> float:
    """Over the categories."""
    return fmean(category.total_ms for category in row.categories)


def _name(row: ExperimentRow) -> str:
    return f"{row.series} {row.label}".strip()


def _percent(row: ExperimentRow) -> str:
    return f"{100 * mean_auroc(row):.2f}"
