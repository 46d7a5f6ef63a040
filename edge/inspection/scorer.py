"""One frame's patches to its score: the same code on the line, in teaching and in every benchmark."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edge.engine.embedder import Embedder
from edge.inspection.anomaly_map import anomaly_map, reweighted_score
from edge.inspection.preprocess import make_scratch, prepare
from edge.normality.base import Bank, Peak
from edge.records import (
    AnomalyMap,
    BoolArray,
    Box,
    Float32Array,
    Int64Array,
    StageTimes,
    UInt8Array,
)

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """What the scorer knows of a frame, until it scores the next one."""

    score: float
    patches: Float32Array  # (n, dim) those that the mask leaves
    peak: Peak
    stages: StageTimes


class Scorer:
    """Picture → anomaly score, through one embedder and one bank."""

    def __init__(
        self,
        embedder: Embedder,
        bank: Bank,
        region: Box,
        *,
        ignored: BoolArray | None = None,
        reweight_neighbours: int = 0,
        clock: Clock = time.perf_counter,
    ) -> None:
        """Score `region` of every picture, leaving out the `ignored` patches (rows · columns,)."""
        self._embedder = embedder
        self._bank = bank
        self._region = region
        self._scratch = make_scratch(embedder.input)
        self._kept: Int64Array | None = None if ignored is None else np.flatnonzero(~ignored)
        self._kept_patches = np.empty((0, 0), np.float32)
        self._reweight = reweight_neighbours
        self._clock = clock

    def score(self, image: UInt8Array) -> Scored:
        """Score one picture (height, width, 3) BGR of the frame's size."""
        started = self._clock()
        prepare(image, self._region, self._embedder.input, self._scratch)
        prepared = self._clock()
        embedding = self._embedder.embed()
        embedded = self._clock()
        patches = self._unmasked(embedding.patches)
        peak = self._bank.peak(patches)
        searched = self._clock()
        score = self._image_score(patches, peak)
        scored = self._clock()
        return Scored(
            score=score,
            patches=patches,
            peak=peak,
            stages=StageTimes(
                preprocess_ms=1e3 * (prepared - started),
                embed_ms=1e3 * (embedded - prepared),
                search_ms=1e3 * (searched - embedded),
                score_ms=1e3 * (scored - searched),
            ),
        )

    def patch_scores(self, scored: Scored) -> Float32Array:
        """(rows, columns) of the picture scored last; 0 where the mask ignores."""
        distances = scored.peak.distances
        if distances is None:
            distances, _ = self._bank.search(scored.patches, scored.peak)
        grid = self._embedder.grid
        if self._kept is None:
            return distances.reshape(grid).copy()
        values = np.zeros(grid[0] * grid[1], np.float32)
        values[self._kept] = distances
        return values.reshape(grid)

    def map_of(self, patch_scores: Float32Array) -> AnomalyMap:
        """The anomaly map at the model's input size."""
        height, width = self._embedder.input.shape[:2]
        return anomaly_map(patch_scores, height, width, self._region)

    def _unmasked(self, patches: Float32Array) -> Float32Array:
        if self._kept is None:
            return patches
        if self._kept_patches.shape[1] != patches.shape[1]:
            self._kept_patches = np.empty((len(self._kept), patches.shape[1]), np.float32)
        # "clip" takes straight into the buffer; the indices are within bounds by construction.
        return np.take(patches, self._kept, axis=0, out=self._kept_patches, mode="clip")

    def _image_score(self, patches: Float32Array, peak: Peak) -> float:
        if self._reweight == 0 or not np.isfinite(peak.distance):
            return peak.distance
        support = self._bank.support_distances(patches[peak.patch], peak.index, self._reweight)
        return reweighted_score(peak.distance, support)
