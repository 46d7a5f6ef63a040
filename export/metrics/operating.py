"""What a deployed threshold does: good parts rejected, defective parts missed, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edge.errors import ExportError
from export.metrics.binomial import CONFIDENCE, beta_quantile
from export.metrics.detection import sorted_scores
from export.metrics.records import GOOD, KindCount, OperatingPoint, Rate


def operating_point(good: Sequence[float], bad: Mapping[str, Sequence[float]], threshold: float) -> OperatingPoint:
    """Count what `threshold` does; a part fails when its score is above it.

    Args:
        good: scores of good parts.
        bad: scores of defective parts by kind.
        threshold: the image threshold that is deployed.

    Raises:
        ExportError: as `auroc`.
    """
    sorted_scores(good, [score for scores in bad.values() for score in scores])
    first = _count(GOOD, good, threshold)
    kinds = tuple(_count(kind, bad[kind], threshold) for kind in sorted(bad))
    parts = sum(kind.parts for kind in kinds)
    return OperatingPoint(
        threshold=threshold,
        false_rejects=rate_of(first.failed, first.parts),
        misses=rate_of(parts - sum(kind.failed for kind in kinds), parts),
        kinds=(first, *kinds),
    )


def complement(rate: Rate) -> Rate:
    """Of the other parts: passed where `rate` is of the rejected, found where it is of the missed."""
    return Rate(
        count=rate.parts - rate.count,
        parts=rate.parts,
        rate=1 - rate.rate,
        low=1 - rate.high,
        high=1 - rate.low,
        confidence=rate.confidence,
    )


def rate_of(count: int, parts: int, confidence: float = CONFIDENCE) -> Rate:
    """`count` of `parts` as a rate, with the two-sided Clopper-Pearson interval at `confidence`.

    Raises:
        ExportError: `count` is not in 0 … `parts`, or there are no parts.
    """
    if not 0 <= count <= parts or parts == 0:
        raise ExportError(f"a rate of {count} in {parts} parts; expected at least one part and a count up to it")
    tail = (1 - confidence) / 2
    return Rate(
        count=count,
        parts=parts,
        rate=count / parts,
        low=beta_quantile(count, parts - count + 1, tail) if count else 0.0,
        high=beta_quantile(count + 1, parts - count, 1 - tail) if count < parts else 1.0,
        confidence=confidence,
    )


def _count(kind: str, scores: Sequence[float], threshold: float) -> KindCount:
    return KindCount(kind=kind, parts=len(scores), failed=sum(score > threshold for score in scores))
