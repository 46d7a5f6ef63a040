from __future__ import annotations

import numpy as np
import pytest

from benchmarks.parts import enlarge, narrow, select_plainly
from export.teaching.coreset import select_greedy


def test_the_plain_loop_picks_what_ours_picks() -> None:
    points = np.random.default_rng(0).standard_normal((3000, 16)).astype(np.float32)
    ours = select_greedy(points, 200, seed=0)
    np.testing.assert_array_equal(select_plainly(points, int(ours[0]), 200), ours)


def test_pairs_of_the_deeper_layers_channels_are_averaged() -> None:
    patches = np.arange(2 * 1536, dtype=np.float32).reshape(2, 1536)
    narrowed = narrow(patches)
    assert narrowed.shape == (2, 1024)
    np.testing.assert_array_equal(narrowed[:, :512], patches[:, :512])
    assert narrowed[0, 512] == (512 + 513) / 2
    assert narrowed[1, -1] == 1536 + (1534 + 1535) / 2


@pytest.mark.parametrize("count", [3, 10, 25])
def test_an_enlarged_bank_begins_with_the_given_vectors_and_repeats_none(count: int) -> None:
    vectors = np.random.default_rng(0).standard_normal((10, 4)).astype(np.float32)
    enlarged = enlarge(vectors, count)
    assert enlarged.shape == (count, 4)
    assert enlarged.dtype == np.float32
    np.testing.assert_array_equal(enlarged[:10], vectors[:count])
    assert len(np.unique(enlarged, axis=0)) == count
