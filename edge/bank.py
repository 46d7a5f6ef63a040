"""Memory bank: the nearest bank vector of every patch. Distances are Euclidean, after the square root."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import faiss
import numpy as np

from edge.records import Float32Array, Int64Array

Search = Literal["exact", "fast"]


@dataclass(frozen=True, slots=True, eq=False)
class Peak:
    """The most anomalous patch of a frame."""

    distance: float  # to its nearest bank vector: s* of the paper; NaN where a patch is not a number
    patch: int  # its row
    index: int  # of that bank vector, m* of the paper
    distances: Float32Array | None = None  # (n,) of every patch, where finding the peak needed them all


class Bank(Protocol):
    """What scoring asks of a memory bank. Not for use from several threads at once."""

    @property
    def size(self) -> int:
        """Number of vectors."""
        ...

    def search(self, patches: Float32Array) -> tuple[Float32Array, Int64Array]:
        """Distance to, and index of, the nearest bank vector of each patch: (n, dim) → (n,), (n,).

        The largest distance is exact (to float32 rounding), and so is its index. A patch that is not a number has no
        nearest vector: its distance is NaN.
        """
        ...

    def peak(self, patches: Float32Array) -> Peak:
        """The largest of the distances alone, exact: all that PASS needs."""
        ...

    def support_distances(self, patch: Float32Array, index: int, count: int) -> Float32Array:
        """Distances of `patch` (dim,) to the `count` bank vectors nearest to vector `index`, it included."""
        ...


# Below this many dimensions faiss 1.15 does not use its matrix product. Zeros beyond the end change no distance, and
# 784 queries against 4704 × 152 take 7 ms instead of 31, on two cores with AVX-512.
_LEAST_DIMENSION = 192


class ExactBank:
    """Exhaustive search by faiss: the reference."""

    def __init__(self, vectors: Float32Array) -> None:
        """Index `vectors` (n, dim); n ≥ 1."""
        self._index = faiss.IndexFlatL2(max(_LEAST_DIMENSION, vectors.shape[1]))
        self._index.add(self._padded(vectors))
        self._queries = np.empty((0, self._index.d), np.float32)
        self._found_distances = np.empty((0, 1), np.float32)
        self._found_indices = np.empty((0, 1), np.int64)

    @property
    def size(self) -> int:
        """Number of vectors."""
        return int(self._index.ntotal)

    def search(self, patches: Float32Array) -> tuple[Float32Array, Int64Array]:
        """See `Bank.search`. The results are overwritten by the next call with as many patches."""
        if len(self._found_distances) != len(patches):
            self._found_distances = np.empty((len(patches), 1), np.float32)
            self._found_indices = np.empty((len(patches), 1), np.int64)
            self._queries = np.zeros((len(patches), self._index.d), np.float32)
        queries = patches
        if patches.shape[1] < self._index.d:
            queries = self._queries
            queries[:, : patches.shape[1]] = patches
        self._index.search(queries, 1, D=self._found_distances, I=self._found_indices)
        distances, indices = self._found_distances[:, 0], self._found_indices[:, 0]
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

    def squared_distances(self, patches: Float32Array, candidates: Int64Array) -> Float32Array:
        """Squared distances (n, k) of each patch (n, dim) to its candidates (n, k); infinite for candidate −1."""
        queries = self._padded(patches)
        labels = np.ascontiguousarray(candidates)
        squared = np.empty(labels.shape, np.float32)
        count, width = labels.shape
        self._index.compute_distance_subset(  # type: ignore[attr-defined]  # faiss's stubs leave it out
            count, faiss.swig_ptr(queries), width, faiss.swig_ptr(squared), faiss.swig_ptr(labels)
        )
        return squared

    def support_distances(self, patch: Float32Array, index: int, count: int) -> Float32Array:
        """See `Bank.support_distances`; fewer where the bank is smaller."""
        centre = self._index.reconstruct(index).reshape(1, -1)
        _, found = self._index.search(centre, min(count, self.size))
        members = np.stack([self._index.reconstruct(int(member)) for member in found[0]])
        return np.asarray(np.linalg.norm(members[:, : len(patch)] - patch, axis=1), np.float32)

    def _padded(self, vectors: Float32Array) -> Float32Array:
        missing = self._index.d - vectors.shape[1]
        return np.ascontiguousarray(vectors if missing == 0 else np.pad(vectors, ((0, 0), (0, missing))))


def peak_of(distances: Float32Array, indices: Int64Array, *, complete: bool) -> Peak:
    """The peak of distances (n,), whose other values are right as well if they are `complete`. NaN wins."""
    patch = int(distances.argmax())
    return Peak(float(distances[patch]), patch, int(indices[patch]), distances if complete else None)


def use_search_threads(count: int) -> None:
    """Threads of every search in this process; 0 leaves faiss its own choice (all cores)."""
    if count:
        faiss.omp_set_num_threads(count)
