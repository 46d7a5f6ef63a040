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

from edge.bank import Bank, ExactBank, Peak, Search, available_cores, peak_of, use_search_threads
from edge.records import Float32Array, Int64Array
from edge.subspace import REDUCED, NearestLists, Subspace

LEAST_VECTORS = 256  # with fewer, exhaustive search is as fast
LEAST_DIMENSION = 96  # with fewer, reduced vectors are not much smaller

_LISTS_PER_ROOT = 2  # inverted lists: this many times the square root of the number of vectors, within ...
_LEAST_LISTS, _MOST_LISTS = 16, 1024
_CLUSTERING_ROUNDS = 8
_MAP_PROBES, _MAP_CANDIDATES = 5, 4  # lists searched for a patch, and vectors whose true distance is computed
_PEAK_PROBES, _PEAK_CANDIDATES = 1, 1  # a loose bound for a few microseconds: few patches come near the peak
_BATCH = 4  # patches settled by one product with the reduced bank
_PATIENCE = 64  # patches settled one by one; those then left are searched exhaustively
# Rounding of float32, in lower bounds: shares of the squared lengths around the mean, and of the mean's own, which
# cancels out.
_SLACK, _MEAN_SLACK = 1e-4, 1e-5


def make_bank(vectors: Float32Array, search: Search, threads: int = 0, *, concurrent: bool = False) -> Bank:
    """The bank of `vectors` (n, dim) that searches as asked; exhaustively where there is nothing to be gained.

    Each search runs in `threads` threads; 0: as many as pay.
    `concurrent` says that several threads will search at the same time.
    """
    fits = len(vectors) >= LEAST_VECTORS and vectors.shape[1] >= LEAST_DIMENSION and bool(np.isfinite(vectors.sum()))
    if search == "fast" and fits:
        return FastBank(vectors, threads, concurrent=concurrent)
    return ExactBank(vectors, threads)


class FastBank:
    """Approximate search with an exact maximum, for `LEAST_VECTORS` or more of `LEAST_DIMENSION` or more."""

    def __init__(self, vectors: Float32Array, threads: int = 0, *, concurrent: bool = False) -> None:
        """Index `vectors` (n, dim); see `make_bank`.

        By default OpenVINO works with all cores and faiss with one: its steps are small, and where another program
        holds a core, every step of two threads waits for it (peak on a busy machine: 29 ms with one thread, 220 ms
        with two; 10,342 × 1536).
        """
        self._exact = ExactBank(vectors, threads or 1)
        subspace = Subspace(vectors)
        reduced = subspace.reduce(vectors)
        self._bounding = _bounding_matrix(reduced, subspace)
        self._lists = _inverted_lists(reduced)
        centres = faiss.downcast_index(self._lists.quantizer).reconstruct_n(0, self._lists.nlist)
        shared = threads or available_cores()
        self._for_peak = NearestLists(subspace, centres, _PEAK_PROBES, threads=shared, concurrent=concurrent)
        self._for_map = NearestLists(subspace, centres, _MAP_PROBES, threads=shared, concurrent=concurrent)

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
        return self._search(patches, self._for_map, _MAP_CANDIDATES)

    def peak(self, patches: Float32Array) -> Peak:
        """See `Bank.peak`."""
        return peak_of(*self._search(patches, self._for_peak, _PEAK_CANDIDATES), complete=False)

    def support_distances(self, patch: Float32Array, index: int, count: int) -> Float32Array:
        """See `Bank.support_distances`."""
        return self._exact.support_distances(patch, index, count)

    def _search(self, patches: Float32Array, nearest: NearestLists, candidates: int) -> tuple[Float32Array, Int64Array]:
        reduced, lists = nearest.find(patches)
        if not np.isfinite(reduced[:, :-1]).all():  # a patch is not a number
            return self._exact.search(patches)
        use_search_threads(self.threads)
        found = self._search_lists(reduced, lists, candidates)
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
            for row, lower in zip(rows, least.T, strict=True):
                if bounds[row] <= highest:
                    return
                self._settle_one(patches, row, lower, bounds, indices)
                highest = max(highest, float(bounds[row]))
        self._settle_exhaustively(patches, order[_PATIENCE:], highest, bounds, indices)

    def _search_lists(self, reduced: Float32Array, lists: Int64Array, candidates: int) -> Int64Array:
        """The nearest reduced vectors (n, candidates) in the lists (n, probes) of each patch; −1: there are fewer."""
        count, probes = lists.shape
        found = np.empty((count, candidates), np.int64)
        distances = np.empty((count, candidates), np.float32)
        ignored = np.zeros(lists.shape, np.float32)  # distances of the centres: flat lists do not need them
        # faiss's own wrapper takes the number of probes from the index, which other threads use as well.
        self._lists.search_preassigned_c(  # type: ignore[attr-defined]  # faiss's stubs leave it out
            count,
            faiss.swig_ptr(reduced),
            candidates,
            faiss.swig_ptr(lists),
            faiss.swig_ptr(ignored),
            faiss.swig_ptr(distances),
            faiss.swig_ptr(found),
            False,  # indices of vectors, not of lists and places in them; swig takes no names
            faiss.SearchParametersIVF(nprobe=probes),  # type: ignore[call-arg]  # faiss's stubs leave it out
        )
        return found

    def _least_distances(self, reduced: Float32Array) -> Float32Array:
        """Lower bounds (size, m) of the squared distances of reduced vectors (m, REDUCED) to the bank."""
        own = (1 - _SLACK) * np.einsum("ij,ij->i", reduced, reduced)
        queries = np.vstack([-2 * reduced.T, np.ones_like(own), own])
        bounds: Float32Array = self._bounding @ queries
        return bounds

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


def _bounding_matrix(reduced: Float32Array, subspace: Subspace) -> Float32Array:
    """(n, REDUCED + 2): times (−2 z, 1, |z|²) it gives lower bounds of squared distances to z, rounding allowed for."""
    lengths = (1 - _SLACK) * np.einsum("ij,ij->i", reduced, reduced) - _MEAN_SLACK * subspace.mean_length
    return np.ascontiguousarray(np.column_stack([reduced, lengths, np.ones_like(lengths)]), np.float32)


def _inverted_lists(reduced: Float32Array) -> faiss.IndexIVFFlat:
    count = int(np.clip(_LISTS_PER_ROOT * np.sqrt(len(reduced)), _LEAST_LISTS, _MOST_LISTS))
    lists = faiss.IndexIVFFlat(faiss.IndexFlatL2(REDUCED), REDUCED, count)
    lists.cp.niter = _CLUSTERING_ROUNDS
    lists.cp.min_points_per_centroid = 1  # fewer are no reason for a warning on standard error
    lists.train(reduced)
    lists.add(reduced)
    return lists
