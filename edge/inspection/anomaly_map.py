"""Patch distances → anomaly score, anomaly map, defects, outcome (pure).

Distances are Euclidean. Higher is worse, always.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from edge.records import AnomalyMap, Box, Defect, Float32Array, Outcome

BLUR_SIGMA = 4.0  # paper, section 4.1, in pixels of the model's input
_BLUR_KERNEL = 2 * round(4 * BLUR_SIGMA) + 1  # truncated at 4 σ, as the authors' scipy filter is
# A failed frame whose map nowhere reaches the pixel threshold still shows where its peak is.
_PEAK_SHARE = 0.9


def reweighted_score(peak: float, support: Float32Array) -> float:
    """Equation 7: the peak patch score, re-weighted by the bank neighbours of its nearest bank vector.

    Args:
        peak: d*, distance of the most anomalous patch to its nearest bank vector m*.
        support: (b,) distances of that patch to N_b(m*), the b nearest bank vectors of m*, m* among them.

    Returns:
        (1 - exp(d*) / Σ exp(d_m)) · d*, computed with the maximum subtracted, so that it never overflows.
    """
    top = max(peak, float(support.max()))
    weight = 1.0 - math.exp(peak - top) / float(np.exp(support - top).sum(dtype=np.float64))
    return max(0.0, weight) * peak


def anomaly_map(distances: Float32Array, height: int, width: int, region: Box) -> AnomalyMap:
    """Patch scores (rows, columns) → a map of the model's input size: bilinear, then Gaussian σ = 4."""
    upsampled = cv2.resize(distances, (width, height), interpolation=cv2.INTER_LINEAR)
    blurred = cv2.GaussianBlur(upsampled, (_BLUR_KERNEL, _BLUR_KERNEL), BLUR_SIGMA, borderType=cv2.BORDER_REFLECT)
    return AnomalyMap(values=np.asarray(blurred, np.float32), region=region)


def judge(score: float, threshold: float) -> Outcome:
    """PASS or FAIL; a score that is not a number is NO_RESULT, never PASS."""
    if not math.isfinite(score):
        return Outcome.NO_RESULT
    return Outcome.FAIL if score > threshold else Outcome.PASS


def find_defects(anomaly: AnomalyMap, pixel_threshold: float, minimum_area: int = 0) -> tuple[Defect, ...]:
    """Connected regions above the pixel threshold, worst first, in the frame's pixels.

    Called for failed frames only: where the map stays below the threshold, the region around its peak
    is reported, so that every FAIL says where to look.
    """
    peak = float(anomaly.values.max())
    limit = pixel_threshold if peak > pixel_threshold else _PEAK_SHARE * peak
    above = (anomaly.values > limit).astype(np.uint8)
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    defects = [_defect(anomaly, labels, label, statistics[label]) for label in range(1, count)]
    large = [defect for defect in defects if defect.area >= minimum_area]
    return tuple(sorted(large, key=lambda defect: -defect.peak_score))


def _defect(anomaly: AnomalyMap, labels: np.ndarray, label: int, row: np.ndarray) -> Defect:
    left, top, width, height, area = (int(value) for value in row)
    window = np.s_[top : top + height, left : left + width]
    peak = float(anomaly.values[window][labels[window] == label].max())
    rows, columns = anomaly.values.shape
    scale_x = anomaly.region.width / columns
    scale_y = anomaly.region.height / rows
    x = anomaly.region.x + math.floor(left * scale_x)
    y = anomaly.region.y + math.floor(top * scale_y)
    right = min(anomaly.region.right, anomaly.region.x + math.ceil((left + width) * scale_x))
    bottom = min(anomaly.region.bottom, anomaly.region.y + math.ceil((top + height) * scale_y))
    return Defect(
        box=Box(x, y, max(1, right - x), max(1, bottom - y)),
        area=max(1, round(area * scale_x * scale_y)),
        peak_score=peak,
    )
