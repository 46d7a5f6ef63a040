"""The fast memory bank: the exact image score, and an anomaly map near the exact one.

The distance to any bank vector is an upper bound of that to the nearest one, and the distance of two vectors reduced to
a subspace (`edge.normality.subspace`) is a lower bound of the true one. The image score is the largest patch score, so:

- an approximate search (inverted lists of coordinates, then the true distances of the best few) gives every patch an
  upper bound, which is its value in the map;
- a few patches at a time, those with the highest bounds, compete: one matrix product gives their lower bounds to the
  whole bank, and the true distance to the vector that looks nearest mostly is the distance that will remain;
- they are settled in falling order: the lower bounds rule out nearly all of the bank, the true distances of the rest
  decide. It ends as soon as the largest settled distance reaches the next bound, mostly after one or two patches.
"""

from __future__ import annotations

import numpy as np

from edge.engine.kernels import faiss
from edge.engine.threads import available_cores, use_search_threads
from edge.normality.base import Peak, peak_of
from edge.normality.exact_bank import ExactBank
from edge.normality.subspace import BOUNDED, COORDINATES, Bounding, Nearest, Subspace
from edge.records import Float32Array, Int64Array

LEAST_VECTORS = 256  # with fewer, exhaustive search is as fast
LEAST_DIMENSION = 96  # with fewer, reduced vectors are not much smaller

_LISTS_PER_ROOT = 3  # inverted lists: this many times the square root of the number of vectors, within ...
_LEAST_LISTS, _MOST_LISTS = 16, 1024
_CLUSTERING_ROUNDS = 8
_MAP_PROBES, _MAP_CANDIDATES = 8, 4  # lists searched for a patch, and vectors whose true distance is computed
_PEAK_PROBES, _PEAK_CANDIDATES = 1, 1  # a loose bound for a few microseconds: few patches come near the peak
_ALL_AT_ONCE = 1600  # up to so many vectors, patches are compared with all of them instead of with lists, in ...
_ROUGHLY = 32  # ... so many coordinates
_LIKELY = 32  # bank vectors that look nearest to another: their true distances bound those of its neighbours
_PATIENCE = 64  # patches settled one by one; where more compete, all of them are searched exhaustively


class FastBank:
    """Approximate search with an exact maximum, for `LEAST_VECTORS` or more of `LEAST_DIMENSION` or more."""

    def __init__(self, vectors: Float32Array, threads: int = 0, *, concurrent: bool = False) -> None:
        """Index `vectors` (n, dim).

        Each search runs in `threads` threads; 0: as many as pay. `concurrent` says that several threads will search at
        the same time.


        By default OpenVINO works with all cores and faiss with one: its steps are small, and where another program
        holds a core, every step of two threads waits for it (peak on a busy machine: 29 ms with one thread, 220 ms
        with two; 10,342 × 1536).
        """
        self._exact = ExactBank(vectors, threads)
        self._threads = threads or 1
        subspace = self._subspace = Subspace(vectors)
        self._lists = _inverted_lists(subspace.coordinates(vectors))
        centres = faiss.downcast_index(self._lists.quantizer).reconstruct_n(0, self._lists.nlist)
        shared = threads or available_cores()
        self._for_map = Nearest(subspace, centres, _MAP_PROBES, threads=shared, concurrent=concurrent)
        self._all_at_once = len(vectors) <= _ALL_AT_ONCE
        compared = subspace.coordinates(vectors)[:, :_ROUGHLY] if self._all_at_once else centres
        self._for_peak = Nearest(subspace, compared, _PEAK_PROBES, threads=shared, concurrent=concurrent)
        self._bounding = Bounding(subspace, subspace.reduce(vectors), threads=shared, concurrent=concurrent)

    @property
    def threads(self) -> int:
        """Threads of each search."""
        return self._threads

    @property
    def size(self) -> int:
        """Number of vectors."""
        return self._exact.size

    def search(self, patches: Float32Array, peak: Peak | None = None) -> tuple[Float32Array, Int64Array]:
        """See `Bank.search`: the largest distance is exact, every other one at most a little too large."""
        coordinates, lists = self._for_map.find(patches)
        if not np.isfinite(coordinates).all():  # a patch is not a number
            return self._exact.search(patches)
        squared, indices = self._nearest_of(patches, self._search_lists(coordinates, lists, _MAP_CANDIDATES))
        if peak is None:
            self._settle(patches, squared, indices)
        else:
            np.minimum(squared, peak.distance**2, out=squared)
            squared[peak.patch], indices[peak.patch] = peak.distance**2, peak.index
        return np.sqrt(squared, out=squared), indices

    def peak(self, patches: Float32Array) -> Peak:
        """See `Bank.peak`."""
        coordinates, nearest = self._for_peak.find(patches)
        if not np.isfinite(coordinates).all():  # a patch is not a number
            return self._exact.peak(patches)
        candidates = nearest if self._all_at_once else self._search_lists(coordinates, nearest, _PEAK_CANDIDATES)
        squared, indices = self._nearest_of(patches, candidates)
        self._settle(patches, squared, indices)
        return peak_of(np.sqrt(squared, out=squared), indices, complete=False)

    def support_distances(self, patch: Float32Array, index: int, count: int) -> Float32Array:
        """See `Bank.support_distances`."""
        return self._exact.distances_to(patch, self._neighbours(index, min(count, self.size)))

    def _neighbours(self, index: int, count: int) -> Int64Array:
        """The `count` bank vectors nearest to vector `index`, nearest first; exact, as lower bounds leave out the rest.

        Some hundred true distances and no table: 15,680 × 1536 would take seconds to know all neighbours of.
        """
        centre = self._exact.vector(index)
        least = self._bounding.bound(self._subspace.reduce(centre[:, : self._subspace.dimension]))
        likely = least.lowest(0, max(count, _LIKELY))
        farthest = np.partition(self._exact.squared_distances(centre, likely[None], 1)[0], count - 1)[count - 1]
        possible = np.union1d(likely, least.nearer(0, farthest))
        squared = self._exact.squared_distances(centre, possible[None], self._threads)[0]
        return possible[np.argsort(squared, kind="stable")[:count]]

    def _nearest_of(self, patches: Float32Array, candidates: Int64Array) -> tuple[Float32Array, Int64Array]:
        """The nearest of the candidates (n, k) of each patch: squared distance (n,), infinite if all are −1; index."""
        squared = self._exact.squared_distances(patches, candidates, self._threads)
        if candidates.shape[1] == 1:
            return squared[:, 0], candidates[:, 0].copy()
        best = squared.argmin(axis=1)[:, None]
        return np.take_along_axis(squared, best, axis=1)[:, 0], np.take_along_axis(candidates, best, axis=1)[:, 0]

    def _settle(self, patches: Float32Array, bounds: Float32Array, indices: Int64Array) -> None:
        """Make the largest of `bounds` (n,), squared, exact in place, and its index."""
        order = np.argsort(-bounds)
        highest, settled = 0.0, 0
        for start in range(0, len(order), BOUNDED):
            rows = order[start : start + BOUNDED]
            rows = rows[bounds[rows] > highest]
            if len(rows) == 0:
                return
            contenders = patches[rows]
            least = self._bounding.bound(self._subspace.reduce(contenders))
            self._lower(rows, contenders, least.nearest()[:, None], bounds, indices)
            for contender in np.argsort(-bounds[rows]):
                row = rows[contender]
                if bounds[row] <= highest:
                    break
                if settled >= _PATIENCE:
                    self._settle_exhaustively(patches, highest, bounds, indices)
                    return
                possible = least.nearer(contender, bounds[row])
                self._lower(rows[[contender]], contenders[[contender]], possible[None], bounds, indices)
                highest = max(highest, float(bounds[row]))
                settled += 1

    def _lower(
        self, rows: Int64Array, patches: Float32Array, candidates: Int64Array, bounds: Float32Array, indices: Int64Array
    ) -> None:
        """Lower the `bounds` of `rows` (m,) where one of their candidates (m, k) is nearer to its patch (m, dim)."""
        if candidates.shape[1] == 0:
            return
        squared, nearest = self._nearest_of(patches, candidates)
        lower = squared < bounds[rows]
        bounds[rows[lower]], indices[rows[lower]] = squared[lower], nearest[lower]

    def _search_lists(self, coordinates: Float32Array, lists: Int64Array, candidates: int) -> Int64Array:
        """The nearest in coordinates (n, candidates) of the lists (n, probes) of each patch; −1: there are fewer."""
        use_search_threads(self._threads)
        count, probes = lists.shape
        found = np.empty((count, candidates), np.int64)
        distances = np.empty((count, candidates), np.float32)
        ignored = np.zeros(lists.shape, np.float32)  # distances of the centres: flat lists do not need them
        # faiss's own wrapper takes the number of probes from the index, which other threads use as well.
        self._lists.search_preassigned_c(  # type: ignore[attr-defined]  # faiss's stubs leave it out
            count,
            faiss.swig_ptr(coordinates),
            candidates,
            faiss.swig_ptr(lists),
            faiss.swig_ptr(ignored),
            faiss.swig_ptr(distances),
            faiss.swig_ptr(found),
            False,  # indices of vectors, not of lists and places in them; swig takes no names
            faiss.SearchParametersIVF(nprobe=probes),  # type: ignore[call-arg]  # faiss's stubs leave it out
        )
        return found

    def _settle_exhaustively(
        self, patches: Float32Array, highest: float, bounds: Float32Array, indices: Int64Array
    ) -> None:
        """Make every one of the `bounds` above `highest` exact."""
        rows = np.flatnonzero(bounds > highest)
        distances, indices[rows] = self._exact.search(patches[rows])
        bounds[rows] = distances**2


def _inverted_lists(coordinates: Float32Array) -> faiss.IndexIVFFlat:
    count = int(np.clip(_LISTS_PER_ROOT * np.sqrt(len(coordinates)), _LEAST_LISTS, _MOST_LISTS))
    lists = faiss.IndexIVFFlat(faiss.IndexFlatL2(COORDINATES), COORDINATES, count)
    lists.cp.niter = _CLUSTERING_ROUNDS
    lists.cp.min_points_per_centroid = 1  # fewer are no reason for a warning on standard error
    lists.train(coordinates)
    lists.add(coordinates)
    return lists
