"""Vectors in few coordinates, and the inverted lists nearest to them.

A reduced vector has the coordinates of a vector in the bank's principal subspace, around the bank's mean, and as one
more coordinate the length of what is left over. Patches are reduced, and compared with the centres of the lists, by a
small network of OpenVINO: its threads share work instead of waiting for one another, so that a busy machine costs
little, and it takes half the time of NumPy and faiss.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as op

from edge.bank import available_cores
from edge.records import Float32Array, Int64Array

REDUCED = 64  # coordinates, the length of the rest among them

_SAMPLE = 20_000  # vectors that the subspace is fitted to
_OVERSAMPLED = 16  # directions beyond those kept, and ...
_ITERATIONS = 2  # ... rounds of the randomised subspace iteration: Halko, Martinsson, Tropp 2011, algorithm 4.4
_SEED = 0


class Subspace:
    """The directions in which vectors spread most, around their mean."""

    def __init__(self, vectors: Float32Array) -> None:
        """Fit to `vectors` (n, dim), dim ≥ `REDUCED`."""
        generator = np.random.default_rng(_SEED)
        sample = vectors if len(vectors) <= _SAMPLE else generator.choice(vectors, _SAMPLE, replace=False)
        mean = sample.mean(axis=0)
        centred = sample - mean
        size = min(vectors.shape[1], REDUCED - 1 + _OVERSAMPLED)
        directions = generator.standard_normal((vectors.shape[1], size), np.float32)
        for _ in range(_ITERATIONS):
            directions, _ = np.linalg.qr(centred.T @ (centred @ directions))
        spread = centred @ directions
        _, rotation = np.linalg.eigh(spread.T @ spread)  # in rising order
        basis = directions @ rotation[:, :-REDUCED:-1]
        self.matrix = np.ascontiguousarray(np.column_stack([basis, mean]), np.float32)  # (dim, REDUCED)
        self.origin = np.asarray(mean @ basis, np.float32)  # (REDUCED − 1,)
        self.mean_length = float(mean @ mean)  # squared

    def reduce(self, vectors: Float32Array) -> Float32Array:
        """Vectors (n, dim) → (n, REDUCED): coordinates, and the length of the rest."""
        reduced: Float32Array = vectors @ self.matrix  # the last column: products with the mean
        rest = np.einsum("ij,ij->i", vectors, vectors)
        rest -= 2 * reduced[:, -1]
        rest += self.mean_length
        coordinates = reduced[:, :-1]
        coordinates -= self.origin
        rest -= np.einsum("ij,ij->i", coordinates, coordinates)
        np.sqrt(np.maximum(rest, 0, out=rest), out=reduced[:, -1])
        return reduced


class NearestLists:
    """Reduces patches and names the lists whose centres are nearest. Several threads may ask at once."""

    def __init__(
        self, subspace: Subspace, centres: Float32Array, probes: int, *, threads: int, concurrent: bool
    ) -> None:
        """Compile for the `probes` nearest of `centres` (lists, REDUCED).

        Args:
            subspace: of the bank.
            centres: of the lists.
            probes: how many lists a patch is given.
            threads: of each question.
            concurrent: several threads will ask at the same time.
        """
        # Always f32: half precision would lose the length of the rest, a difference of large numbers.
        config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
        if concurrent:
            config |= {"NUM_STREAMS": available_cores(), "INFERENCE_NUM_THREADS": available_cores()}
        else:
            config |= {"PERFORMANCE_HINT": "LATENCY"}
        model = _network(subspace, centres, probes)
        self._compiled: Any = ov.Core().compile_model(model, "CPU", config)
        self._own = threading.local()

    def find(self, patches: Float32Array) -> tuple[Float32Array, Int64Array]:
        """Patches (n, dim) → reduced (n, REDUCED) and lists (n, probes), until this thread asks again."""
        request = getattr(self._own, "request", None)
        if request is None:
            request = self._own.request = self._compiled.create_infer_request()
        request.set_input_tensor(ov.Tensor(np.ascontiguousarray(patches), shared_memory=True))
        request.infer()
        return request.get_output_tensor(0).data, request.get_output_tensor(1).data


def _network(subspace: Subspace, centres: Float32Array, probes: int) -> ov.Model:
    """`Subspace.reduce`, then the largest of 2 z·c - |c|², which are the nearest centres."""
    patches = op.parameter([-1, len(subspace.matrix)], np.float32, name="patches")
    products = op.matmul(patches, op.constant(subspace.matrix), transpose_a=False, transpose_b=False)
    coordinates = op.subtract(_columns(products, 0, REDUCED - 1), op.constant(subspace.origin[None]))
    with_mean = _columns(products, REDUCED - 1, REDUCED)
    around_mean = op.add(
        op.subtract(_lengths(patches), op.multiply(with_mean, _number(2.0))), _number(subspace.mean_length)
    )
    rest = op.sqrt(op.maximum(op.subtract(around_mean, _lengths(coordinates)), _number(0.0)))
    reduced = op.concat([coordinates, rest], axis=1)
    nearness = op.subtract(
        op.matmul(reduced, op.constant(2 * centres), transpose_a=False, transpose_b=True),
        op.constant(np.einsum("ij,ij->i", centres, centres)[None]),
    )
    nearest = op.topk(nearness, _whole(probes), axis=1, mode="max", sort="value", index_element_type="i64")
    return ov.Model([op.result(reduced), op.result(nearest.output(1))], [patches], "nearest_lists")


def _lengths(rows: Any) -> Any:
    """Squared, (n, 1)."""
    length = op.reduce_l2(rows, _whole([1]), keep_dims=True)  # in one pass over the rows
    return op.multiply(length, length)


def _columns(rows: Any, start: int, stop: int) -> Any:
    return op.slice(rows, _whole([start]), _whole([stop]), _whole([1]), _whole([1]))


def _number(value: float) -> Any:
    return op.constant(np.float32(value))


def _whole(value: int | list[int]) -> Any:
    return op.constant(np.asarray(value, np.int64))
