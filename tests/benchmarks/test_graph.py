from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as op

from benchmarks.graph import NEIGHBOURS, CompiledGraph, build_graph
from edge.inspection.anomaly_map import BLUR_SIGMA
from edge.records import Float32Array, UInt8Array

GRID, SIZE, VECTORS = (6, 8), (48, 64), 30


@pytest.fixture
def bank() -> Float32Array:
    return np.random.default_rng(1).uniform(0, 255, (VECTORS, 3)).astype(np.float32)


@pytest.fixture
def picture() -> UInt8Array:
    return np.random.default_rng(2).integers(0, 256, (1, *GRID, 3), np.uint8)


@pytest.fixture
def graph(bank: Float32Array, tmp_path: Path) -> CompiledGraph:
    """Each pixel of a small picture is a patch, and its colour the embedding."""
    image = op.parameter([1, *GRID, 3], np.uint8)
    embeddings = op.reshape(op.convert(image, np.float32), op.constant([-1, 3]), special_zero=False)
    model = build_graph(ov.Model([op.result(embeddings)], [image], "colours"), bank, GRID, SIZE)
    ov.save_model(model, tmp_path / "graph.xml", compress_to_fp16=False)
    return CompiledGraph(tmp_path / "graph.xml", "f32")


def distances_to(bank: Float32Array, patches: Float32Array) -> Float32Array:
    distances: Float32Array = np.linalg.norm(patches[:, None] - bank[None], axis=2)
    return distances


def test_score_and_map_are_those_of_the_paper(graph: CompiledGraph, bank: Float32Array, picture: UInt8Array) -> None:
    patches = picture.reshape(-1, 3).astype(np.float32)
    distances = distances_to(bank, patches)
    nearest = distances.min(axis=1)
    worst = int(nearest.argmax())
    member = bank[distances[worst].argmin()]
    neighbours = np.argsort(np.linalg.norm(bank - member, axis=1))[:NEIGHBOURS]
    support = np.linalg.norm(bank[neighbours] - patches[worst], axis=1).astype(np.float64)
    weight = 1 - np.exp(nearest[worst] - support.max()) / np.exp(support - support.max()).sum()
    upsampled = cv2.resize(nearest.reshape(GRID), SIZE[::-1], interpolation=cv2.INTER_LINEAR)
    expected = cv2.GaussianBlur(upsampled, (33, 33), BLUR_SIGMA, borderType=cv2.BORDER_REFLECT_101)

    graph.input[:] = picture
    score, anomaly = graph.run()

    assert score == pytest.approx(weight * nearest[worst], rel=1e-4)
    assert anomaly.shape == SIZE
    np.testing.assert_allclose(anomaly, expected, rtol=1e-3, atol=1e-2)


def test_with_several_in_flight_every_picture_has_the_score_it_has_alone(
    graph: CompiledGraph, picture: UInt8Array
) -> None:
    pictures = [picture, picture[:, ::-1].copy(), 255 - picture]
    alone = []
    for one in pictures:
        graph.input[:] = one
        alone.append(graph.run()[0])
    queue, together = graph.queue(), {}
    queue.set_callback(lambda request, number: together.update({number: float(request.get_output_tensor(0).data[0])}))
    for number, one in enumerate(pictures):
        queue.start_async({0: one}, number)
    queue.wait_all()
    assert [together[number] for number in range(3)] == pytest.approx(alone, rel=1e-4)
