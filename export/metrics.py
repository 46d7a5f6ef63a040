"""How well scores tell good parts from defective ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def auroc(good: Sequence[float], bad: Sequence[float]) -> float:
    """Area under the ROC curve: the chance that a defective part scores above a good one, ties counted half.

    Exact, from ranks (Mann-Whitney U).
    """
    scores = np.concatenate([np.asarray(good, np.float64), np.asarray(bad, np.float64)])
    _, positions, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2)[positions]
    bad_ranks = ranks[len(good) :].sum()
    return float((bad_ranks - len(bad) * (len(bad) + 1) / 2) / (len(good) * len(bad)))
