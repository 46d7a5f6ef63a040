"""Held-out good parts: which pictures, what they score, what is recorded of them, and the threshold they set."""

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

LEAST_PICTURES = 5  # four to teach from and one to hold out: below that no threshold means anything
_GOLDEN_FRAMES = 3
_NAMED = 10  # pictures in one message


@dataclass(frozen=True, slots=True)
class Split:
    """Which pictures set the threshold, and which make the bank."""

    held_out: tuple[Path, ...]
    teaching: tuple[Path, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What pictures scored, in their order."""

    paths: tuple[Path, ...]
    scores: tuple[float, ...]
    map_peaks: tuple[float, ...]


def split_given(paths: Sequence[Path], calibration: Sequence[Path], place: Path) -> Split:
    """Those of `paths` that are in `calibration` are held out; `place` is what messages name.

    Raises:
        ExportError: nothing is left for one of the two.
    """
    given = frozenset(calibration)
    held_out = tuple(path for path in paths if path in given)
    teaching = tuple(path for path in paths if path not in given)
    if not held_out or not teaching:
        raise ExportError(
            f"{place}: {len(teaching)} usable pictures to teach from and {len(held_out)} for the "
            "threshold; at least one of each is needed"
        )
    return Split(held_out, teaching)


def split_by_chance(paths: Sequence[Path], rate: float, share: float | None, seed: int, place: Path) -> Split:
    """`hold_out_count` of `paths`, drawn by the seed, are held out; `place` is what messages name.

    Raises:
        ExportError: there are too few pictures.
    """
    if len(paths) < LEAST_PICTURES:
        raise ExportError(
            f"{place}: {len(paths)} usable pictures of good parts; at least "
            f"{LEAST_PICTURES} are needed, 50 to 200 are usual"
        )
    count = hold_out_count(len(paths), rate, share)
    order = np.random.default_rng([seed, 3]).permutation(len(paths))
    held_out, teaching = sorted(order[:count]), sorted(order[count:])
    return Split(tuple(paths[i] for i in held_out), tuple(paths[i] for i in teaching))


def hold_out_count(pictures: int, rate: float, share: float | None) -> int:
    """How many pictures to hold out for the threshold.

    By default as many as the false-reject rate needs, 1/rate - 1, but never more than half of the pictures, nor fewer
    than a fifth: a bank from too few pictures finds every part strange.
    """
    if share is not None:
        return min(pictures - 1, max(1, round(share * pictures)))
    needed = math.ceil(round(1 / rate, 9)) - 1
    return max(1, min(max(needed, pictures // 5), pictures // 2))


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
