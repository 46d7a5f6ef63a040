"""How well scores tell good parts from defective ones: of whole pictures, of pixels, and at one threshold.

Higher scores are worse, and a part fails when its score is above a threshold, as on the line. Everything here is
exact: curves have a vertex wherever a score of either class changes them (no sampled thresholds), and ties count half.
Only the points that are kept for plotting are thinned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edge.errors import ExportError
from edge.records import BoolArray, Float32Array, Int64Array
from export.metrics.records import Curve, ImageMetrics, PixelMetrics

Float64Array = npt.NDArray[np.float64]
Scores = npt.NDArray[np.floating]

# False-positive rates up to which AUPRO integrates: MVTec AD's definition (Bergmann et al., IJCV 2021), and the
# stricter one of MVTec LOCO AD and MVTec AD 2.
PRO_LIMIT = 0.30
PRO_LIMIT_STRICT = 0.05

_PLOTTED_POINTS = 1000


@dataclass(frozen=True, slots=True)
class BestF1:
    """The threshold with the largest F1; of equally good ones the highest."""

    f1: float
    threshold: float  # score > threshold is defective
    precision: float
    recall: float


def auroc(good: Sequence[float], bad: Sequence[float]) -> float:
    """Area under the ROC curve: the chance that a defective part scores above a good one, ties counted half.

    Raises:
        ExportError: there are no good or no defective parts, or a score is not finite.
    """
    return _auroc(*sorted_scores(good, bad))


def roc_curve(good: Sequence[float], bad: Sequence[float]) -> Curve:
    """Share of the defective parts found over the share of the good ones rejected.

    Raises:
        ExportError: as `auroc`.
    """
    good_scores, bad_scores = sorted_scores(good, bad)
    return _thinned(*_curve(good_scores, bad_scores, np.ones(len(bad_scores))))


def average_precision(good: Sequence[float], bad: Sequence[float]) -> float:
    """Average precision: precision at each score, weighted by the recall that it adds (no interpolation).

    Raises:
        ExportError: as `auroc`.
    """
    _, caught, rejected = _counts(*sorted_scores(good, bad))
    precision = caught / (caught + rejected)
    return float(precision @ np.diff(caught, prepend=0) / caught[-1])


def best_f1(good: Sequence[float], bad: Sequence[float]) -> BestF1:
    """The best F1 that any threshold reaches: it knows the defects, so it is a bound and not a setting.

    Raises:
        ExportError: as `auroc`.
    """
    levels, caught, rejected = _counts(*sorted_scores(good, bad))
    f1 = 2 * caught / (len(bad) + caught + rejected)
    best = int(f1.argmax())
    return BestF1(
        f1=float(f1[best]),
        threshold=_just_below(levels, best),
        precision=float(caught[best] / (caught[best] + rejected[best])),
        recall=float(caught[best] / len(bad)),
    )


def image_metrics(good: Sequence[float], bad: Sequence[float]) -> ImageMetrics:
    """From one score per picture.

    Raises:
        ExportError: as `auroc`.
    """
    best = best_f1(good, bad)
    return ImageMetrics(
        auroc=auroc(good, bad),
        average_precision=average_precision(good, bad),
        best_f1=best.f1,
        best_f1_threshold=best.threshold,
        roc=roc_curve(good, bad),
    )


def pixel_metrics(maps: Sequence[Float32Array], masks: Sequence[BoolArray | None]) -> PixelMetrics:
    """Pixel AUROC, PRO and AUPRO over all pixels of all pictures, the good ones included.

    PRO as MVTec's own evaluation code computes it: at each threshold the covered share of every 8-connected region of
    the masks, averaged over the regions of all pictures, over the false-positive rate of all normal pixels.

    Args:
        maps: anomaly maps, (height, width) each; sizes may differ between pictures.
        masks: for each map what is defective, of the map's size; all False for a good part.

    Raises:
        ExportError: a mask is missing or of another size, no pixel is defective or none is normal, or not all values
            are finite.
    """
    normal, defective, weights = _pixels(maps, masks)
    x, y = _curve(normal, defective, weights)
    return PixelMetrics(
        auroc=_auroc(normal, defective),
        aupro=_area_up_to(x, y, PRO_LIMIT),
        aupro_strict=_area_up_to(x, y, PRO_LIMIT_STRICT),
        pro=_thinned(x, y),
        regions=round(float(weights.sum())),
        pixels=len(normal) + len(defective),
    )


def sorted_scores(good: Sequence[float], bad: Sequence[float]) -> tuple[Float64Array, Float64Array]:
    """Both rising, as f64.

    Raises:
        ExportError: there are no good or no defective parts, or a score is not finite.
    """
    good_scores, bad_scores = np.sort(np.asarray(good, np.float64)), np.sort(np.asarray(bad, np.float64))
    _check(good_scores, bad_scores, "parts")
    return good_scores, bad_scores


def _check(good: Scores, bad: Scores, what: str) -> None:
    if len(good) == 0 or len(bad) == 0:
        raise ExportError(
            f"{len(good)} good and {len(bad)} defective {what}: telling them apart needs at least one of each"
        )
    # Sorted: whatever is not finite is at an end.
    ends = [float(score) for score in (good[0], good[-1], bad[0], bad[-1])]
    if not np.isfinite(ends).all():
        raise ExportError(
            f"not all scores of {what} are finite: good from {ends[0]} to {ends[1]}, defective from {ends[2]} to "
            f"{ends[3]}; check the IR and the bank that made them"
        )


def _auroc(good: Scores, bad: Scores) -> float:
    # Both sorted. Mann-Whitney U, doubled so that ties stay whole.
    below = np.searchsorted(good, bad, "left").sum(dtype=np.int64)
    not_above = np.searchsorted(good, bad, "right").sum(dtype=np.int64)
    return float((below + not_above) / (2 * len(good) * len(bad)))


def _counts(good: Float64Array, bad: Float64Array) -> tuple[Float64Array, Int64Array, Int64Array]:
    """All scores, falling, without repeats, and how many defective and good parts score at least as much."""
    levels = np.unique(np.concatenate([good, bad]))[::-1]
    return levels, len(bad) - np.searchsorted(bad, levels), len(good) - np.searchsorted(good, levels)


def _just_below(levels: Float64Array, index: int) -> float:
    """A threshold that `levels[index]` is above and the next lower score is not."""
    if index + 1 == len(levels):
        return float(np.nextafter(levels[index], -np.inf))
    lower, upper = float(levels[index + 1]), float(levels[index])
    middle = lower + (upper - lower) / 2
    return middle if middle < upper else lower


def _pixels(
    maps: Sequence[Float32Array], masks: Sequence[BoolArray | None]
) -> tuple[Float32Array, Float32Array, Float64Array]:
    """Sorted scores of all normal pixels and of all defective ones, and the latter's shares in their regions."""
    normal, defective, weights = [], [], []
    for number, (values, mask) in enumerate(zip(maps, _present(masks, len(maps)), strict=True)):
        if mask.shape != values.shape:
            raise ExportError(f"picture {number}: its mask is {mask.shape}, its map {values.shape} (height, width)")
        normal.append(values[~mask])
        defective.append(values[mask])
        weights.append(_region_weights(mask))
    normal_scores, defective_scores = _joined(normal), _joined(defective)
    del normal, defective
    normal_scores.sort()
    order = defective_scores.argsort()
    defective_scores = defective_scores[order]
    _check(normal_scores, defective_scores, "pixels")
    return normal_scores, defective_scores, np.concatenate(weights)[order]


def _present(masks: Sequence[BoolArray | None], expected: int) -> list[BoolArray]:
    present = [mask for mask in masks if mask is not None]
    if len(present) < expected or len(masks) != expected:
        raise ExportError(
            f"{len(present)} masks for {expected} anomaly maps: pixel metrics need one for each; "
            "add the missing ones, or leave pixel metrics out"
        )
    return present


def _joined(parts: Sequence[Float32Array]) -> Float32Array:
    return np.concatenate(parts) if parts else np.empty(0, np.float32)


def _region_weights(mask: BoolArray) -> Float64Array:
    """For each defective pixel, in row-major order, the share of its 8-connected region that it is."""
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    regions = labels[mask]
    sizes: Int64Array = np.bincount(regions)[regions]
    return 1.0 / sizes


def _curve(good: Scores, bad: Scores, weights: Float64Array) -> tuple[Float64Array, Float64Array]:
    """The curve from (0, 0) to (1, 1): weight of `bad` that scores at least t over the share of `good` that does.

    Both sorted. It rises only at scores of `bad`, so the vertices just before and just after each are all there are.
    """
    levels, firsts = np.unique(bad, return_index=True)
    above = np.cumsum(weights[::-1])[::-1]  # weight of this score and of all higher ones
    covered = above[firsts] / above[0]
    x = np.empty(2 * len(levels) + 2)
    y = np.empty_like(x)
    x[0], x[-1] = 1.0, 0.0
    x[1:-1:2] = (len(good) - np.searchsorted(good, levels, "left")) / len(good)
    x[2:-1:2] = (len(good) - np.searchsorted(good, levels, "right")) / len(good)
    y[0], y[-2], y[-1] = 1.0, 0.0, 0.0
    y[1:-1:2] = covered
    y[2:-2:2] = covered[1:]
    return x[::-1], y[::-1]


def _area_up_to(x: Float64Array, y: Float64Array, limit: float) -> float:
    """Area under the curve from 0 to `limit`, over `limit`; between vertices the curve is straight."""
    end = int(np.searchsorted(x, limit, "right"))
    x_inside, y_inside = x[:end], y[:end]
    if x_inside[-1] < limit:
        slope = (y[end] - y[end - 1]) / (x[end] - x[end - 1])
        x_inside = np.append(x_inside, limit)
        y_inside = np.append(y_inside, y[end - 1] + slope * (limit - x[end - 1]))
    return float(np.trapezoid(y_inside, x_inside) / limit)


def _thinned(x: Float64Array, y: Float64Array) -> Curve:
    """At most about `_PLOTTED_POINTS` of the points, evenly along the curve.

    A rising curve is at most 2 long (in x plus in y). A stretch longer than 2/n keeps both its ends, others are cut
    short of 2/n: the area changes by less than 1/2n, n being half the points; 0.001, and on real curves far less.
    """
    if len(x) > _PLOTTED_POINTS:
        steps = np.linspace(0.0, 2.0, _PLOTTED_POINTS // 2 + 1)
        after = np.searchsorted(x + y, steps).clip(1, len(x) - 1)
        kept = np.unique(np.concatenate([[0], after - 1, after, [len(x) - 1]]))
        x, y = x[kept], y[kept]
    return Curve(x=tuple(x.tolist()), y=tuple(y.tolist()))
