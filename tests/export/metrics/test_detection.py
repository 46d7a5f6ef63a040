from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import label
from sklearn.metrics import (
    auc,
    average_precision_score,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)
from sklearn.metrics import roc_curve as sklearn_roc_curve

from edge.errors import ExportError
from edge.records import BoolArray, Float32Array
from export.metrics.detection import (
    auroc,
    average_precision,
    best_f1,
    pixel_metrics,
    roc_curve,
)
from export.metrics.records import Curve, PixelMetrics

Scores = st.lists(st.integers(0, 20).map(float), min_size=1, max_size=30)  # few values: many ties
FineScores = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)
Maps = list[Float32Array]
Masks = list[BoolArray]


def labels_of(good: Sequence[float], bad: Sequence[float]) -> list[int]:
    return [0] * len(good) + [1] * len(bad)


def area(curve: Curve, limit: float = 1.0) -> float:
    x, y = np.array(curve.x), np.array(curve.y)
    inside = x < limit
    return float(auc([*x[inside], limit], [*y[inside], np.interp(limit, x, y)]))


# ---- whole pictures


@given(Scores, Scores)
def test_auroc_is_scikit_learn_s(good: list[float], bad: list[float]) -> None:
    expected = roc_auc_score([0] * len(good) + [1] * len(bad), good + bad)
    assert auroc(good, bad) == pytest.approx(expected)


def test_auroc_is_the_share_of_pairs_in_the_right_order() -> None:
    assert auroc([1, 2, 3], [4, 5]) == 1.0
    assert auroc([4, 5], [1, 2, 3]) == 0.0
    assert auroc([1, 3], [2, 3]) == (1 + 1 + 0 + 0.5) / 4
    assert auroc([7, 7], [7]) == 0.5


@given(Scores, Scores)
def test_average_precision_is_scikit_learn_s(good: list[float], bad: list[float]) -> None:
    expected = average_precision_score(labels_of(good, bad), good + bad)
    assert average_precision(good, bad) == pytest.approx(expected)


@given(st.one_of(Scores, FineScores), st.one_of(Scores, FineScores))
def test_best_f1_is_the_largest_over_all_thresholds(good: list[float], bad: list[float]) -> None:
    labels, scores = labels_of(good, bad), np.array(good + bad)
    expected = max(f1_score(labels, scores >= level) for level in scores)
    assert best_f1(good, bad).f1 == pytest.approx(expected)


@given(st.one_of(Scores, FineScores), st.one_of(Scores, FineScores))
def test_the_threshold_of_the_best_f1_has_what_it_promises(good: list[float], bad: list[float]) -> None:
    best = best_f1(good, bad)
    labels, failed = labels_of(good, bad), np.array(good + bad) > best.threshold
    assert best.f1 == pytest.approx(f1_score(labels, failed))
    assert best.precision == pytest.approx(precision_score(labels, failed))
    assert best.recall == pytest.approx(recall_score(labels, failed))


def test_the_threshold_of_the_best_f1_is_halfway_between_two_scores() -> None:
    assert best_f1([1.0, 2.0], [4.0, 5.0]).threshold == 3.0


def test_of_equally_good_thresholds_the_highest_is_taken() -> None:
    best = best_f1([2.0, 3.0], [1.0, 4.0])  # one found and none rejected, or two found and two rejected: 2/3
    assert best.f1 == pytest.approx(2 / 3)
    assert best.threshold == 3.5


def test_neighbouring_floats_are_told_apart() -> None:
    first = float(np.nextafter(1.0, 2.0))
    second = float(np.nextafter(first, 2.0))
    for lower, upper in ((1.0, first), (first, second)):  # their middle is rounded down, and up
        best = best_f1([lower], [upper])
        assert best.f1 == 1.0
        assert lower <= best.threshold < upper


@given(Scores, Scores)
def test_roc_curve_has_scikit_learn_s_points(good: list[float], bad: list[float]) -> None:
    curve = roc_curve(good, bad)
    rejected, caught, _ = sklearn_roc_curve(labels_of(good, bad), good + bad)
    assert (curve.x[0], curve.y[0]) == (0.0, 0.0)
    assert (curve.x[-1], curve.y[-1]) == (1.0, 1.0)
    ours = np.column_stack([curve.x, curve.y])
    for point in np.column_stack([rejected, caught]):
        assert distance_to_curve(point, ours) < 1e-9


def distance_to_curve(point: np.ndarray, vertices: np.ndarray) -> float:
    starts, steps = vertices[:-1], np.diff(vertices, axis=0)
    lengths = np.maximum((steps**2).sum(axis=1), 1e-300)
    along = np.clip(((point - starts) * steps).sum(axis=1) / lengths, 0, 1)
    return float(np.linalg.norm(starts + along[:, None] * steps - point, axis=1).min())


def test_a_long_roc_curve_is_thinned_and_keeps_its_area() -> None:
    random = np.random.default_rng(0)
    good, bad = random.normal(0, 1, 5000).tolist(), random.normal(1, 1, 3000).tolist()
    curve = roc_curve(good, bad)
    assert len(curve.x) == len(curve.y) <= 1004
    assert len(curve.x) > 500
    assert (np.diff(curve.x) >= 0).all()
    assert (np.diff(curve.y) >= 0).all()
    assert area(curve) == pytest.approx(auroc(good, bad), abs=1e-4)


def test_thinning_keeps_the_long_edges_that_ties_make() -> None:
    random = np.random.default_rng(1)
    good = [0.0] * 4000 + random.random(2000).tolist()
    bad = [0.0] * 1000 + random.random(3000).tolist()
    assert area(roc_curve(good, bad)) == pytest.approx(auroc(good, bad), abs=1e-4)


@pytest.mark.parametrize("metric", [auroc, average_precision, best_f1, roc_curve])
@pytest.mark.parametrize(
    ("good", "bad", "message"),
    [
        ([], [1.0], "0 good and 1 defective parts: .*at least one of each"),
        ([1.0, 2.0], [], "2 good and 0 defective parts"),
        ([], [], "0 good and 0 defective parts"),
        ([1.0, float("nan")], [2.0], "not all scores of parts are finite"),
        ([1.0], [2.0, float("inf")], "not all scores of parts are finite"),
    ],
)
def test_scores_of_one_class_or_not_finite_are_refused(
    metric: Callable[[list[float], list[float]], object], good: list[float], bad: list[float], message: str
) -> None:
    with pytest.raises(ExportError, match=message):
        metric(good, bad)


def test_equal_scores_tell_nothing() -> None:
    good, bad = [3.0] * 4, [3.0] * 2
    assert auroc(good, bad) == 0.5
    assert average_precision(good, bad) == pytest.approx(2 / 6)
    assert best_f1(good, bad).f1 == pytest.approx(2 * 2 / (2 + 2 + 4))
    assert best_f1(good, bad).threshold < 3.0
    assert area(roc_curve(good, bad)) == 0.5


# ---- pixels


def draw_regions(random: np.random.Generator, height: int, width: int, regions: int) -> BoolArray:
    mask = np.zeros((height, width), np.uint8)
    for _ in range(regions):
        y, x = random.integers(0, height - 1), random.integers(0, width - 1)
        mask[y : y + random.integers(1, 6), x : x + random.integers(1, 6)] = 1
    return mask.astype(bool)


def draw_maps(seed: int, *, levels: int = 0, signal: float = 1.0) -> tuple[Maps, Masks]:
    """Four small maps with up to four regions each and one without; with `levels`, values repeat often."""
    random = np.random.default_rng(seed)
    masks = [draw_regions(random, 16, 12, regions) for regions in (0, 1, 4, 2)]
    maps = [(random.random(mask.shape) * 2 + signal * mask).astype(np.float32) for mask in masks]
    if levels:
        maps = [np.floor(values * levels).astype(np.float32) for values in maps]
    return maps, masks


def slow_pro(maps: Maps, masks: Masks) -> tuple[list[float], list[float]]:
    """PRO by its definition: every threshold, every region, one after the other."""
    regions = []
    for number, mask in enumerate(masks):
        labelled, count = label(mask, np.ones((3, 3), int))
        regions += [(number, labelled == index + 1) for index in range(count)]
    normal = np.concatenate([values[~mask] for values, mask in zip(maps, masks, strict=True)])
    rates, overlaps = [0.0], [0.0]
    for threshold in np.unique(np.concatenate([values.ravel() for values in maps]))[::-1]:
        rates.append(float((normal >= threshold).mean()))
        overlaps.append(float(np.mean([(maps[number][region] >= threshold).mean() for number, region in regions])))
    return rates, overlaps


def slow_aupro(maps: Maps, masks: Masks, limit: float) -> float:
    rates, overlaps = slow_pro(maps, masks)
    inside = [(x, y) for x, y in zip(rates, overlaps, strict=True) if x <= limit]
    after = next((x, y) for x, y in zip(rates, overlaps, strict=True) if x > limit)
    x, y = inside[-1]
    inside.append((limit, y + (after[1] - y) * (limit - x) / (after[0] - x)))
    return float(auc(*zip(*inside, strict=True)) / limit)


@pytest.mark.parametrize("levels", [0, 3, 40])
@pytest.mark.parametrize("signal", [-0.5, 0.0, 0.7, 3.0])
@pytest.mark.parametrize("seed", range(3))
def test_pixel_metrics_are_those_of_the_definitions(seed: int, signal: float, levels: int) -> None:
    maps, masks = draw_maps(seed, signal=signal, levels=levels)
    found = pixel_metrics(maps, masks)
    labels = np.concatenate([mask.ravel() for mask in masks])
    scores = np.concatenate([values.ravel() for values in maps])
    assert found.auroc == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert found.aupro == pytest.approx(slow_aupro(maps, masks, 0.30), abs=1e-12)
    assert found.aupro_strict == pytest.approx(slow_aupro(maps, masks, 0.05), abs=1e-12)
    assert found.regions == sum(label(mask, np.ones((3, 3), int))[1] for mask in masks)
    assert found.pixels == len(scores)


@pytest.mark.parametrize("seed", range(3))
def test_the_pro_curve_runs_through_every_threshold(seed: int) -> None:
    maps, masks = draw_maps(seed, levels=3)
    curve = pixel_metrics(maps, masks).pro
    ours = np.column_stack([curve.x, curve.y])
    for point in np.column_stack(slow_pro(maps, masks)):
        assert distance_to_curve(point, ours) < 1e-9


def test_small_regions_weigh_as_much_as_large_ones() -> None:
    mask = np.zeros((10, 10), bool)
    mask[0, 0] = mask[4:8, 2:8] = True
    values = np.where(mask, 2.0, np.linspace(0, 1, 100).reshape(10, 10)).astype(np.float32)
    values[0, 0] = -1  # the region of one pixel is missed, until everything is marked
    found = pixel_metrics([values], [mask])
    assert found.regions == 2
    assert found.aupro == pytest.approx(0.5)
    assert found.auroc == pytest.approx(24 / 25)


def test_a_curve_that_has_a_vertex_at_the_limit_ends_there() -> None:
    values = np.array([[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9.5, 6.5]], np.float32)  # the last two are defective
    mask = np.arange(12)[None] >= 10
    assert pixel_metrics([values], [mask]).aupro == pytest.approx(0.5, abs=1e-15)


def test_pixels_that_touch_at_a_corner_are_one_region() -> None:
    values = np.random.default_rng(0).random((6, 6)).astype(np.float32)
    assert pixel_metrics([values], [np.eye(6, dtype=bool)]).regions == 1


def test_regions_of_different_pictures_stay_apart() -> None:
    mask = np.zeros((4, 4), bool)
    mask[1, 1] = True
    values = np.random.default_rng(0).random((4, 4)).astype(np.float32)
    assert pixel_metrics([values, values], [mask, mask]).regions == 2


def test_maps_of_different_sizes_count_together() -> None:
    small, large = np.zeros((3, 4), np.float32), np.zeros((6, 5), np.float32)
    mask = np.zeros((6, 5), bool)
    mask[2:4, 2:4] = True
    large[mask] = 1
    found = pixel_metrics([small, large], [np.zeros((3, 4), bool), mask])
    assert found.pixels == 42
    assert (found.auroc, found.aupro, found.aupro_strict) == (1.0, 1.0, 1.0)


def test_a_perfect_map_scores_one_and_its_inverse_nought() -> None:
    _, masks = draw_maps(0)
    right = [mask.astype(np.float32) for mask in masks]
    wrong = [1 - values for values in right]
    assert summary(pixel_metrics(right, masks)) == (1.0, 1.0, 1.0)
    assert summary(pixel_metrics(wrong, masks)) == (0.0, 0.0, 0.0)


def test_constant_maps_score_as_guessing_does() -> None:
    _, masks = draw_maps(0)
    flat = [np.full(mask.shape, 0.25, np.float32) for mask in masks]
    assert summary(pixel_metrics(flat, masks)) == pytest.approx((0.5, 0.15, 0.025))


def summary(metrics: PixelMetrics) -> tuple[float, float, float]:
    return metrics.auroc, metrics.aupro, metrics.aupro_strict


def test_long_pixel_curves_are_thinned_and_keep_their_areas() -> None:
    random = np.random.default_rng(3)
    masks = [draw_regions(random, 120, 120, 8) for _ in range(3)]
    maps = [cv2.GaussianBlur(random.random(mask.shape) + mask, (0, 0), 2).astype(np.float32) for mask in masks]
    found = pixel_metrics(maps, masks)
    assert 400 < len(found.pro.x) == len(found.pro.y) <= 1004
    assert area(found.pro, 0.30) / 0.30 == pytest.approx(found.aupro, abs=1e-4)
    assert area(found.pro, 0.05) / 0.05 == pytest.approx(found.aupro_strict, abs=5e-4)


def test_a_missing_mask_is_refused() -> None:
    maps, masks = draw_maps(0)
    with pytest.raises(ExportError, match="3 masks for 4 anomaly maps: pixel metrics need one for each"):
        pixel_metrics(maps, [None, *masks[1:]])
    with pytest.raises(ExportError, match="3 masks for 4 anomaly maps"):
        pixel_metrics(maps, masks[1:])


def test_a_mask_of_another_size_is_refused_with_both_sizes() -> None:
    maps, masks = draw_maps(0)
    with pytest.raises(ExportError, match=r"picture 2: its mask is \(12, 16\), its map \(16, 12\)"):
        pixel_metrics(maps, [*masks[:2], masks[2].T, masks[3]])


@pytest.mark.parametrize(("filled", "message"), [(False, "960 good and 0 def"), (True, "0 good and 960 def")])
def test_pixels_of_one_class_are_refused(filled: bool, message: str) -> None:
    maps = [np.ones((24, 40), np.float32)]
    with pytest.raises(ExportError, match=f"{message}ective pixels"):
        pixel_metrics(maps, [np.full((24, 40), filled)])


def test_no_maps_at_all_are_refused() -> None:
    with pytest.raises(ExportError, match="0 good and 0 defective pixels"):
        pixel_metrics([], [])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("defective", [False, True])
def test_a_map_that_is_not_finite_is_refused(value: float, defective: bool) -> None:
    maps, masks = draw_maps(0)
    row, column = np.argwhere(masks[1] == defective)[0]
    maps[1][row, column] = value
    with pytest.raises(ExportError, match="not all scores of pixels are finite"):
        pixel_metrics(maps, masks)
