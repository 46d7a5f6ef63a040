"""A threshold follows from the held-out scores that a manifest records beside it (pure)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np


def why_threshold_is_none(method: str, image: float, parameters: Mapping[str, float], held_out: Sequence[float]) -> str:
    """Why `image` cannot have been made by `method` from the `held_out` scores; empty where it can.

    `best_f1` is decided by defective parts, too, whose scores are not recorded.
    """
    expected = image
    if method == "conformal":
        rank = parameters.get("rank", 0)
        if rank not in range(1, len(held_out) + 1):
            return f"the threshold's rank is {rank:g}, of {len(held_out)} held-out scores"
        expected = sorted(held_out)[int(rank) - 1]
    elif method == "mean_sigma":
        deviation = float(np.std(held_out, ddof=1 if len(held_out) > 1 else 0))
        expected = float(np.mean(held_out)) + parameters.get("sigmas", math.nan) * deviation
    if not math.isclose(image, expected, rel_tol=1e-6):
        return f"the threshold is {image:g}, but the held-out scores give {expected:g}"
    return ""
