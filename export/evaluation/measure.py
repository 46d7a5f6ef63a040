"""Inspected test pictures → the figures of `export.evaluation.results`."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from edge.records import BoolArray, Float32Array, StageTimes
from export.datasets.category import GOOD
from export.evaluation.results import (
    CurveResult,
    ImageMetrics,
    KindResult,
    OperatingResult,
    PictureResult,
    PixelMetricsResult,
    RateResult,
)
from export.metrics import detection as metrics


def image_metrics(pictures: Sequence[PictureResult]) -> ImageMetrics:
    """From one score per picture.

    Raises:
        ExportError: there are no good or no defective pictures.
    """
    good = [picture.score for picture in pictures if picture.kind == GOOD]
    bad = [picture.score for picture in pictures if picture.kind != GOOD]
    best = metrics.best_f1(good, bad)
    return ImageMetrics(
        auroc=metrics.auroc(good, bad),
        average_precision=metrics.average_precision(good, bad),
        best_f1=best.f1,
        best_f1_threshold=best.threshold,
        roc=_curve(metrics.roc_curve(good, bad)),
    )


def pixel_metrics_result(maps: Sequence[Float32Array], masks: Sequence[BoolArray]) -> PixelMetricsResult:
    """From every pixel of every map, and masks of the same sizes.

    Raises:
        ExportError: no pixel is defective, or none is normal.
    """
    found = metrics.pixel_metrics(maps, masks)
    return PixelMetricsResult(
        auroc=found.auroc,
        aupro=found.aupro,
        aupro_strict=found.aupro_strict,
        pro=_curve(found.pro),
        regions=found.regions,
        pixels=found.pixels,
    )


def operating_result(pictures: Sequence[PictureResult], threshold: float) -> OperatingResult:
    """What `threshold` does to the pictures: rates with intervals, and counts by kind, `good` first."""
    scores: dict[str, list[float]] = {}
    for picture in pictures:
        scores.setdefault(picture.kind, []).append(picture.score)
    good = scores.pop(GOOD)
    point = metrics.operating_point(good, scores, threshold)
    kinds = [KindResult(kind=kind.kind, parts=kind.parts, failed=kind.failed) for kind in point.kinds]
    return OperatingResult(
        threshold=threshold,
        false_rejects=_rate(point.false_rejects),
        misses=_rate(point.misses),
        kinds=(KindResult(kind=GOOD, parts=len(good), failed=point.false_rejects.count), *kinds),
    )


def stage_medians(stages: Sequence[StageTimes]) -> dict[str, float]:
    """Median milliseconds of each stage and in all; every picture's map was computed, as for a failed part."""
    values = {
        "preprocess": [stage.preprocess_ms for stage in stages],
        "embed": [stage.embed_ms for stage in stages],
        "search": [stage.search_ms for stage in stages],
        "score": [stage.score_ms for stage in stages],
        "total": [stage.total_ms for stage in stages],
    }
    return {name: round(median(times), 3) for name, times in values.items()}


def _curve(curve: metrics.Curve) -> CurveResult:
    return CurveResult(x=curve.x, y=curve.y)


def _rate(rate: metrics.Rate) -> RateResult:
    return RateResult(
        count=rate.count, parts=rate.parts, rate=rate.rate, low=rate.low, high=rate.high, confidence=rate.confidence
    )
