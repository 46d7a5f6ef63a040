from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from edge.inspection.anomaly_map import anomaly_map, find_defects, judge, reweighted_score
from edge.records import AnomalyMap, Box, Float32Array, Outcome

SQUARE = Box(0, 0, 64, 64)


def map_with(*blobs: tuple[slice, slice, float], region: Box = SQUARE) -> AnomalyMap:
    values = np.zeros((64, 64), np.float32)
    for rows, columns, value in blobs:
        values[rows, columns] = value
    return AnomalyMap(values, region)


@given(st.lists(st.floats(0.0625, 300, width=32), min_size=2, max_size=9))
def test_reweighting_is_equation_7_as_the_paper_writes_it(distances: list[float]) -> None:
    support = np.asarray(distances, np.float32)
    peak = float(support.min())  # m* is the nearest of its own neighbours
    plain = (1 - np.exp(np.float64(peak)) / np.exp(support.astype(np.float64)).sum()) * peak
    assert reweighted_score(peak, support) == pytest.approx(plain, rel=1e-4)


def test_reweighting_does_not_overflow_at_distances_of_ten_thousand() -> None:
    support = np.full(9, 1e4, np.float32)
    assert reweighted_score(1e4, support) == pytest.approx((1 - 1 / 9) * 1e4)


def test_a_peak_far_from_all_neighbours_but_its_own_keeps_its_score() -> None:
    support = np.asarray([5.0, 9000.0, 10_000.0], np.float32)
    assert reweighted_score(5.0, support) == 5.0


def test_a_rounded_peak_above_its_support_never_scores_below_zero() -> None:
    assert reweighted_score(10.1, np.asarray([10.0], np.float32)) == 0.0


def test_the_map_is_bilinear_upsampling_and_a_gaussian_of_four_pixels() -> None:
    distances = np.random.default_rng(0).random((7, 9), np.float32) * 20
    height, width = 7 * 8, 9 * 16
    upsampled = ndimage.zoom(distances, (8, 16), order=1, mode="nearest", grid_mode=True)
    expected = ndimage.gaussian_filter(upsampled, sigma=4.0, truncate=4.0, mode="reflect")
    got = anomaly_map(distances, height, width, SQUARE).values
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_the_map_peaks_where_the_worst_patch_is() -> None:
    distances = np.ones((8, 8), np.float32)
    distances[2, 6] = 9
    values = anomaly_map(distances, 128, 128, SQUARE).values
    row, column = divmod(int(values.argmax()), values.shape[1])
    assert (row // 16, column // 16) == (2, 6)


def test_a_score_equal_to_the_threshold_passes() -> None:
    assert judge(2.0, 2.0) is Outcome.PASS
    assert judge(math.nextafter(2.0, 3.0), 2.0) is Outcome.FAIL


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_a_number_is_no_result(score: float) -> None:
    assert judge(score, 1.0) is Outcome.NO_RESULT


def test_a_defect_lies_in_the_frame_where_the_region_puts_it() -> None:
    region = Box(100, 50, 128, 256)  # two frame pixels per map column, four per row
    (defect,) = find_defects(map_with((slice(10, 14), slice(20, 28), 3.0), region=region), 1.0)
    assert defect.box == Box(100 + 40, 50 + 40, 16, 16)
    assert defect.area == 4 * 8 * 2 * 4
    assert defect.peak_score == 3.0


Boxes = st.builds(Box, st.integers(0, 500), st.integers(0, 500), st.integers(16, 900), st.integers(16, 900))
Spans = st.tuples(st.integers(0, 63), st.integers(0, 63)).map(lambda ends: (min(ends), max(ends) + 1))


@given(region=Boxes, rows=Spans, columns=Spans)
def test_a_defect_covers_its_pixels_and_never_leaves_the_region(
    region: Box, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    (defect,) = find_defects(map_with((slice(*rows), slice(*columns), 2.0), region=region), 1.0)
    box = defect.box
    assert region.x <= box.x < box.right <= region.right
    assert region.y <= box.y < box.bottom <= region.bottom
    assert box.x <= region.x + columns[0] * region.width / 64
    assert box.right >= min(region.right, region.x + columns[1] * region.width / 64)
    assert box.y <= region.y + rows[0] * region.height / 64
    assert box.bottom >= min(region.bottom, region.y + rows[1] * region.height / 64)
    assert defect.area >= 1


def test_the_worst_defect_comes_first() -> None:
    anomaly = map_with(
        (slice(0, 5), slice(0, 5), 2.0), (slice(20, 22), slice(20, 22), 9.0), (slice(40, 60), slice(40, 60), 4.0)
    )
    assert [defect.peak_score for defect in find_defects(anomaly, 1.0)] == [9.0, 4.0, 2.0]


def test_the_peak_score_is_the_largest_value_inside() -> None:
    anomaly = map_with((slice(5, 15), slice(5, 15), 2.0), (slice(9, 11), slice(9, 11), 6.0))
    assert [defect.peak_score for defect in find_defects(anomaly, 1.0)] == [6.0]


def test_regions_that_touch_at_a_corner_are_one_defect() -> None:
    anomaly = map_with((slice(0, 5), slice(0, 5), 2.0), (slice(5, 9), slice(5, 9), 3.0))
    (defect,) = find_defects(anomaly, 1.0)
    assert defect.box == Box(0, 0, 9, 9)
    assert defect.area == 25 + 16


def test_a_neighbour_inside_the_box_does_not_lend_its_peak() -> None:
    values = np.zeros((64, 64), np.float32)
    values[10, 10:40] = values[10:40, 10] = 2.0  # an L …
    values[20:30, 20:30] = 7.0  # … around a square
    small, large = sorted(find_defects(AnomalyMap(values, SQUARE), 1.0), key=lambda defect: defect.peak_score)
    assert (small.peak_score, large.peak_score) == (2.0, 7.0)


def test_small_defects_are_left_out_when_a_minimum_area_is_asked_for() -> None:
    anomaly = map_with((slice(0, 2), slice(0, 2), 9.0), (slice(20, 30), slice(20, 30), 4.0))
    assert [defect.area for defect in find_defects(anomaly, 1.0, minimum_area=50)] == [100]


def test_a_map_below_the_pixel_threshold_still_shows_where_its_peak_is() -> None:
    anomaly = map_with((slice(0, 10), slice(0, 10), 2.0), (slice(30, 34), slice(30, 34), 5.0))
    (defect,) = find_defects(anomaly, 8.0)
    assert defect.box == Box(30, 30, 4, 4)


def test_a_map_just_above_the_pixel_threshold_shows_nothing_below_it() -> None:
    anomaly = map_with((slice(0, 10), slice(0, 10), 7.9), (slice(30, 34), slice(30, 34), 8.1))
    assert [defect.peak_score for defect in find_defects(anomaly, 8.0)] == [pytest.approx(8.1)]


def test_a_map_without_any_anomaly_has_no_defects() -> None:
    values: Float32Array = np.zeros((64, 64), np.float32)
    assert find_defects(AnomalyMap(values, SQUARE), 1.0) == ()
