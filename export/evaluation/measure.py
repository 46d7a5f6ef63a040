"""Inspected test pictures → the figures that `results.json` keeps."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from edge.records import STAGES, StageTimes
from export.evaluation.results import PictureResult
from export.metrics.detection import image_metrics
from export.metrics.operating import operating_point
from export.metrics.records import GOOD, ImageMetrics, OperatingPoint, OperatingRow
from export.teaching.calibrate import conformal_guarantee, conformal_rank

RATES = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1)  # stated false-reject rates of the operating table


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


def measure_rates(pictures: Sequence[PictureResult], held_out: Sequence[float]) -> tuple[OperatingRow, ...]:
    """What each of `RATES` would do to the pictures, each with the threshold that the `held_out` scores give for it.

    Raises:
        ExportError: there are no good or no defective pictures.
    """
    rows = []
    for rate in RATES:
        ranked = sorted(held_out)[conformal_rank(len(held_out), rate) - 1]
        supported = conformal_guarantee(len(held_out), rate).supported
        rows.append(OperatingRow(rate=rate, supported=supported, point=measure_operation(pictures, ranked)))
    return tuple(rows)


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
