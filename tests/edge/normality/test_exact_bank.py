from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Thread

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.engine.kernels import faiss
from edge.engine.threads import available_cores
from edge.inspection.anomaly_map import reweighted_score
from edge.normality.exact_bank import ExactBank
from edge.records import Float32Array


def random_vectors(count: int, dimension: int, seed: int) -> Float32Array:
    return np.random.default_rng(seed).standard_normal((count, dimension), np.float32)


def brute_force(bank: Float32Array, patches: Float32Array) -> np.ndarray:
    differences = patches[:, None, :].astype(np.float64) - bank[None, :, :].astype(np.float64)
    return np.asarray(np.sqrt((differences**2).sum(axis=2)))


@pytest.mark.parametrize("patches", [1, 5, 19, 20, 300])  # faiss changes its method at 20
def test_nearest_distances_equal_brute_force(patches: int) -> None:
    bank, queries = random_vectors(500, 48, 0), random_vectors(patches, 48, 1)
    all_distances = brute_force(bank, queries)
    distances, indices = ExactBank(bank).search(queries)
    np.testing.assert_allclose(distances, all_distances.min(axis=1), rtol=1e-4)
    assert indices.tolist() == all_distances.argmin(axis=1).tolist()


@given(st.integers(1, 30), st.integers(1, 40), st.integers(1, 20), st.integers(0, 2**32))
def test_every_distance_is_that_to_the_vector_it_names(size: int, patches: int, dimension: int, seed: int) -> None:
    bank, queries = random_vectors(size, dimension, seed), random_vectors(patches, dimension, seed + 1)
    distances, indices = ExactBank(bank).search(queries)
    named = np.linalg.norm(bank[indices] - queries, axis=1)
    np.testing.assert_allclose(distances, named, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(distances, brute_force(bank, queries).min(axis=1), rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("patches", [4, 100])
def test_a_patch_that_is_in_the_bank_is_at_no_distance_and_never_nan(patches: int) -> None:
    bank = random_vectors(200, 64, 2)
    distances, _ = ExactBank(bank).search(bank[:patches])
    # The rounding of |a|² + |b|² - 2ab, seen through the square root.
    assert (distances >= 0).all()
    assert distances.max() <= np.sqrt(64 * 64 * np.finfo(np.float32).eps)


def test_a_bank_of_equal_vectors_gives_zero() -> None:
    bank = np.full((50, 16), 3.0, np.float32)
    distances, _ = ExactBank(bank).search(bank[:30])
    assert (distances == 0).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_patch_that_is_not_a_number_is_at_a_distance_that_is_none(bad: float) -> None:
    queries = random_vectors(30, 16, 3)
    queries[7, 5] = bad
    distances, _ = ExactBank(random_vectors(40, 16, 4)).search(queries)
    assert np.flatnonzero(~np.isfinite(distances)).tolist() == [7]


def test_results_are_valid_after_the_number_of_patches_changes() -> None:
    bank = random_vectors(50, 8, 5)
    exact = ExactBank(bank)
    for patches in (30, 3, 30):
        queries = random_vectors(patches, 8, patches)
        np.testing.assert_allclose(exact.search(queries)[0], brute_force(bank, queries).min(axis=1), rtol=1e-3)


def test_support_is_the_nearest_bank_vectors_of_the_nearest_bank_vector_itself_included() -> None:
    bank, patch = random_vectors(300, 24, 6), random_vectors(1, 24, 7)
    exact = ExactBank(bank)
    distances, indices = exact.search(patch)
    nearest = int(indices[0])
    peak = float(distances[0])
    members = np.argsort(brute_force(bank, bank[nearest : nearest + 1])[0])[:9]
    support = exact.support_distances(patch[0], nearest, 9)
    np.testing.assert_allclose(np.sort(support), np.sort(np.linalg.norm(bank[members] - patch[0], axis=1)), rtol=1e-4)
    assert support.min() == pytest.approx(peak, rel=1e-4)
    assert 0 < reweighted_score(peak, support) < peak


def test_support_is_the_whole_bank_where_the_bank_is_smaller() -> None:
    bank = random_vectors(4, 8, 8)
    assert ExactBank(bank).support_distances(bank[0], 2, 9).shape == (4,)


def test_size_is_the_number_of_vectors() -> None:
    assert ExactBank(random_vectors(17, 8, 9)).size == 17


def test_threads_search_at_the_same_time() -> None:
    bank, queries = random_vectors(500, 152, 9), [random_vectors(300, 152, seed) for seed in range(4)]
    exact = ExactBank(bank, threads=1)
    expected = [exact.search(patches)[0].copy() for patches in queries]

    def search_often(patches: Float32Array) -> list[Float32Array]:
        return [exact.search(patches)[0] for _ in range(50)]

    with ThreadPoolExecutor(4) as pool:
        for got, want in zip(pool.map(search_often, queries), expected, strict=True):
            assert all((distances == want).all() for distances in got)


def test_each_calling_thread_searches_with_the_bank_s_own_number_of_threads() -> None:
    exact, seen = ExactBank(random_vectors(50, 8, 1), threads=3), []

    def search() -> None:
        exact.search(random_vectors(10, 8, 2))
        seen.append(faiss.omp_get_max_threads())

    thread = Thread(target=search)
    thread.start()
    thread.join()
    assert seen == [3]
    assert ExactBank(random_vectors(50, 8, 1)).threads == available_cores() >= 1


def test_only_numpy_s_matrix_products_lose_their_threads() -> None:
    program = (
        "import numpy, faiss\n"
        "from edge.engine.threads import available_cores, use_one_blas_thread\n"
        "from edge.normality.exact_bank import ExactBank\n"
        "use_one_blas_thread()\n"
        "from threadpoolctl import threadpool_info\n"
        "for info in threadpool_info():\n"
        "    if info['user_api'] == 'blas' and info.get('threading_layer') != 'openmp': print(info['num_threads'])\n"
        "ExactBank(numpy.ones((40, 192), numpy.float32), 2).search(numpy.ones((30, 192), numpy.float32))\n"
        "assert faiss.omp_get_max_threads() == 2\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == {"1"}
