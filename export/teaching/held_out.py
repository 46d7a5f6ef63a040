"""Held-out good parts: what they score, what is recorded of them, and which of them are golden frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.bundle.bundle import GoldenRecord, HeldOutScore, TeachingRecord
from edge.errors import ExportError, SourceError
from edge.files.names import shown
from edge.files.pictures import read_picture
from edge.files.schema import hash_bytes
from edge.inspection.scorer import Scored, Scorer
from edge.terminal import phase, say
from export.teaching.calibrate import find_outliers, score_quantiles

_GOLDEN_FRAMES = 3
_NAMED = 10  # pictures in one message


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What pictures scored, in their order."""

    paths: tuple[Path, ...]
    scores: tuple[float, ...]
    map_peaks: tuple[float, ...]


def score_all(name: str, scorer: Scorer, paths: Sequence[Path]) -> Scores:
    """Score every picture, as the phase `name`.

    Raises:
        ExportError: a score is not a number.
        SourceError: a picture cannot be read any more.
    """
    scores: list[float] = []
    peaks: list[float] = []
    with phase(name, len(paths)) as done:
        for number, path in enumerate(paths):
            scored = scorer.score(read_picture(path))
            scores.append(_finite(scored, path))
            peaks.append(float(scorer.map_of(scorer.patch_scores(scored)).values.max()))
            done(number + 1)
    return Scores(tuple(paths), tuple(scores), tuple(peaks))


def name_outliers(good: Scores) -> None:
    """Warn of held-out parts that score far above the others."""
    outliers = find_outliers(good.scores)
    if outliers:
        named = ", ".join(f"{shown(good.paths[index])} ({good.scores[index]:.3f})" for index in outliers[:_NAMED])
        say(
            f"warning: {len(outliers)} of {len(good.paths)} held-out pictures score far above the others (median "
            f"{np.median(good.scores):.3f}) and raise the threshold: {named}. If they show defective parts, "
            "remove them and teach again"
        )


def choose_golden(good: Scores) -> list[tuple[Path, GoldenRecord]]:
    """The best, the median and the worst of the held-out good parts."""
    order = np.argsort(good.scores)
    chosen = sorted({int(order[round(share * (len(order) - 1))]) for share in np.linspace(0, 1, _GOLDEN_FRAMES)})
    return [
        (
            good.paths[index],
            GoldenRecord(file=f"golden/{number}.png", score=good.scores[index], map_peak=good.map_peaks[index]),
        )
        for number, index in enumerate(chosen)
    ]


def teaching_record(taught: int, good: Scores, skipped: Sequence[str]) -> TeachingRecord:
    """What the manifest says about the pictures, `taught` of which made the bank.

    Raises:
        SourceError: a picture cannot be read any more.
    """
    return TeachingRecord(
        pictures=taught,
        held_out=len(good.paths),
        skipped=tuple(skipped),
        normal_score_quantiles=score_quantiles(good.scores),
        normal_scores_mean=float(np.mean(good.scores)),
        normal_scores_deviation=float(np.std(good.scores)),
        held_out_scores=tuple(
            HeldOutScore(sha256=_hash(path), score=score, map_peak=peak)
            for path, score, peak in zip(good.paths, good.scores, good.map_peaks, strict=True)
        ),
    )


def _finite(scored: Scored, path: Path) -> float:
    if not math.isfinite(scored.score):
        raise ExportError(f"{path}: its anomaly score is {scored.score}; the weights of this IR are not usable")
    return scored.score


def _hash(path: Path) -> str:
    try:
        return hash_bytes(path.read_bytes()).sha256
    except OSError as error:
        raise SourceError(f"{path}: cannot be read any more ({error.strerror})") from error
