from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge.normality.exact_bank import ExactBank
from edge.normality.fast_bank import LEAST_DIMENSION, LEAST_VECTORS, FastBank
from edge.normality.make import make_bank
from edge.normality.subspace import COORDINATES
from edge.records import Float32Array

DIMENSION = 160


def clustered(count: int, seed: int, *, spread: float = 1.0, offset: float = 0.0) -> Float32Array:
    """Vectors as embeddings are: around a few centres, most of their variance in few directions."""
    generator = np.random.default_rng(seed)
    world = np.random.default_rng(99)
    centres = world.standard_normal((12, DIMENSION)) * 3
    scales = 2.0 / (1 + np.arange(DIMENSION)) ** 0.7
    around = generator.standard_normal((count, DIMENSION)) * scales * spread
    return np.asarray(centres[generator.integers(0, 12, count)] + around + offset, np.float32)


def uniform(count: int, seed: int) -> Float32Array:
    """The hardest case: no direction matters more than another."""
    return np.random.default_rng(seed).random((count, DIMENSION), np.float32)


def far_from_the_origin(count: int, seed: int) -> Float32Array:
    return clustered(count, seed, offset=300.0)


def repeated(count: int, seed: int) -> Float32Array:
    return np.repeat(clustered(count // 16 + 1, seed), 16, axis=0)[:count]


@pytest.mark.parametrize("make", [clustered, uniform, far_from_the_origin, repeated])
@pytest.mark.parametrize("vectors", [LEAST_VECTORS, 3000])
def test_the_peak_is_the_exact_one(make: Callable[[int, int], Float32Array], vectors: int) -> None:
    bank = make(vectors, 1)
    fast, exact = FastBank(bank), ExactBank(bank)
    for seed in range(5):
        patches = make(200, 10 + seed)
        patches[seed] += seed
        expected = exact.peak(patches)
        found = fast.peak(patches)
        assert found.patch == expected.patch
        assert found.distance == pytest.approx(expected.distance, rel=1e-3)
        assert found.distance == pytest.approx(np.linalg.norm(bank[found.index] - patches[found.patch]), rel=1e-3)


@given(st.integers(0, 10**6), st.floats(0.1, 4), st.integers(1, 300))
def test_peak_and_largest_distance_agree_and_no_distance_is_too_small(seed: int, spread: float, patches: int) -> None:
    fast, exact = BANKS
    queries = clustered(patches, seed, spread=spread)
    distances, indices = fast.search(queries)
    expected, _ = exact.search(queries)
    assert (distances >= expected * (1 - 1e-4)).all()
    assert np.allclose(distances, np.linalg.norm(CLUSTERED[indices] - queries, axis=1), rtol=1e-3)
    assert distances.max() == pytest.approx(expected.max(), rel=1e-3)
    assert fast.peak(queries).distance == pytest.approx(distances.max(), rel=1e-3)


def test_map_values_are_near_the_exact_ones() -> None:
    fast, exact = BANKS
    queries = clustered(784, 5)
    expected, _ = exact.search(queries)
    distances, _ = fast.search(queries)
    assert float((distances / expected - 1).mean()) <= 0.002


@given(st.integers(0, 10**6), st.floats(0.1, 4), st.integers(1, 300))
@example(0, 0.3828125, 235)  # another patch, whose bound was above the peak, is lowered to it: both are the largest
def test_a_peak_that_is_known_is_the_largest_distance_and_none_is_too_small(
    seed: int, spread: float, patches: int
) -> None:
    fast, exact = BANKS
    queries = clustered(patches, seed, spread=spread)
    peak = fast.peak(queries)
    distances, indices = fast.search(queries, peak)
    assert distances[peak.patch] == distances.max()
    assert distances.max() == pytest.approx(peak.distance, rel=1e-6)
    assert indices[peak.patch] == peak.index
    assert (distances >= exact.search(queries)[0] * (1 - 1e-3)).all()


def test_frames_on_which_every_patch_is_strange_are_exact_too() -> None:
    fast, exact = BANKS
    queries = np.full((400, DIMENSION), 50, np.float32) + uniform(400, 3)
    assert fast.peak(queries).distance == pytest.approx(exact.peak(queries).distance, rel=1e-3)


def test_patches_of_the_bank_itself_have_distances_near_zero() -> None:
    fast, _ = BANKS
    distances, _ = fast.search(CLUSTERED[:500])
    assert distances.max() < 0.02 * np.linalg.norm(CLUSTERED[0])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_patch_that_is_not_a_number_has_no_distance(value: float) -> None:
    fast, _ = BANKS
    queries = clustered(20, 6)
    queries[3, 7] = value
    distances, _ = fast.search(queries)
    assert not np.isfinite(distances[3])
    assert np.isfinite(np.delete(distances, 3)).all()
    assert not np.isfinite(fast.peak(queries).distance)


def test_results_survive_the_next_search() -> None:
    fast, _ = BANKS
    distances, indices = fast.search(clustered(50, 7))
    before = distances.copy(), indices.copy()
    fast.search(clustered(50, 8))
    assert (distances == before[0]).all()
    assert (indices == before[1]).all()


def test_peaks_and_maps_of_several_threads_do_not_disturb_each_other() -> None:
    fast, _ = BANKS
    queries = [clustered(300, seed) for seed in range(20, 24)]
    expected = [(fast.search(patches)[0], fast.peak(patches).distance) for patches in queries]

    def ask_often(patches: Float32Array) -> list[tuple[Float32Array, float]]:
        return [(fast.search(patches)[0], fast.peak(patches).distance) for _ in range(20)]

    with ThreadPoolExecutor(4) as pool:
        for answers, (distances, peak) in zip(pool.map(ask_often, queries), expected, strict=True):
            assert all((got == distances).all() for got, _ in answers)
            assert all(got == peak for _, got in answers)


def test_the_same_bank_finds_the_same_again() -> None:
    queries = clustered(100, 9)
    first, second = FastBank(CLUSTERED).search(queries), FastBank(CLUSTERED).search(queries)
    assert (first[0] == second[0]).all()
    assert (first[1] == second[1]).all()


@pytest.mark.parametrize("make", [clustered, uniform, far_from_the_origin, repeated])
@pytest.mark.parametrize(("vectors", "count"), [(LEAST_VECTORS, 9), (3000, 2), (3000, 9), (3000, 50)])
def test_support_distances_are_those_of_the_exact_bank(
    make: Callable[[int, int], Float32Array], vectors: int, count: int
) -> None:
    bank = make(vectors, 1)
    fast, exact = FastBank(bank), ExactBank(bank)
    for seed, patch in enumerate(make(8, 11)):
        index = exact.peak(patch[None]).index if seed % 2 else seed
        expected = exact.support_distances(patch, index, count)
        # Copies of a vector are equally near: which of them is taken does not matter, how far they are does.
        assert np.allclose(fast.support_distances(patch, index, count), expected, rtol=1e-4, atol=1e-3)


def test_bounds_leave_few_of_the_bank_that_can_be_among_the_neighbours() -> None:
    fast, _ = BANKS
    for index in range(0, len(CLUSTERED), 300):
        distances = np.linalg.norm(CLUSTERED - CLUSTERED[index], axis=1)
        bounds = fast._bounding.bound(fast._subspace.reduce(CLUSTERED[[index]]))
        assert len(bounds.nearer(0, np.sort(distances)[8] ** 2)) < len(CLUSTERED) / 10


@pytest.mark.parametrize("vectors", [LEAST_VECTORS, LEAST_VECTORS + 1])
def test_support_is_the_whole_bank_where_that_is_smaller(vectors: int) -> None:
    bank = clustered(vectors, 3)
    assert FastBank(bank).support_distances(bank[0], 0, 1000).shape == (vectors,)


@pytest.mark.parametrize(
    ("vectors", "dimension", "kind"),
    [
        (LEAST_VECTORS, LEAST_DIMENSION, FastBank),
        (LEAST_VECTORS - 1, LEAST_DIMENSION, ExactBank),
        (LEAST_VECTORS, LEAST_DIMENSION - 1, ExactBank),
    ],
)
def test_small_banks_are_searched_exhaustively(vectors: int, dimension: int, kind: type) -> None:
    bank = np.random.default_rng(0).random((vectors, dimension), np.float32)
    assert isinstance(make_bank(bank, "fast"), kind)
    assert isinstance(make_bank(bank, "exact"), ExactBank)
    assert make_bank(bank, "fast").size == vectors


@pytest.mark.parametrize("level", ["NONE", "AVX2", "AVX512"])
def test_older_instruction_sets_find_the_same(level: str) -> None:
    program = (
        "from tests.edge.normality.test_fast_bank import *\n"
        "fast, exact = BANKS\n"
        "queries = clustered(100, 12)\n"
        "assert abs(fast.peak(queries).distance / exact.peak(queries).distance - 1) < 1e-3\n"
        "print(float((fast.search(queries)[0] / exact.search(queries)[0] - 1).mean()))\n"
    )
    environment = {**os.environ, "FAISS_SIMD_LEVEL": level, "OPENBLAS_CORETYPE": "Haswell"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) <= 0.002


CLUSTERED = clustered(3000, 0)
BANKS = FastBank(CLUSTERED), ExactBank(CLUSTERED)
assert COORDINATES < LEAST_DIMENSION
