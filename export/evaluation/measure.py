"""Inspected test pictures → the figures that `results.json` keeps."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from edge.records import STAGES, StageTimes
from export.evaluation.results import PictureResult
from export.metrics.detection import image_metrics
from export.metrics.operating import operating_point
from export.metrics.records import GOOD, ImageMetrics, OperatingPoint


def measure_images(pictures: Sequence[PictureResult]) -> ImageMetrics:
    """From one score per picture.

    Raises:
        ExportError: there are no good or no defective pictures.
    """
    scores = scores_by_kind(pictures)
    good = scores.pop(GOOD, [])
    return image_metrics(good, [score for bad in scores.values() for score in bad])


def measure_operation(pictures: Sequence[PictureResult], threshold: float) -> OperatingPoint:
    """What `threshold` does to the pictures.

    Raises:
        ExportError: there are no good or no defective pictures.
    """
    scores = scores_by_kind(pictures)
    return operating_point(scores.pop(GOOD, []), scores, threshold)


def scores_by_kind(pictures: Sequence[PictureResult]) -> dict[str, list[float]]:
    """The scores of each kind, in the order of the pictures."""
    scores: dict[str, list[float]] = {}
    for picture in pictures:
        scores.setdefault(picture.kind, []).append(picture.score)
    return scores


def stage_medians(stages: Sequence[StageTimes]) -> dict[str, float]:
    """Median milliseconds of each stage and in all; every picture's map was computed, as for a failed part."""
    times = [each.by_stage() | {"total": each.total_ms} for each in stages]
    return {name: round(median(time[name] for time in times), 3) for name in (*STAGES, "total")}
