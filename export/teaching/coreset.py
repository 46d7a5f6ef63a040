"""Greedy k-center (minimax facility location) selection: the coreset of PatchCore, section 3.2 of the paper.

Exact, but not one point at a time. The plain loop reads every point once for each pick. Here the farthest
candidates are taken together: as long as the best candidate, its distance updated by the picks before it, stays
above everything outside the candidates, it is the plain loop's next pick too (distances only ever shrink). All
picks of a round then update the other points by one matrix product.

Points may be memory-mapped: they are read in blocks, and beside them 16 bytes a point are kept in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np

from edge.records import Float32Array, Int64Array

PROJECTION = 128  # dimensions of the random projection: the authors' and the paper's supplement's value
_STARTING_POINTS = 10  # the authors begin with the point farthest on average from ten random ones
_CANDIDATES = 1024
_BLOCK = 8192  # points updated at once: the block of distances stays in the cache
# Picks of all parts together, for each pick that is kept: see docs/teaching.md for what less and more of them cost.
_PART_PICKS = 2

Report = Callable[[int], None]


def project(embeddings: Float32Array, seed: int, dimensions: int = PROJECTION) -> Float32Array:
    """Gaussian random projection (n, dim) → (n, dimensions); as it is where it is no larger already.

    Distances are preserved in expectation (Johnson-Lindenstrauss).
    """
    if embeddings.shape[1] <= dimensions:
        return np.asarray(embeddings, np.float32)
    return np.asarray(embeddings @ _projection(embeddings.shape[1], dimensions, seed), np.float32)


def select_greedy(points: Float32Array, count: int, seed: int, report: Report | None = None) -> Int64Array:
    """Indices (≤ count,) of the greedy k-center selection of `points` (n, dim), in the order they were picked.

    Fewer than `count` only where every other point repeats a picked one. `report` is called with the picks so far; a
    pick costs the same at the beginning and at the end.
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


def select_composable(
    points: Float32Array, count: int, seed: int, parts: int, report: Report | None = None
) -> Int64Array:
    """Indices (≤ count,): greedy picks among the greedy picks of each of `parts` parts of `points` (n, dim).

    A composable core-set for k-center (Malkomes et al., NeurIPS 2015; Ceccarello et al., VLDB 2019). Part p is every
    parts-th point from the p-th on, copied into memory, and gives m = `part_picks` picks. Time falls from n · count to
    n · m + parts · m · count.

    What it promises: with R(k) the radius that k exact greedy picks leave, every point lies within 2 R(m) + 2 R(count)
    of a pick, so within 4 R(count) where m is count. For a part whose m picks leave r uncovered has m + 1 points at
    least r apart, so that no m points cover them closer than r/2: r ≤ 2 R(m), and likewise over the union.

    Fewer than `count` only where parts have fewer different points than were asked of them. `report` is called with the
    share of the work that is done, in picks of `count`.
    """
    parts = min(parts, len(points))
    if parts == 1:
        return select_greedy(points, count, seed, report)
    each = part_picks(count, parts)
    work = _Work(len(points) * each, parts * each * count, count, report)
    union = []
    for part in range(parts):
        members = np.ascontiguousarray(points[part::parts])
        union.append(part + parts * select_greedy(members, min(each, len(members)), seed, work.of_points(len(members))))
        work.finish(len(members) * each)
    candidates = np.sort(np.concatenate(union))
    chosen = select_greedy(np.asarray(points[candidates]), count, seed, work.of_points(len(candidates)))
    return candidates[chosen]


def part_picks(count: int, parts: int) -> int:
    """How many picks each part gives to `select_composable`."""
    return min(count, -(-_PART_PICKS * count // parts))


def select_random(points: int, count: int, seed: int) -> Int64Array:
    """`count` of `points` indices without repetition: the baseline that greedy selection is compared with."""
    return np.random.default_rng([seed, 1]).choice(points, size=min(count, points), replace=False)


@lru_cache(maxsize=1)
def _projection(dimension: int, dimensions: int, seed: int) -> Float32Array:
    generator = np.random.default_rng([seed, 0])
    matrix = generator.standard_normal((dimension, dimensions), np.float32) / np.sqrt(np.float32(dimensions))
    return np.asarray(matrix, np.float32)


def _first_pick(points: Float32Array, seed: int) -> int:
    generator = np.random.default_rng([seed, 2])
    chosen = generator.choice(len(points), size=min(_STARTING_POINTS, len(points)), replace=False)
    starts = points[chosen]
    total = np.zeros(len(points))
    for block in _blocks(len(points)):
        for start in starts:
            total[block] += np.linalg.norm(points[block] - start, axis=1)
    return int(total.argmax())


def _blocks(count: int) -> Iterator[slice]:
    return (slice(start, start + _BLOCK) for start in range(0, count, _BLOCK))


class _Work:
    """How far a selection in parts is, as the number of picks of `count` that an exact one would have made."""

    def __init__(self, in_parts: int, in_union: int, count: int, report: Report | None) -> None:
        self._total = in_parts + in_union
        self._count = count
        self._report = report
        self._finished = 0

    def of_points(self, points: int) -> Report:
        """For a selection among so many points: a pick costs as much as there are points."""
        return lambda picks: self._show(self._finished + picks * points)

    def finish(self, work: int) -> None:
        self._finished += work
        self._show(self._finished)

    def _show(self, done: int) -> None:
        if self._report is not None:
            self._report(min(self._count, self._count * done // self._total))


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
        between = self._distances_among(candidates)
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
        doubled, norms = -2 * self._points[index], self._norms[index, None]
        for block in _blocks(len(self._points)):
            distances = doubled @ self._points[block].T
            distances += norms
            # What is the same for all picks is added to their least: it rounds alike, and is one pass less.
            nearest = distances.min(axis=0)
            nearest += self._norms[block]
            np.maximum(nearest, 0, out=nearest)
            np.minimum(self._nearest[block], nearest, out=self._nearest[block])
        self._nearest[index] = 0

    def _candidates(self, farthest: int) -> Int64Array:
        if len(self._points) <= _CANDIDATES:
            return np.arange(len(self._points))
        candidates = np.argpartition(self._nearest, -_CANDIDATES)[-_CANDIDATES:]
        if farthest not in candidates:  # only where more than all candidates are equally far
            candidates[0] = farthest
        return np.sort(candidates)

    def _distances_among(self, candidates: Int64Array) -> Float32Array:
        points, norms = self._points[candidates], self._norms[candidates]
        distances: Float32Array = points @ points.T
        distances *= -2
        distances += norms[:, None]
        distances += norms
        np.maximum(distances, 0, out=distances)
        return distances
