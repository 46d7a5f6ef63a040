"""Vectors in few coordinates: what is nearest to them, about, and how near to them a vector can be at the most.

Both are matrix products by small networks of OpenVINO, in half precision where the CPU has it. What looks nearest is
only proposed, and true distances decide; lower bounds allow for the rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import openvino as ov
from openvino import opset13 as op

from edge.engine.core import SmallNetwork
from edge.records import Float32Array, Int64Array

COORDINATES = 64  # directions that are kept
BOUNDED = 16  # vectors whose distances are bounded by one product

_SAMPLE = 20_000  # vectors that the subspace is fitted to
_OVERSAMPLED = 16  # directions beyond those kept, and ...
_ITERATIONS = 2  # ... rounds of the randomised subspace iteration: Halko, Martinsson, Tropp 2011, algorithm 4.4
_SEED = 0
# Rounding in lower bounds, as shares of the squared lengths around the mean, and of the mean's own, which cancels out.
# Two numbers rounded to bf16 have a product that errs by 2⁻⁷ (and 2⁻¹⁶) of itself at most; so do vectors, as a share of
# the product of their lengths, twice which is no more than the sum of their squares.
_SLACK, _MEAN_SLACK = 2**-7 + 2e-4, 1e-5


class Subspace:
    """The directions in which vectors spread most, around their mean."""

    def __init__(self, vectors: Float32Array) -> None:
        """Fit to `vectors` (n, dim), dim > `COORDINATES`."""
        generator = np.random.default_rng(_SEED)
        sample = vectors if len(vectors) <= _SAMPLE else generator.choice(vectors, _SAMPLE, replace=False)
        mean = sample.mean(axis=0)
        centred = sample - mean
        size = min(vectors.shape[1], COORDINATES + _OVERSAMPLED)
        directions = generator.standard_normal((vectors.shape[1], size), np.float32)
        for _ in range(_ITERATIONS):
            directions, _ = np.linalg.qr(centred.T @ (centred @ directions))
        spread = centred @ directions
        _, rotation = np.linalg.eigh(spread.T @ spread)  # in rising order
        basis = directions @ rotation[:, : -COORDINATES - 1 : -1]
        self.basis = np.ascontiguousarray(basis, np.float32)  # (dim, COORDINATES)
        self.origin = np.asarray(mean @ basis, np.float32)  # (COORDINATES,)
        self.mean_length = float(mean @ mean)  # squared
        self._with_mean = np.ascontiguousarray(np.column_stack([self.basis, mean]), np.float32)

    @property
    def dimension(self) -> int:
        """Of the vectors."""
        return len(self.basis)

    def coordinates(self, vectors: Float32Array) -> Float32Array:
        """Vectors (n, dim) → (n, COORDINATES)."""
        coordinates: Float32Array = vectors @ self.basis
        coordinates -= self.origin
        return coordinates

    def reduce(self, vectors: Float32Array) -> Float32Array:
        """Vectors (n, dim) → (n, COORDINATES): all coordinates but the last, and the length of the rest.

        No two vectors are nearer to each other than their reduced ones are: the rests differ by no less than their
        lengths do (the reverse triangle inequality in the complement).
        """
        products = vectors @ self._with_mean
        reduced: Float32Array = np.ascontiguousarray(products[:, :-1])
        reduced -= self.origin
        rest = np.einsum("ij,ij->i", vectors, vectors)
        rest -= 2 * products[:, -1]
        rest += self.mean_length
        rest -= np.einsum("ij,ij->i", reduced[:, :-1], reduced[:, :-1])
        np.sqrt(np.maximum(rest, 0, out=rest), out=reduced[:, -1])
        return reduced


class Nearest:
    """Gives patches coordinates and names those of some points that are nearest, or nearly."""

    def __init__(self, subspace: Subspace, points: Float32Array, count: int, *, threads: int, concurrent: bool) -> None:
        """Prepare for the `count` nearest of `points` (any, their first coordinates); the rest as `SmallNetwork`."""
        self._network = SmallNetwork(
            lambda patches: _nearest(subspace, points, count, patches), threads=threads, concurrent=concurrent
        )

    def find(self, patches: Float32Array) -> tuple[Float32Array, Int64Array]:
        """Patches (n, dim) → as many coordinates as points have, points (n, count), until this thread asks again."""
        coordinates, points = self._network.ask(patches)[:2]
        return coordinates, points


@dataclass(frozen=True, slots=True, eq=False)
class LowerBounds:
    """Of the squared distances of a few reduced vectors to all of the bank."""

    beyond: Float32Array  # (m, size) without ...
    own: Float32Array  # (m,) the vectors' own squared lengths

    def nearest(self) -> Int64Array:
        """The bank vector (m,) that looks nearest to each."""
        nearest: Int64Array = self.beyond.argmin(axis=1)
        return nearest

    def lowest(self, row: int, count: int) -> Int64Array:
        """The `count` bank vectors, or all, that look nearest to the vector in `row`, in no order."""
        beyond = self.beyond[row]
        return np.argpartition(beyond, count)[:count] if count < len(beyond) else np.arange(len(beyond))

    def nearer(self, row: int, squared: float) -> Int64Array:
        """The bank vectors that may be nearer to the vector in `row` than a squared distance."""
        return np.flatnonzero(self.beyond[row] < squared - self.own[row])


class Bounding:
    """Bounds distances to a bank from below, by one product with all of its reduced vectors."""

    def __init__(self, subspace: Subspace, reduced: Float32Array, *, threads: int, concurrent: bool) -> None:
        """For the bank's `reduced` vectors (size, COORDINATES); the rest as `SmallNetwork` has it."""
        added = (1 - _SLACK) * np.einsum("ij,ij->i", reduced, reduced) - _MEAN_SLACK * subspace.mean_length
        self._network = SmallNetwork(
            lambda count: _products(-2 * reduced, added, count), threads=threads, concurrent=concurrent
        )

    def bound(self, reduced: Float32Array) -> LowerBounds:
        """For reduced vectors (m, COORDINATES), m ≤ `BOUNDED`, until this thread asks again."""
        rows = np.zeros((BOUNDED, COORDINATES), np.float32)  # another shape would take other memory each time
        rows[: len(reduced)] = reduced
        (beyond,) = self._network.ask(rows)
        return LowerBounds(beyond[: len(reduced)], (1 - _SLACK) * np.einsum("ij,ij->i", reduced, reduced))


def _nearest(subspace: Subspace, points: Float32Array, count: int, patches: int) -> ov.Model:
    """Coordinates z, then the largest of 2 z·p - |p|², which are the nearest points."""
    rows = op.parameter([patches, len(subspace.basis)], np.float32, name="patches")
    first = np.s_[..., : points.shape[1]]
    coordinates = op.subtract(
        op.matmul(rows, op.constant(subspace.basis[first].copy()), transpose_a=False, transpose_b=False),
        op.constant(subspace.origin[None][first]),
    )
    nearness = op.subtract(
        op.matmul(coordinates, op.constant(2 * points), transpose_a=False, transpose_b=True),
        op.constant(np.einsum("ij,ij->i", points, points)[None]),
    )
    nearest = op.topk(
        nearness, op.constant(np.int64(count)), axis=1, mode="max", sort="value", index_element_type="i64"
    )
    outputs = [op.result(coordinates), op.result(nearest.output(1))]
    if count > 1:
        outputs.append(op.result(nearness))  # an output is not rounded to half precision; writing it takes longer
    return ov.Model(outputs, [rows], "nearest")


def _products(vectors: Float32Array, added: Float32Array, count: int) -> ov.Model:
    """Rows (count, dim) → their products with `vectors` (size, dim), plus what is `added` (size,) for each of those."""
    rows = op.parameter([count, vectors.shape[1]], np.float32, name="rows")
    products = op.matmul(rows, op.constant(vectors), transpose_a=False, transpose_b=True)
    return ov.Model([op.result(op.add(products, op.constant(added[None])))], [rows], "products")
