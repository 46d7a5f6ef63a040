"""The usual deployment, rebuilt for comparison: the whole PatchCore graph, memory bank included, as one IR.

It does what anomalib's exported Patchcore does: distances of every patch to the whole bank by one matrix product, the
nearest one by TopK, the image score re-weighted over nine neighbours (equation 7), the map upsampled bilinearly and
blurred (σ = 4), all for every frame. The network is our own f32 IR, preprocessing inside.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
from openvino import opset13 as op

from edge.inspection.anomaly_map import BLUR_SIGMA
from edge.records import Float32Array, UInt8Array

NEIGHBOURS = 9  # anomalib's default
SCORE, MAP = 0, 1  # outputs
_REACH = round(4 * BLUR_SIGMA)  # of the Gaussian kernel


class CompiledGraph:
    """The graph on the CPU, one request; or several in flight, compiled anew for that."""

    def __init__(self, xml: Path, precision: str, cache_dir: Path | None = None) -> None:
        """Compile `xml` for `precision` (f32, bf16) arithmetic."""
        core = ov.Core()
        if cache_dir is not None:
            core.set_property({"CACHE_DIR": str(cache_dir)})
        self._core, self._xml = core, xml
        self._config = {"INFERENCE_PRECISION_HINT": precision}
        compiled = core.compile_model(xml, "CPU", self._config | {"PERFORMANCE_HINT": "LATENCY"})
        self.input: UInt8Array = np.zeros(tuple(compiled.input(0).shape), np.uint8)
        self._request = compiled.create_infer_request()
        self._request.set_input_tensor(ov.Tensor(self.input, shared_memory=True))

    def run(self) -> tuple[float, Float32Array]:
        """Score and map (height, width) of the picture in `input`; the next call overwrites the map."""
        self._request.infer(share_outputs=True)
        score = float(self._request.get_output_tensor(SCORE).data[0])
        return score, self._request.get_output_tensor(MAP).data[0, 0]

    def queue(self) -> ov.AsyncInferQueue:
        """As many requests in flight as OpenVINO finds best for throughput."""
        compiled = self._core.compile_model(self._xml, "CPU", self._config | {"PERFORMANCE_HINT": "THROUGHPUT"})
        return ov.AsyncInferQueue(compiled)


def build_graph(model: ov.Model, bank: Float32Array, grid: tuple[int, int], size: tuple[int, int]) -> ov.Model:
    """`model`, whose output is embeddings (rows · columns, dim), with everything after it.

    Args:
        model: picture → embeddings; becomes part of the result.
        bank: (vectors, dim).
        grid: (rows, columns) of patches.
        size: (height, width) of the map.

    Returns:
        A model with outputs `SCORE` (1,) and `MAP` (1, 1, height, width).
    """
    embeddings = model.outputs[0].get_node().input_value(0)
    vectors = op.constant(bank)
    lengths = op.constant(np.einsum("ij,ij->i", bank, bank)[None])
    nearest = op.topk(_distances(embeddings, vectors, lengths), op.constant(1), 1, "min", "none")
    score = _image_score(embeddings, nearest, vectors, lengths)
    return ov.Model([op.result(score), op.result(_map(nearest.output(0), grid, size))], model.get_parameters(), "graph")


def _distances(patches: ov.Output, vectors: ov.Node, lengths: ov.Node) -> ov.Node:
    """(n, dim) and (m, dim) → (n, m), by |x|² + |y|² - 2xy."""
    own = op.reduce_sum(_square(patches), op.constant([1]), keep_dims=True)
    products = op.matmul(patches, vectors, transpose_a=False, transpose_b=True)
    squared = op.subtract(op.add(own, lengths), op.multiply(products, op.constant(np.float32(2))))
    return op.sqrt(op.maximum(squared, op.constant(np.float32(0))))


def _image_score(embeddings: ov.Output, nearest: ov.Node, vectors: ov.Node, lengths: ov.Node) -> ov.Node:
    """Equation 7: the peak, re-weighted by the neighbours of its nearest bank vector, itself among them."""
    peak = op.topk(_flat(nearest.output(0)), op.constant(1), 0, "max", "none")
    patch = op.gather(embeddings, peak.output(1), op.constant(0))  # (1, dim)
    member = op.gather(_flat(nearest.output(1)), peak.output(1), op.constant(0))
    around = _distances(op.gather(vectors, member, op.constant(0)).output(0), vectors, lengths)
    neighbours = _flat(op.topk(around, op.constant(NEIGHBOURS), 1, "min", "none").output(1)).output(0)
    difference = op.subtract(op.gather(vectors, neighbours, op.constant(0)), patch)
    support = op.sqrt(op.reduce_sum(_square(difference), op.constant([1]), keep_dims=False))
    # The first of its own neighbours is the member itself.
    share = op.gather(op.softmax(support, 0), op.constant([0]), op.constant(0))
    return op.multiply(op.subtract(op.constant(np.float32(1)), share), peak.output(0))


def _map(distances: ov.Output, grid: tuple[int, int], size: tuple[int, int]) -> ov.Node:
    """Patch distances (n, 1) → (1, 1, height, width), bilinear, then Gaussian with mirrored borders."""
    upsampled = op.interpolate(
        op.reshape(distances, op.constant([1, 1, *grid]), special_zero=False),
        op.constant(np.array(size, np.int64)),
        mode="linear_onnx",  # bilinear, as PyTorch's comes out of OpenVINO's conversion
        shape_calculation_mode="sizes",
        axes=op.constant(np.array([2, 3], np.int64)),
    )
    border = op.constant([0, 0, _REACH, _REACH])
    padded = op.pad(upsampled, border, border, "reflect")
    profile = np.exp(-0.5 * (np.arange(-_REACH, _REACH + 1) / BLUR_SIGMA) ** 2)
    kernel = np.outer(profile, profile).astype(np.float32)[None, None] / np.float32(profile.sum() ** 2)
    return op.convolution(padded, op.constant(kernel), [1, 1], [0, 0], [0, 0], [1, 1])


def _flat(values: ov.Output) -> ov.Node:
    return op.reshape(values, op.constant([-1]), special_zero=False)


def _square(values: ov.Output) -> ov.Node:
    return op.power(values, op.constant(np.float32(2)))
