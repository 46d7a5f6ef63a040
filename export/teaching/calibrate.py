"""Where PASS ends: a threshold for a stated false-reject rate, from good parts only.

Split conformal prediction (Vovk; Lei et al., 2018): of n held-out good parts, exchangeable with those to come, take
the k-th smallest score, k = ceil((n + 1)(1 - rate)). A new good part exceeds it with probability at most `rate`, on
average over all ways the held-out parts could have been drawn. For one given draw the true rate follows
Beta(n + 1 - k, k), which gives the statement at a confidence. If k > n, so few parts cannot support the rate: the
largest score is taken, and the least rate that they do support, 1/(n + 1), is reported.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edge.bundle.bundle import Guarantee, ThresholdRecord
from edge.errors import ExportError
from export.metrics import detection as metrics
from export.metrics.binomial import CONFIDENCE, beta_quantile

QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)


def conformal_rank(held_out: int, rate: float) -> int:
    """Rank k, from 1, of the held-out score that becomes the threshold; at most `held_out`."""
    # The rounding guards against (n + 1)(1 - rate) landing a hair above the whole number that it is.
    return min(held_out, max(1, math.ceil(round((held_out + 1) * (1 - rate), 9))))


def conformal_guarantee(held_out: int, rate: float, confidence: float = CONFIDENCE) -> Guarantee:
    """What `held_out` good parts guarantee when `rate` is asked for."""
    rank = conformal_rank(held_out, rate)
    least = 1 / (held_out + 1)
    return Guarantee(
        held_out=held_out,
        target_rate=rate,
        expected_rate=(held_out + 1 - rank) / (held_out + 1),
        confidence=confidence,
        rate_at_confidence=beta_quantile(held_out + 1 - rank, rank, confidence),
        least_rate=least,
        supported=rate >= least - 1e-12,
    )


def conformal(scores: Sequence[float], map_peaks: Sequence[float], rate: float) -> ThresholdRecord:
    """Image and pixel threshold from held-out good parts.

    Args:
        scores: their anomaly scores.
        map_peaks: the largest value of each one's anomaly map: the pixel threshold is their quantile, so that a good
            part has any pixel above it no more often than `rate`.
        rate: the false-reject rate asked for.
    """
    rank = conformal_rank(len(scores), rate)
    return ThresholdRecord(
        image=_at_rank(scores, rank),
        pixel=_at_rank(map_peaks, rank),
        method="conformal",
        parameters={"rate": rate, "rank": float(rank)},
        guarantee=conformal_guarantee(len(scores), rate),
    )


def mean_sigma(scores: Sequence[float], map_peaks: Sequence[float], sigmas: float) -> ThresholdRecord:
    """Mean plus `sigmas` standard deviations of the held-out good scores. Promises nothing."""
    return ThresholdRecord(
        image=_mean_plus(scores, sigmas),
        pixel=_mean_plus(map_peaks, sigmas),
        method="mean_sigma",
        parameters={"sigmas": sigmas},
    )


def best_f1(
    good: Sequence[float], bad: Sequence[float], good_peaks: Sequence[float], bad_peaks: Sequence[float]
) -> ThresholdRecord:
    """The thresholds at which the defective parts are told from the good ones with the best F1.

    Raises:
        ExportError: the best is to fail every part, those that score 0 included, or a score is not finite.
    """
    image, pixel = metrics.best_f1(good, bad), metrics.best_f1(good_peaks, bad_peaks)
    lower = min((image, pixel), key=lambda best: best.threshold)
    if lower.threshold <= 0:
        raise ExportError(
            f"best_f1: the best F1 of {lower.f1:.2f} is reached by failing every part, as some of the {len(bad)} "
            f"defective parts score 0; they repeat pictures that the bank was taught from: look at them"
        )
    return ThresholdRecord(
        image=image.threshold,
        pixel=pixel.threshold,
        method="best_f1",
        parameters={"f1": image.f1, "defective": float(len(bad))},
    )


def find_outliers(scores: Sequence[float]) -> tuple[int, ...]:
    """Indices of the scores that lie far above the others, highest first.

    Beyond Tukey's outer fence, Q3 + 3 · IQR, and half as much again as the median. Good parts have long tails (MVTec
    AD's bottles reach 1.3 times the median), and a warning that comes every time is not read. A defective part among
    the good ones lies far beyond both, and alone can set a threshold that misses its like.
    """
    values = np.asarray(scores, np.float64)
    first, median, third = np.quantile(values, (0.25, 0.5, 0.75))
    far = np.flatnonzero(values > max(third + 3 * (third - first), 1.5 * median))
    return tuple(int(index) for index in far[np.argsort(-values[far])])


def score_quantiles(scores: Sequence[float]) -> dict[str, float]:
    """Quantiles of the good scores by name: `q00` … `q100`."""
    values = np.quantile(np.asarray(scores, np.float64), QUANTILES)
    return {f"q{round(100 * q):02d}": float(value) for q, value in zip(QUANTILES, values, strict=True)}


def _at_rank(values: Sequence[float], rank: int) -> float:
    return float(np.sort(np.asarray(values, np.float64))[rank - 1])


def _mean_plus(values: Sequence[float], sigmas: float) -> float:
    array = np.asarray(values, np.float64)
    return float(array.mean() + sigmas * array.std(ddof=1 if len(array) > 1 else 0))
