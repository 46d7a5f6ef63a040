"""The fast memory bank: the exact image score, and an anomaly map within 0.2 % of the exact one.

Every vector is reduced to its coordinates in the bank's principal subspace and, as one more coordinate, the length of
what is left over. The distance of two reduced vectors is never larger than the true one (the reverse triangle
inequality in the complement), while the distance to any bank vector is never smaller than that to the nearest:

- approximate search (inverted lists of the reduced vectors, then the true distances of the best few) gives every
  patch an upper bound, which is its value in the map;
- the image score is the largest patch score, so patches are settled in falling order of their bound: the reduced
  distances rule out nearly all of the bank, the true distances of the rest decide. It ends as soon as the largest
  settled distance reaches the next bound, mostly after one to five patches.
"""

from __future__ import annotations

import faiss
import numpy as np

from edge.bank import Bank, ExactBank, Peak, Search, peak_of, use_search_threads
from edge.records import Float32Array, Int64Array

LEAST_VECTORS = 256  # with fewer, exhaustive search is as fast
LEAST_DIMENSION = 96  # with fewer, reduced vectors are not much smaller
REDUCED = 64  # coordinates, the length of the rest among them

_SAMPLE = 20_000  # vectors that the subspace is fitted to
_OVERSAMPLED = 16  # directions beyond those kept, and ...
_ITERATIONS = 2  # ... rounds of the randomised subspace iteration: Halko, Martinsson, Tropp 2011, algorithm 4.4
_LISTS_PER_ROOT = 2  # inverted lists: this many times the square root of the number of vectors, within ...
_LEAST_LISTS, _MOST_LISTS = 16, 1024
_CLUSTERING_ROUNDS = 8
_MAP_PROBES, _MAP_CANDIDATES = 8, 4  # lists searched for a patch, and vectors whose true distance is computed
_PEAK_PROBES, _PEAK_CANDIDATES = 1, 1  # a loose bound for a few microseconds: few patches come near the peak
_BATCH = 8  # patches settled by one product with the reduced bank
_PATIENCE = 64  # patches settled one by one; those then left are searched exhaustively
# Rounding of float32, in lower bounds: shares of the squared lengths around the mean, and of the mean's own, which
# cancels out.
_SLACK, _MEAN_SLACK = 1e-4, 1e-5
_SEED = 0


def make_bank(vectors: Float32Array, search: Search, threads: int = 0) -> Bank:
    """The bank of `vectors` (n, dim) that searches as asked; exhaustively where there is nothing to be gained.

    Each search runs in `threads` threads; 0: as many as pay, which is all cores for exhaustive search and one for fast.
    """
    fits = len(vectors) >= LEAST_VECTORS and vectors.shape[1] >= LEAST_DIMENSION and bool(np.isfinite(vectors.sum()))
    return FastBank(vectors, threads or 1) if search == "fast" and fits else ExactBank(vectors, threads)


class FastBank:
    """Approximate search with an exact maximum, for `LEAST_VECTORS` or more of `LEAST_DIMENSION` or more."""

    def __init__(self, vectors: Float32Array, threads: int = 1) -> None:
        """Index `vectors` (n, dim). Each search runs in `threads` threads.

        A search is many small steps: where another program holds a core, every step of two threads waits for it (peak
        on a busy machine: 29 ms with one thread, 220 ms with two; 10,342 × 1536).
        """
        self._exact = ExactBank(vectors, threads)
        self._subspace = _Subspace(vectors)
        self._reduced = self._subspace.reduce(vectors)
        self._lengths = np.einsum("ij,ij->i", self._reduced, self._reduced)  # squared
        self._lists = _inverted_lists(self._reduced)

    @property
    def threads(self) -> int:
        """Threads of each search."""
        return self._exact.threads

    @property
    def size(self) -> int:
        """Number of vectors."""
        return self._exact.size

    def search(self, patches: Float32Array) -> tuple[Float32Array, Int64Array]:
        """See `Bank.search`: the largest distance is exact, every other one at most a little too large."""
        return self._search(patches, _MAP_PROBES, _MAP_CANDIDATES)

    def peak(self, patches: Float32Array) -> Peak:
        """See `Bank.peak`."""
        return peak_of(*self._search(patches, _PEAK_PROBES, _PEAK_CANDIDATES), complete=False)

    def support_distances(self, patch: Float32Array, index: int, count: int) -> Float32Array:
        """See `Bank.support_distances`."""
        return self._exact.support_distances(patch, index, count)

    def _search(self, patches: Float32Array, probes: int, candidates: int) -> tuple[Float32Array, Int64Array]:
        if not np.isfinite(patches.sum()):  # faiss's lists take numbers only
            return self._exact.search(patches)
        use_search_threads(self.threads)
        reduced = self._subspace.reduce(patches)
        # Not the index's own nprobe: other threads may search at the same time.
        probing = faiss.SearchParametersIVF(nprobe=probes)  # type: ignore[call-arg]  # faiss's stubs leave it out
        _, found = self._lists.search(reduced, candidates, params=probing)
        squared = self._exact.squared_distances(patches, found)  # infinite where the lists held too few
        best = squared.argmin(axis=1)[:, None]
        bounds = np.take_along_axis(squared, best, axis=1)[:, 0]
        indices = np.take_along_axis(found, best, axis=1)[:, 0]
        self._settle(patches, reduced, bounds, indices)
        return np.sqrt(bounds, out=bounds), indices

    def _settle(self, patches: Float32Array, reduced: Float32Array, bounds: Float32Array, indices: Int64Array) -> None:
        """Make the largest of `bounds` (n,), squared, exact in place, and its index."""
        order = np.argsort(-bounds)
        highest = 0.0
        for start in range(0, min(len(order), _PATIENCE), _BATCH):
            rows = order[start : start + _BATCH]
            if bounds[rows[0]] <= highest:
                return
            least = self._least_distances(reduced[rows])
            for row, lower in zip(rows, least, strict=True):
                if bounds[row] <= highest:
                    return
                self._settle_one(patches, row, lower, bounds, indices)
                highest = max(highest, float(bounds[row]))
        self._settle_exhaustively(patches, order[_PATIENCE:], highest, bounds, indices)

    def _least_distances(self, reduced: Float32Array) -> Float32Array:
        """Lower bounds (m, size) of the squared distances of reduced vectors (m, REDUCED) to the bank."""
        product: Float32Array = reduced @ self._reduced.T
        product *= -2
        product += (1 - _SLACK) * self._lengths
        product += (1 - _SLACK) * np.einsum("ij,ij->i", reduced, reduced)[:, None]
        product -= _MEAN_SLACK * self._subspace.mean_length
        return product

    def _settle_one(
        self, patches: Float32Array, row: int, lower: Float32Array, bounds: Float32Array, indices: Int64Array
    ) -> None:
        possible = np.flatnonzero(lower < bounds[row])
        if len(possible) == 0:
            return
        squared = self._exact.squared_distances(patches[row : row + 1], possible[None])[0]
        nearest = int(squared.argmin())
        if squared[nearest] < bounds[row]:
            bounds[row], indices[row] = squared[nearest], possible[nearest]

    def _settle_exhaustively(
        self,
        patches: Float32Array,
        order: Int64Array,
        highest: float,
        bounds: Float32Array,
        indices: Int64Array,
    ) -> None:
        rows = order[bounds[order] > highest]
        if len(rows):
            distances, indices[rows] = self._exact.search(patches[rows])
            bounds[rows] = distances**2


class _Subspace:
    """The directions in which the bank spreads most, around its mean."""

    def __init__(self, vectors: Float32Array) -> None:
        generator = np.random.default_rng(_SEED)
        sample = vectors if len(vectors) <= _SAMPLE else generator.choice(vectors, _SAMPLE, replace=False)
        mean = sample.mean(axis=0)
        centred = sample - mean
        directions = generator.standard_normal((vectors.shape[1], REDUCED - 1 + _OVERSAMPLED), np.float32)
        for _ in range(_ITERATIONS):
            directions, _ = np.linalg.qr(centred.T @ (centred @ directions))
        spread = centred @ directions
        _, rotation = np.linalg.eigh(spread.T @ spread)  # in rising order
        basis = directions @ rotation[:, :-REDUCED:-1]
        self._matrix = np.ascontiguousarray(np.column_stack([basis, mean]), np.float32)
        self._origin = mean @ basis
        self.mean_length = float(mean @ mean)  # squared

    def reduce(self, vectors: Float32Array) -> Float32Array:
        """Vectors (n, dim) → (n, REDUCED): coordinates, and the length of the rest."""
        reduced: Float32Array = vectors @ self._matrix  # the last column: products with the mean
        rest = np.einsum("ij,ij->i", vectors, vectors)
        rest -= 2 * reduced[:, -1]
        rest += self.mean_length
        coordinates = reduced[:, :-1]
        coordinates -= self._origin
        rest -= np.einsum("ij,ij->i", coordinates, coordinates)
        np.sqrt(np.maximum(rest, 0, out=rest), out=reduced[:, -1])
        return reduced


def _inverted_lists(reduced: Float32Array) -> faiss.IndexIVFFlat:
    count = int(np.clip(_LISTS_PER_ROOT * np.sqrt(len(reduced)), _LEAST_LISTS, _MOST_LISTS))
    lists = faiss.IndexIVFFlat(faiss.IndexFlatL2(REDUCED), REDUCED, count)
    lists.cp.niter = _CLUSTERING_ROUNDS
    lists.cp.min_points_per_centroid = 1  # fewer are no reason for a warning on standard error
    lists.train(reduced)
    lists.add(reduced)
    return lists
