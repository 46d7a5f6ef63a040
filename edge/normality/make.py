"""Which bank answers. A further one is a module beside this one, its name in `records.Search`, and a case here."""

from __future__ import annotations

import numpy as np

from edge.normality.base import Bank
from edge.normality.exact_bank import ExactBank
from edge.normality.fast_bank import LEAST_DIMENSION, LEAST_VECTORS, FastBank
from edge.records import Float32Array, Search


def make_bank(vectors: Float32Array, search: Search, threads: int = 0, *, concurrent: bool = False) -> Bank:
    """The bank of `vectors` (n, dim) that searches as asked; exhaustively where there is nothing to be gained.

    Each search runs in `threads` threads; 0: as many as pay.
    `concurrent` says that several threads will search at the same time.
    """
    fits = len(vectors) >= LEAST_VECTORS and vectors.shape[1] >= LEAST_DIMENSION and bool(np.isfinite(vectors.sum()))
    if search == "fast" and fits:
        return FastBank(vectors, threads, concurrent=concurrent)
    return ExactBank(vectors, threads)
