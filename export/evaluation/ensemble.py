"""Several bundles that judge a frame together, frame by frame, with nothing taken from a test set.

Every member's score is standardised by what its own held-out good parts scored (`teaching` in its manifest), then
averaged; its anomaly map is standardised by their map peaks. The average is given back in the members' mean scale,
M + S · mean((score - mean) / deviation) with M and S the means of the members' means and deviations: the same change
for every frame, so no ranking depends on it, and scores, thresholds and overlays read like those of one bundle.

The threshold is the conformal one (`teaching.calibrate`) over the good parts that all members held out, each with its
score by the ensemble. Its statement on false rejects is that of one bundle, but for the two numbers of each member
that come from the same parts. The pixel threshold uses the mean of the members' map peaks, which the peak of the mean
map never exceeds: it errs towards fewer false alarms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from edge.bundle.bundle import Bundle, HeldOutScore
from edge.errors import ExportError
from edge.inspection.anomaly_map import find_defects, judge
from edge.inspection.inspector import Inspection, Inspector
from edge.inspection.options import InspectorOptions
from edge.records import STAGES, AnomalyMap, Box, Float32Array, Frame, Outcome, StageTimes, Verdict
from export.teaching.calibrate import conformal

# Members may round their crop of the frame differently, by a pixel or two.
_REGION_TOLERANCE = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class EnsembleInspection:
    """The one answer of all members; a frame that one of them cannot judge is NO_RESULT."""

    verdict: Verdict
    anomaly: AnomalyMap | None  # at the first member's input size; None for NO_RESULT
    member_scores: tuple[float, ...]  # as each member says them; empty for NO_RESULT


@dataclass(frozen=True, slots=True)
class Scale:
    """What is usual: of scores or map peaks of good parts that were held out."""

    mean: float
    deviation: float


class Ensemble:
    """Answers frames with several bundles. Not for use from several threads at once."""

    def __init__(
        self, bundles: Sequence[Bundle], options: InspectorOptions | None = None, *, false_reject_rate: float = 0.01
    ) -> None:
        """Load every member and calibrate from their manifests.

        Raises:
            ExportError: the members do not inspect the same part of the same frames, held out no parts in common, or
                held out parts that all score alike.
            BundleError: a model is damaged.
            SettingsError: device, region of interest or mask do not fit.
        """
        members = replace(options or InspectorOptions(), max_crops=0, threshold=None)
        self._bundles = tuple(bundles)
        self._score_scales = tuple(_score_scale(bundle) for bundle in bundles)
        self._peak_scales = tuple(_peak_scale(bundle) for bundle in bundles)
        self.held_out, peaks = self._common_scores()  # of the good parts that all members held out
        self.threshold = conformal(self.held_out, peaks, false_reject_rate)
        self.inspectors = tuple(Inspector(bundle, members) for bundle in bundles)
        _refuse_strangers(self._bundles, [inspector.region for inspector in self.inspectors])
        self._minimum_area = members.minimum_area
        self._model = "+".join(bundle.model for bundle in bundles)

    def inspect(self, frame: Frame) -> EnsembleInspection:
        """Judge one frame by all members."""
        inspections = [inspector.inspect(frame, want_map=True) for inspector in self.inspectors]
        maps = [inspection.anomaly for inspection in inspections if inspection.anomaly is not None]
        if len(maps) < len(inspections):
            refusal = next(inspection for inspection in inspections if inspection.anomaly is None)
            return EnsembleInspection(replace(refusal.verdict, model=self._model), None, ())
        scores = tuple(inspection.verdict.score for inspection in inspections)
        anomaly = self._combine_maps(maps)
        return EnsembleInspection(
            self._verdict(inspections, combine(scores, self._score_scales), anomaly), anomaly, scores
        )

    def _verdict(self, inspections: Sequence[Inspection], score: float, anomaly: AnomalyMap) -> Verdict:
        outcome = judge(score, self.threshold.image)
        failed = outcome is Outcome.FAIL
        return replace(
            inspections[-1].verdict,
            outcome=outcome,
            score=score,
            threshold=self.threshold.image,
            model=self._model,
            defects=find_defects(anomaly, self.threshold.pixel, self._minimum_area) if failed else (),
            stages=_sum_of([inspection.verdict.stages for inspection in inspections]),
        )

    def _combine_maps(self, maps: Sequence[AnomalyMap]) -> AnomalyMap:
        height, width = maps[0].values.shape
        layers = [cv2.resize(one.values, (width, height), interpolation=cv2.INTER_LINEAR) for one in maps]
        total = np.zeros((height, width), np.float32)
        for layer, scale in zip(layers, self._peak_scales, strict=True):
            total += (layer - np.float32(scale.mean)) / np.float32(scale.deviation)
        usual = _mean_scale(self._peak_scales)
        values: Float32Array = np.float32(usual.mean) + np.float32(usual.deviation / len(maps)) * total
        return AnomalyMap(values=values, region=maps[0].region)

    def _common_scores(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        tables = [_held_out(bundle) for bundle in self._bundles]
        common = sorted(set.intersection(*(set(table) for table in tables)))
        if not common:
            raise ExportError(
                f"ensemble of {len(tables)}: no good part was held out by all members ({_names(self._bundles)}), so "
                "nothing says where PASS ends; teach them from the same pictures with the same seed, rate and share"
            )
        scores = (combine([table[part].score for table in tables], self._score_scales) for part in common)
        peaks = (combine([table[part].map_peak for table in tables], self._peak_scales) for part in common)
        return tuple(scores), tuple(peaks)


def combine(values: Sequence[float], scales: Sequence[Scale]) -> float:
    """Mean of the standardised `values`, one of each member, in the mean scale of the members."""
    standardised = [(value - scale.mean) / scale.deviation for value, scale in zip(values, scales, strict=True)]
    usual = _mean_scale(scales)
    return usual.mean + usual.deviation * sum(standardised) / len(standardised)


def _mean_scale(scales: Sequence[Scale]) -> Scale:
    return Scale(
        mean=sum(scale.mean for scale in scales) / len(scales),
        deviation=sum(scale.deviation for scale in scales) / len(scales),
    )


def _score_scale(bundle: Bundle) -> Scale:
    teaching = bundle.manifest.teaching
    return _checked(bundle, Scale(teaching.normal_scores_mean, teaching.normal_scores_deviation), "scores")


def _peak_scale(bundle: Bundle) -> Scale:
    peaks = [part.map_peak for part in bundle.manifest.teaching.held_out_scores]
    return _checked(bundle, Scale(float(np.mean(peaks)), float(np.std(peaks))), "map peaks")


def _checked(bundle: Bundle, scale: Scale, what: str) -> Scale:
    if not scale.deviation > 0:
        raise ExportError(
            f"bundle {bundle.manifest.name} ({bundle.model}): the {what} of its {bundle.manifest.teaching.held_out} "
            "held-out good parts do not differ, so nothing can be standardised by them; hold out more parts"
        )
    return scale


def _held_out(bundle: Bundle) -> dict[str, HeldOutScore]:
    return {part.sha256: part for part in bundle.manifest.teaching.held_out_scores}


def _refuse_strangers(bundles: Sequence[Bundle], regions: Sequence[Box]) -> None:
    first = bundles[0].manifest
    for bundle, region in zip(bundles, regions, strict=True):
        manifest = bundle.manifest
        if (manifest.frame_height, manifest.frame_width) != (first.frame_height, first.frame_width):
            raise ExportError(
                f"ensemble: {_names([bundles[0], bundle])} were taught from frames of "
                f"{first.frame_width}×{first.frame_height} and {manifest.frame_width}×{manifest.frame_height}; "
                "give bundles of one product"
            )
        if not _nearly_equal(regions[0], region):
            raise ExportError(
                f"ensemble: {_names([bundles[0], bundle])} inspect {_text(regions[0])} and {_text(region)} of the "
                "frame; convert all with the same share of crop to resize, or teach them with the same --region"
            )


def _nearly_equal(first: Box, second: Box) -> bool:
    allowed = max(2.0, _REGION_TOLERANCE * min(first.width, first.height))
    sides = ((first.x, second.x), (first.y, second.y), (first.right, second.right), (first.bottom, second.bottom))
    return all(abs(one - other) <= allowed for one, other in sides)


def _text(box: Box) -> str:
    return f"{box.width}×{box.height} at x {box.x}, y {box.y}"


def _names(bundles: Sequence[Bundle]) -> str:
    return " and ".join(f"{bundle.manifest.ir.backbone} {bundle.model}" for bundle in bundles)


def _sum_of(stages: Sequence[StageTimes]) -> StageTimes:
    return StageTimes(**{f"{name}_ms": sum(each.by_stage()[name] for each in stages) for name in STAGES})
