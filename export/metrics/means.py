"""A mean over the categories of a dataset, by one rule wherever it is shown.

Every category counts alike, however many parts it has; and where one of them lacks the figure there is no mean, for
that of the others would stand beside means of more.
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean


def mean_of_all(values: Iterable[float | None]) -> float | None:
    """The mean of all `values`; None where one is missing, or there are none."""
    every = list(values)
    known = [value for value in every if value is not None]
    return fmean(known) if known and len(known) == len(every) else None
