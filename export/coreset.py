"""Greedy k-center (minimax facility location) selection: the coreset of PatchCore, section 3.2 of the paper.

Exact, but not one point at a time. The plain loop reads every point once for each pick. Here the farthest
candidates are taken together: as long as the best candidate, its distance updated by the picks before it, stays
above everything outside the candidates, it is the plain loop's next pick too (distances only ever shrink). All
picks of a round then update the other points by one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edge.records import Float32Array, Int64Array

PROJECTION = 128  # dimensions of the random projection: the authors' and the paper's supplement's value
_STARTING_POINTS = 10  # the authors begin with the point farthest on average from ten random ones
_CANDIDATES = 1024
_BLOCK = 8192  # points updated at once: the block of distances stays in the cache

Report = Callable[[int], None]


def project(embeddings: Float32Array, seed: int, dimensions: int = PROJECTION) -> Float32Array:
    """Gaussian random projection (n, dim) → (n, dimensions); as it is where it is no larger already.

    Distances are preserved in expectation (Johnson-Lindenstrauss).
    """
    if embeddings.shape[1] <= dimensions:
        return np.asarray(embeddings, np.float32)
    generator = np.random.default_rng([seed, 0])
    matrix = generator.standard_normal((embeddings.shape[1], dimensions), np.float32) / np.sqrt(np.float32(dimensions))
    return np.asarray(embeddings @ matrix, np.float32)


def select_greedy(points: Float32Array, count: int, seed: int, report: Report | None = None) -> Int64Array:
    """Indices (≤ count,) of the greedy k-center selection of `points` (n, dim), in the order they were picked.

    Fewer than `count` only where every other point repeats a picked one.
    """
    selection = _Selection(points)
    picks = [_first_pick(points, seed)]
    selection.cover(picks)
    while len(picks) < count:
        batch = selection.next_picks(count - len(picks))
        if not batch:
            break
        selection.cover(batch)
        picks.extend(batch)
        if report is not None:
            report(len(picks))
    return np.asarray(picks, np.int64)


def select_random(points: int, count: int, seed: int) -> Int64Array:
    """`count` of `points` indices without repetition: the baseline that greedy selection is compared with."""
    return np.random.default_rng([seed, 1]).choice(points, size=min(count, points), replace=False)


def _first_pick(points: Float32Array, seed: int) -> int:
    generator = np.random.default_rng([seed, 2])
    chosen = generator.choice(len(points), size=min(_STARTING_POINTS, len(points)), replace=False)
    total = np.zeros(len(points))
    for index in chosen:
        total += np.linalg.norm(points - points[index], axis=1)
    return int(total.argmax())


class _Selection:
    """Squared distance of every point to its nearest pick so far."""

    def __init__(self, points: Float32Array) -> None:
        self._points = points
        self._norms = np.einsum("ij,ij->i", points, points)
        self._nearest = np.full(len(points), np.inf, np.float32)

    def next_picks(self, limit: int) -> list[int]:
        """The plain loop's next picks, at least one (none: all points are covered), at most `limit`."""
        farthest = int(self._nearest.argmax())
        if self._nearest[farthest] <= 0:
            return []
        candidates = self._candidates(farthest)
        values = self._nearest[candidates]
        # Everything outside the candidates is at most this far, now and later.
        bound = values.min() if len(candidates) < len(self._points) else -np.inf
        between = self._distances(candidates, candidates)
        picks: list[int] = []
        position = int(np.flatnonzero(candidates == farthest)[0])
        while len(picks) < limit:
            picks.append(position)
            np.minimum(values, between[position], out=values)
            values[position] = 0
            position = int(values.argmax())
            if values[position] <= max(bound, 0):
                break
        return [int(candidates[pick]) for pick in picks]

    def cover(self, picks: list[int]) -> None:
        """Update every point's distance by the picks."""
        index = np.asarray(picks)
        for start in range(0, len(self._points), _BLOCK):
            block = slice(start, start + _BLOCK)
            nearest = self._distances(index, block).min(axis=0)
            np.minimum(self._nearest[block], nearest, out=self._nearest[block])
        self._nearest[index] = 0

    def _candidates(self, farthest: int) -> Int64Array:
        if len(self._points) <= _CANDIDATES:
            return np.arange(len(self._points))
        candidates = np.argpartition(self._nearest, -_CANDIDATES)[-_CANDIDATES:]
        if farthest not in candidates:  # only where more than all candidates are equally far
            candidates[0] = farthest
        return np.sort(candidates)

    def _distances(self, first: Int64Array, second: Int64Array | slice) -> Float32Array:
        distances: Float32Array = self._points[first] @ self._points[second].T
        distances *= -2
        distances += self._norms[first][:, None]
        distances += self._norms[second]
        np.maximum(distances, 0, out=distances)
        return distances
