from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edge.engine import core as cpu_engine
from edge.engine.kernels import faiss
from edge.normality.subspace import BOUNDED, COORDINATES, Bounding, Nearest, Subspace
from edge.records import Float32Array
from tests.edge.normality.test_fast_bank import clustered, far_from_the_origin, repeated, uniform

MAKERS = [clustered, uniform, far_from_the_origin, repeated]


@pytest.fixture(params=["as the CPU has it", "f32"])
def arithmetic(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "f32":
        monkeypatch.setattr(cpu_engine, "has_bf16", lambda: False)
    return str(request.param)


def true_squared(patches: Float32Array, bank: Float32Array) -> np.ndarray:
    differences = patches[:, None].astype(np.float64) - bank[None]
    return np.asarray((differences**2).sum(axis=2))


@pytest.mark.parametrize("make", MAKERS)
def test_reduced_vectors_are_never_farther_apart_than_the_vectors(make: Callable[[int, int], Float32Array]) -> None:
    bank, patches = make(400, 1), make(30, 2)
    subspace = Subspace(bank)
    reduced = true_squared(subspace.reduce(patches), subspace.reduce(bank))
    assert (np.sqrt(reduced) <= np.sqrt(true_squared(patches, bank)) + 1e-3 * np.linalg.norm(bank, axis=1).max()).all()


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("make", MAKERS)
def test_no_lower_bound_is_above_the_true_distance(make: Callable[[int, int], Float32Array]) -> None:
    bank, patches = make(1000, 1), make(BOUNDED - 3, 2)
    patches[0] = bank[17]
    subspace = Subspace(bank)
    lower = Bounding(subspace, subspace.reduce(bank), threads=2, concurrent=False).bound(subspace.reduce(patches))
    true = true_squared(patches, bank)
    assert (lower.beyond + lower.own[:, None] <= true).all()
    nearest = true.argmin(axis=1)
    for row, index in enumerate(nearest):
        assert index in lower.nearer(row, float(true[row, index]) * 1.000001 + 1e-6)


def test_lower_bounds_leave_little_of_the_bank() -> None:
    bank, patches = clustered(3000, 1), clustered(BOUNDED, 2)
    subspace = Subspace(bank)
    lower = Bounding(subspace, subspace.reduce(bank), threads=2, concurrent=False).bound(subspace.reduce(patches))
    true = true_squared(patches, bank).min(axis=1)
    left = [len(lower.nearer(row, float(true[row]))) for row in range(BOUNDED)]
    assert np.mean(left) < 0.1 * len(bank)  # of the twelve clusters, hardly more than one


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("probes", [1, 5])
def test_the_points_named_are_hardly_farther_than_the_nearest(probes: int) -> None:
    bank = clustered(3000, 1)
    subspace = Subspace(bank)
    centres = np.ascontiguousarray(subspace.coordinates(bank)[::50])
    nearest = Nearest(subspace, centres, probes, threads=2, concurrent=False)
    for count in (200, 31):  # compiled anew for another number of patches
        patches = clustered(count, 2)
        coordinates, found = nearest.find(patches)
        assert coordinates.shape == (count, COORDINATES)
        own = subspace.coordinates(patches)
        expected, _ = faiss.knn(own, centres, probes)  # squared distances
        got = ((centres[found] - own[:, None]) ** 2).sum(axis=2)
        assert np.sqrt(got).mean() <= 1.1 * np.sqrt(expected).mean()
