"""Memory bank: the nearest bank vector of every patch. Distances are Euclidean, after the square root."""

from __future__ import annotations

import numpy as np

from edge.engine.kernels import faiss
from edge.engine.threads import available_cores, use_search_threads
from edge.normality.base import Peak, peak_of
from edge.records import Float32Array, Int64Array

# Below this many dimensions faiss 1.15 does not use its matrix product. Zeros beyond the end change no distance, and
# 784 queries against 4704 × 152 take 7 ms instead of 31, on two cores with AVX-512.
_LEAST_DIMENSION = 192


class ExactBank:
    """Exhaustive search by faiss: the reference."""

    def __init__(self, vectors: Float32Array, threads: int = 0) -> None:
        """Index `vectors` (n, dim); n ≥ 1. Each search runs in `threads` threads; 0: one for each core."""
        self._threads = threads or available_cores()
        self._index = faiss.IndexFlatL2(max(_LEAST_DIMENSION, vectors.shape[1]))
        self._index.add(self._padded(vectors))

    @property
    def threads(self) -> int:
        """Threads of each search."""
        return self._threads

    @property
    def size(self) -> int:
        """Number of vectors."""
        return int(self._index.ntotal)

    def search(
        self,
        patches: Float32Array,
        peak: Peak | None = None,  # noqa: ARG002 — no help here
    ) -> tuple[Float32Array, Int64Array]:
        """See `Bank.search`."""
        use_search_threads(self._threads)
        found_distances, found_indices = self._index.search(self._padded(patches), 1)
        distances, indices = found_distances[:, 0], found_indices[:, 0]
        # faiss gives squared distances, a little below zero where rounding wins.
        np.maximum(distances, 0, out=distances)
        np.sqrt(distances, out=distances)
        # Where faiss finds nothing it says -1 and the largest float there is, which would pass for a distance.
        distances[indices < 0] = np.nan
        return distances, indices

    def peak(self, patches: Float32Array) -> Peak:
        """See `Bank.peak`."""
        distances, indices = self.search(patches)
        return peak_of(distances, indices, complete=True)

    def squared_distances(self, patches: Float32Array, candidates: Int64Array, threads: int) -> Float32Array:
        """Squared distances (n, k) of each patch (n, dim) to its candidates (n, k); infinite for candidate −1."""
        use_search_threads(threads)
        queries = self._padded(patches)
        labels = np.ascontiguousarray(candidates)
        squared = np.empty(labels.shape, np.float32)
        count, width = labels.shape
        self._index.compute_distance_subset(  # type: ignore[attr-defined]  # faiss's stubs leave it out
            count, faiss.swig_ptr(queries), width, faiss.swig_ptr(squared), faiss.swig_ptr(labels)
        )
        return squared

    def vector(self, index: int) -> Float32Array:
        """The vector of that index (1, dim), with zeros behind its own dimensions where there are few."""
        return np.asarray(self._index.reconstruct(index), np.float32).reshape(1, -1)

    def distances_to(self, patch: Float32Array, members: Int64Array) -> Float32Array:
        """Distances (k,) of `patch` (dim,) to the vectors of indices `members` (k,)."""
        distances: Float32Array = np.sqrt(self.squared_distances(patch[None], members[None], 1)[0])
        return distances

    def support_distances(self, patch: Float32Array, index: int, count: int) -> Float32Array:
        """See `Bank.support_distances`; fewer where the bank is smaller."""
        use_search_threads(self._threads)
        _, found = self._index.search(self.vector(index), min(count, self.size))
        return self.distances_to(patch, found[0])

    def _padded(self, vectors: Float32Array) -> Float32Array:
        if vectors.shape[1] == self._index.d:
            return np.ascontiguousarray(vectors)
        padded = np.zeros((len(vectors), self._index.d), np.float32)
        padded[:, : vectors.shape[1]] = vectors
        return padded
