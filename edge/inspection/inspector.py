"""Frame → verdict: preprocess, embed, search, score, and for failed frames map, defects and crops.

`Scorer` is the part that teaching and the line share, so that they cannot disagree. Frames are judged in the caller's
thread, and the clock is given.
"""

from __future__ import annotations

import copy
import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from edge.bundle.bundle import Bundle
from edge.engine.embedder import Embedder
from edge.inspection.anomaly_map import find_defects, judge
from edge.inspection.colour import colour_of, why_other_colour
from edge.inspection.crops import cut_crops
from edge.inspection.left_out import find_left_out
from edge.inspection.options import InspectorOptions
from edge.inspection.scorer import Clock, Scorer
from edge.normality.base import Bank
from edge.normality.make import make_bank
from edge.records import (
    AnomalyMap,
    BoolArray,
    Box,
    Frame,
    FrameIdentity,
    Outcome,
    Precision,
    Reason,
    Search,
    UInt8Array,
    Verdict,
)


@dataclass(frozen=True, slots=True, eq=False)
class Inspection:
    """A verdict and, if it was computed, its map."""

    verdict: Verdict
    anomaly: AnomalyMap | None


class Inspector:
    """Answers frames with one bundle. For one thread; `team` makes the others theirs."""

    def __init__(
        self, bundle: Bundle, options: InspectorOptions | None = None, *, clock: Clock = time.monotonic
    ) -> None:
        """Compile the model, index the bank and warm both up.

        What a station's own region and mask leave out is left out beside what the bundle's mask does.

        Raises:
            BundleError: the model is damaged.
            SettingsError: device, region of interest or mask do not fit.
        """
        self._options = options or InspectorOptions()
        self._manifest = bundle.manifest
        self._model = bundle.model
        self._recipe = self._options.recipe or bundle.manifest.name
        self._threshold = self._options.threshold or bundle.manifest.threshold.image
        self._clock = clock
        self.search = self._options.search
        if self.search == "as_taught":
            self.search = bundle.manifest.scoring.search
        self._left_out = find_left_out(bundle, self._options.mask, self._options.region)
        self._colour = colour_of([golden.image for golden in bundle.golden])
        embedder, self.bank = _load(bundle, self._options, self.search)
        self._take(embedder)

    @property
    def model(self) -> str:
        """The bundle's identity as verdicts show it."""
        return self._model

    @property
    def threshold(self) -> float:
        """The image threshold in force."""
        return self._threshold

    @property
    def region(self) -> Box:
        """What the model sees, in the frame's pixels."""
        return self._left_out.region

    @property
    def ignored(self) -> BoolArray | None:
        """Patches (rows · columns,) that are not judged; none: all of the region's are."""
        return self._left_out.ignored

    @property
    def precision(self) -> Precision:
        """The arithmetic that was asked for."""
        precision = self._options.precision
        return self._manifest.inference_precision if precision == "as_taught" else precision

    @property
    def notes(self) -> tuple[str, ...]:
        """For people: what is not judged, and in what the station departs from what was taught."""
        notes = [*self._left_out.notes]
        precision, threshold = self._manifest.inference_precision, self._manifest.threshold.image
        if self.precision != precision:
            notes.append(
                f"{self.precision} is forced, but bank and threshold were taught with {precision}: scores differ"
            )
        if self._threshold != threshold:
            notes.append(
                f"inspection.threshold is {self._threshold:g}, and {threshold:g} was taught for "
                f"'{self._manifest.name}': what teaching said about false rejects does not hold"
            )
        return tuple(notes)

    def team(self) -> tuple[Inspector, ...]:
        """This inspector and as many more as shall work at the same time, each in a thread; model and bank are shared.

        One in latency mode, where all cores work on one frame. In throughput mode one more than are embedded at a time:
        no core waits for the next frame (8 to 16 % more frames on two cores, WideResNet50-2 and EfficientNet-Lite0).
        """
        size = 1 if self._options.mode == "latency" else self._options.workers or self.embedder.streams + 1
        return self, *(self._for_another_thread() for _ in range(size - 1))

    def answer(self, frame: Frame) -> Verdict:
        """The verdict on one frame, whatever happens: an error is NO_RESULT, never PASS and never silence."""
        try:
            return self.inspect(frame).verdict
        except Exception as error:  # noqa: BLE001 — see above
            return self.no_result(frame.identity, Reason.INTERNAL_ERROR, f"{type(error).__name__}: {error}")

    def inspect(self, frame: Frame, *, want_map: bool = False) -> Inspection:
        """Judge one frame. The map is computed for failed frames, and when it is wanted."""
        if frame.stale:
            detail = "the picture equals the one before, byte for byte: the camera is frozen"
            return Inspection(self.no_result(frame.identity, Reason.CAMERA_STALE, detail), None)
        unusable = frame.unusable or self._why_unusable(frame.image)
        if unusable:
            return Inspection(self.no_result(frame.identity, Reason.IMAGE_UNUSABLE, unusable), None)
        scored = self._scorer.score(frame.image)
        outcome = judge(scored.score, self._threshold)
        if outcome is Outcome.NO_RESULT:
            detail = "the anomaly score is not a number"
            return Inspection(self.no_result(frame.identity, Reason.INTERNAL_ERROR, detail), None)
        started = self._clock()
        failed = outcome is Outcome.FAIL
        patch_scores = self._scorer.patch_scores(scored) if failed or want_map else None
        searched = self._clock()
        anomaly = None if patch_scores is None else self._scorer.map_of(patch_scores)
        defects = (
            find_defects(anomaly, self._manifest.threshold.pixel, self._options.minimum_area)
            if anomaly is not None and failed
            else ()
        )
        crops = cut_crops(
            frame.image,
            defects,
            limit=self._options.max_crops,
            margin=self._options.crop_margin,
            max_bytes=self._options.crop_max_bytes,
        )
        finished = self._clock()
        stages = scored.stages
        verdict = Verdict(
            identity=frame.identity,
            outcome=outcome,
            score=scored.score,
            threshold=self._threshold,
            recipe=self._recipe,
            model=self._model,
            defects=defects,
            crops=crops,
            stages=dataclasses.replace(
                stages,
                search_ms=stages.search_ms + 1e3 * (searched - started),
                score_ms=stages.score_ms + 1e3 * (finished - searched),
            ),
            latency_ms=1e3 * (finished - frame.identity.captured_monotonic_s),
        )
        return Inspection(verdict, anomaly)

    def taught_scorer(self) -> Scorer:
        """The scorer as it was taught: this device, but nothing left out that the bundle does not leave out."""
        return self._make_scorer(self._left_out.taught)

    def no_result(self, identity: FrameIdentity, reason: Reason, detail: str) -> Verdict:
        """The answer to a frame that cannot be judged."""
        return Verdict(
            identity=identity,
            outcome=Outcome.NO_RESULT,
            score=0.0,
            threshold=self._threshold,
            recipe=self._recipe,
            model=self._model,
            reason=reason,
            detail=detail,
            latency_ms=1e3 * (self._clock() - identity.captured_monotonic_s),
        )

    def _why_unusable(self, image: UInt8Array) -> str:
        expected = (self._manifest.frame_height, self._manifest.frame_width, 3)
        if image.size == 0:
            return "the picture cannot be read"
        if image.shape != expected or image.dtype != np.uint8:
            return (
                f"expected {expected[1]}×{expected[0]} pixels in 3 channels of uint8 as taught, "
                f"got {'×'.join(str(side) for side in image.shape[1::-1])} in "
                f"{image.shape[2] if image.ndim > 2 else 1} of {image.dtype}"
            )
        return why_other_colour(self._colour, image)

    def _make_scorer(self, ignored: BoolArray | None) -> Scorer:
        return Scorer(
            self.embedder,
            self.bank,
            self.region,
            ignored=ignored,
            reweight_neighbours=self._manifest.scoring.reweight_neighbours,
        )

    def _for_another_thread(self) -> Inspector:
        other = copy.copy(self)
        other._take(self.embedder.for_another_thread())  # noqa: SLF001 — one of us
        return other

    def _take(self, embedder: Embedder) -> None:
        """Use `embedder`, and do everything that a frame can need: the first time is slower."""
        self.embedder = embedder
        self._scorer = self._make_scorer(self._left_out.ignored)
        blank = np.zeros((self._manifest.frame_height, self._manifest.frame_width, 3), np.uint8)
        for _ in range(2):
            scored = self._scorer.score(blank)
            self._scorer.map_of(self._scorer.patch_scores(scored))


def _load(bundle: Bundle, options: InspectorOptions, search: Search) -> tuple[Embedder, Bank]:
    """Model and bank; the bank is indexed while OpenVINO compiles."""
    threads = options.search_threads
    if options.mode == "throughput":
        threads = threads or 1  # the other cores search and embed other frames
    with ThreadPoolExecutor(1, thread_name_prefix="bank") as beside:
        bank = beside.submit(make_bank, bundle.bank, search, threads, concurrent=options.mode == "throughput")
        return _compile(bundle, options), bank.result()


def _compile(bundle: Bundle, options: InspectorOptions) -> Embedder:
    precision = options.precision
    return Embedder(
        bundle.manifest.ir,
        bundle.model_xml,
        bundle.model_bin,
        device=options.device,
        precision=bundle.manifest.inference_precision if precision == "as_taught" else precision,
        threads=options.embed_threads,
        mode=options.mode,
        streams=max(1, options.workers - 1) if options.workers else 0,
        cache_dir=options.cache_dir,
    )
