from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.records import Float32Array, Int64Array
from export.teaching.coreset import PROJECTION, part_picks, project, select_composable, select_greedy, select_random


def plain_loop(points: Float32Array, count: int, first: int) -> list[int]:
    """Greedy k-center, one point at a time, in float64."""
    exact = points.astype(np.float64)
    picks = [first]
    nearest = np.linalg.norm(exact - exact[first], axis=1)
    while len(picks) < count and nearest.max() > 0:
        picks.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.linalg.norm(exact - exact[picks[-1]], axis=1))
    return picks


def covering_radius(points: Float32Array, picks: Int64Array | list[int]) -> float:
    exact = points.astype(np.float64)
    nearest = np.full(len(points), np.inf)
    for pick in picks:
        nearest = np.minimum(nearest, np.linalg.norm(exact - exact[pick], axis=1))
    return float(nearest.max())


def random_points(count: int, dimension: int, seed: int) -> Float32Array:
    return np.random.default_rng(seed).standard_normal((count, dimension), np.float32)


def memory_mapped(points: Float32Array, directory: Path) -> Float32Array:
    """The same points in a file."""
    points.tofile(directory / "points.f32")
    return np.memmap(directory / "points.f32", np.float32, "r", shape=points.shape)


def clusters(seed: int) -> Float32Array:
    """A dense centre and a thin surrounding, as patch embeddings are."""
    generator = np.random.default_rng(seed)
    dense = generator.standard_normal((4000, 8), np.float32)
    thin = generator.standard_normal((80, 8), np.float32) * 12
    return np.concatenate([dense, thin])


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("points", "dimension", "count"),
    [
        (300, 16, 300),  # all of them
        (900, 32, 200),  # fewer points than are handled together
        (5000, 24, 700),  # more
    ],
)
def test_the_picks_are_those_of_the_plain_loop(points: int, dimension: int, count: int, seed: int) -> None:
    data = random_points(points, dimension, seed)
    picks = select_greedy(data, count, seed).tolist()
    assert picks == plain_loop(data, count, picks[0])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_picks_are_those_of_the_plain_loop_where_distances_crowd(seed: int) -> None:
    # Many picks in few dimensions: nearly equal distances. Whole numbers, for which float32 has no rounding.
    data, count = np.random.default_rng(seed).integers(-500, 500, (9000, 3)).astype(np.float32), 1500
    picks = select_greedy(data, count, seed).tolist()
    assert picks == plain_loop(data, count, picks[0])


@given(
    st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=80), st.integers(1, 80), st.integers(0, 2**32)
)
def test_every_pick_is_a_point_farthest_from_those_before_it(
    lattice: list[tuple[int, int, int]], count: int, seed: int
) -> None:
    points = np.asarray(lattice, np.float32)  # whole numbers: ties and duplicates, and no rounding
    picks = select_greedy(points, count, seed)
    assert len(picks) == min(count, len(set(lattice)))
    for number in range(1, len(picks)):
        before = picks[:number]
        to_pick = float(np.linalg.norm(points[before] - points[picks[number]], axis=1).min())
        assert to_pick == pytest.approx(covering_radius(points, before))
    plain = plain_loop(points, count, int(picks[0]))
    assert covering_radius(points, picks) == pytest.approx(covering_radius(points, plain))


@pytest.mark.parametrize("seed", [0, 1])
def test_ties_beyond_the_points_handled_together_are_broken_as_in_the_plain_loop(seed: int) -> None:
    points = np.random.default_rng(seed).integers(0, 6, (5000, 4)).astype(np.float32)
    picks = select_greedy(points, 400, seed).tolist()
    assert picks == plain_loop(points, 400, picks[0])


def test_repeated_points_end_the_selection_early() -> None:
    unique = np.random.default_rng(0).permutation(400)[:50].astype(np.float32)
    points = np.tile(np.stack([unique, unique * 2], axis=1), (40, 1))
    picks = select_greedy(points, 200, seed=0)
    assert len(picks) == 50
    assert len({tuple(point) for point in points[picks].tolist()}) == 50


def test_equal_points_give_one_pick() -> None:
    assert len(select_greedy(np.ones((3000, 7), np.float32), 10, seed=0)) == 1


def test_asking_for_more_than_there_are_gives_each_once() -> None:
    picks = select_greedy(random_points(700, 64, 11) * 10, 2000, seed=0)
    assert sorted(picks.tolist()) == list(range(700))


def test_no_point_is_picked_twice() -> None:
    picks = select_greedy(clusters(3), 900, seed=0)
    assert len(set(picks.tolist())) == 900


def test_the_same_seed_gives_the_same_picks_and_another_seed_others() -> None:
    points = random_points(2000, 12, 4)
    first = select_greedy(points, 50, seed=5).tolist()
    assert select_greedy(points, 50, seed=5).tolist() == first
    assert select_greedy(points, 50, seed=6).tolist() != first


def test_the_selection_begins_far_outside() -> None:
    points = clusters(5)
    first = select_greedy(points, 1, seed=0)[0]
    distances = np.linalg.norm(points - points.mean(axis=0), axis=1)
    assert distances[first] > np.quantile(distances, 0.99)


def test_greedy_picks_cover_far_better_than_random_ones() -> None:
    points = clusters(6)
    greedy = covering_radius(points, select_greedy(points, 200, seed=0))
    by_chance = covering_radius(points, select_random(len(points), 200, seed=0))
    assert greedy < 0.5 * by_chance


def test_progress_ends_at_the_number_of_picks() -> None:
    reported: list[int] = []
    picks = select_greedy(random_points(3000, 8, 7), 500, 0, reported.append)
    assert reported == sorted(set(reported))
    assert reported[-1] == len(picks) == 500


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_memory_mapped_points_give_the_picks_of_the_plain_loop(tmp_path: Path, seed: int) -> None:
    data = random_points(20_000, 24, seed)  # three blocks
    picks = select_greedy(memory_mapped(data, tmp_path), 300, seed).tolist()
    assert picks == plain_loop(data, 300, picks[0])
    assert picks == select_greedy(data, 300, seed).tolist()


def test_selection_keeps_few_bytes_a_point_in_memory(tmp_path: Path) -> None:
    points, dimension = 200_000, 64
    data = memory_mapped(random_points(points, dimension, 12), tmp_path)
    tracemalloc.start()
    try:
        select_greedy(data, 40, seed=0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    constant = 12e6  # candidates by candidates, and one block of distances
    assert peak < 20 * points + constant < 4 * dimension * points / 2


def radius_of_greedy(points: Float32Array, count: int) -> float:
    return covering_radius(points, plain_loop(points, count, 0))


@given(
    st.lists(st.tuples(*[st.integers(0, 9)] * 2), min_size=1, max_size=90),
    st.integers(1, 60),
    st.integers(1, 12),
    st.integers(0, 2**32),
)
def test_picks_in_parts_are_different_points_within_the_proven_radius(
    lattice: list[tuple[int, int]], count: int, parts: int, seed: int
) -> None:
    points = np.asarray(lattice, np.float32)
    picks = select_composable(points, count, seed, parts)
    assert 1 <= len(picks) <= count
    assert set(picks.tolist()) <= set(range(len(points)))
    assert len({lattice[pick] for pick in picks}) == len(picks)
    each = part_picks(count, min(parts, len(points)))
    proven = 2 * radius_of_greedy(points, each) + 2 * radius_of_greedy(points, count)
    assert covering_radius(points, picks) <= proven + 1e-5


@pytest.mark.parametrize("parts", [2, 3, 4, 16])
@pytest.mark.parametrize("seed", [0, 1])
def test_picks_in_parts_cover_almost_as_well_as_exact_ones(parts: int, seed: int) -> None:
    points = clusters(seed)
    picks = select_composable(points, 200, seed, parts)
    assert len(set(picks.tolist())) == 200
    exact = covering_radius(points, select_greedy(points, 200, seed))
    by_chance = covering_radius(points, select_random(len(points), 200, seed))
    assert covering_radius(points, picks) < 1.5 * exact < by_chance


def test_one_part_is_the_exact_selection() -> None:
    points = clusters(2)
    assert select_composable(points, 100, 0, 1).tolist() == select_greedy(points, 100, 0).tolist()


def test_two_parts_give_every_pick_that_is_asked_for_each() -> None:
    assert part_picks(100, 2) == 100  # the proven factor is 4
    assert part_picks(100, 3) == 67
    assert part_picks(100, 1000) == 1


def test_more_parts_than_points_leave_nothing_out() -> None:
    points = random_points(7, 3, 0)
    assert sorted(select_composable(points, 7, 0, 50).tolist()) == list(range(7))


def test_parts_follow_from_the_seed_and_from_their_number() -> None:
    points = random_points(2000, 12, 4)
    first = select_composable(points, 300, 5, 4).tolist()
    assert select_composable(points, 300, 5, 4).tolist() == first
    assert select_composable(points, 300, 5, 3).tolist() != first
    assert select_composable(points, 300, 6, 4).tolist() != first


def test_memory_mapped_points_are_selected_in_parts_alike(tmp_path: Path) -> None:
    points = clusters(7)
    mapped = select_composable(memory_mapped(points, tmp_path), 120, 0, 4)
    assert mapped.tolist() == select_composable(points, 120, 0, 4).tolist()


def test_progress_of_parts_grows_to_the_number_of_picks() -> None:
    reported: list[int] = []
    select_composable(random_points(3000, 8, 7), 500, 0, 4, reported.append)
    assert reported == sorted(reported)
    assert reported[-1] == 500
    # Four parts of 750 points give 250 picks each, and 500 of these 1000 are picked again: 3 and 2 fifths of the work.
    assert 300 in reported


def test_random_picks_are_distinct_and_seeded() -> None:
    picks = select_random(100, 30, seed=1)
    assert len(set(picks.tolist())) == 30
    assert picks.min() >= 0
    assert picks.max() < 100
    assert select_random(100, 30, seed=1).tolist() == picks.tolist()
    assert sorted(select_random(5, 30, seed=1).tolist()) == [0, 1, 2, 3, 4]


def test_the_projection_keeps_distances_within_a_fifth() -> None:
    points = random_points(60, 1000, 8) * 3
    projected = project(points, seed=0)
    assert projected.shape == (60, PROJECTION)
    assert projected.dtype == np.float32
    upper = np.triu_indices(60, 1)
    before = np.linalg.norm(points[:, None] - points[None], axis=2)[upper]
    after = np.linalg.norm(projected[:, None] - projected[None], axis=2)[upper]
    assert (after / before).mean() == pytest.approx(1, abs=0.05)
    assert np.quantile(np.abs(after / before - 1), 0.95) < 0.2


def test_what_is_small_already_is_not_projected() -> None:
    points = random_points(10, PROJECTION, 9)
    assert (project(points, seed=0) == points).all()


def test_pictures_projected_one_by_one_are_projected_alike() -> None:
    points = random_points(30, 200, 10)
    parts = np.concatenate([project(points[:10], seed=3), project(points[10:], seed=3)])
    np.testing.assert_allclose(parts, project(points, seed=3), rtol=1e-5, atol=1e-5)
    assert np.abs(parts - project(points, seed=4)).max() > 0.1
