"""What patches are asked for: the nearest good vector of each, and the peak."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from edge.records import Float32Array, Int64Array


@dataclass(frozen=True, slots=True, eq=False)
class Peak:
    """The most anomalous patch of a frame."""

    distance: float  # to its nearest bank vector: s* of the paper; NaN where a patch is not a number
    patch: int  # its row
    index: int  # of that bank vector, m* of the paper
    distances: Float32Array | None = None  # (n,) of every patch, where finding the peak needed them all


class Bank(Protocol):
    """What scoring asks of a memory bank. Several threads may ask at once."""

    @property
    def threads(self) -> int:
        """Threads of each search."""
        ...

    @property
    def size(self) -> int:
        """Number of vectors."""
        ...

    def search(self, patches: Float32Array, peak: Peak | None = None) -> tuple[Float32Array, Int64Array]:
        """Distance to, and index of, the nearest bank vector of each patch: (n, dim) → (n,), (n,).

        The largest distance is exact (to float32 rounding), and so is its index. A patch that is not a number has no
        nearest vector: its distance is NaN. What `peak` found in the same patches need not be searched again.
        """
        ...

    def peak(self, patches: Float32Array) -> Peak:
        """The largest of the distances alone, exact: all that PASS needs."""
        ...

    def support_distances(self, patch: Float32Array, index: int, count: int) -> Float32Array:
        """Distances of `patch` (dim,) to the `count` bank vectors nearest to vector `index`, it included."""
        ...


def peak_of(distances: Float32Array, indices: Int64Array, *, complete: bool) -> Peak:
    """The peak of distances (n,), whose other values are right as well if they are `complete`. NaN wins."""
    patch = int(distances.argmax())
    return Peak(float(distances[patch]), patch, int(indices[patch]), distances if complete else None)
