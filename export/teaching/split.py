"""Which pictures of good parts make the bank, and which, held out, set the threshold.

What is divided are parts, not pictures: those of one part stay on one side (see `teaching.same_part`), and of a part
that is held out the first picture alone counts. So the held-out pictures show parts that know nothing of one another,
as the promise on false rejects supposes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.errors import ExportError
from edge.files.names import shown
from edge.terminal import say

LEAST_PARTS = 5  # four to teach from and one to hold out: below that no threshold means anything

Part = tuple[int, ...]  # indices of its pictures


@dataclass(frozen=True, slots=True)
class Split:
    """Which pictures set the threshold, one of each part, and which make the bank."""

    held_out: tuple[Path, ...]
    teaching: tuple[Path, ...]


def split_given(paths: Sequence[Path], parts: Sequence[Part], calibration: Sequence[Path], place: Path) -> Split:
    """Those of `paths` that are in `calibration` are held out; `place` is what messages name.

    Raises:
        ExportError: nothing is left for one of the two.
    """
    given = frozenset(calibration)
    held_out = [part[0] for part in parts if all(paths[index] in given for index in part)]
    teaching = [index for index, path in enumerate(paths) if path not in given]
    if not held_out or not teaching:
        raise ExportError(
            f"{place}: {len(teaching)} usable pictures to teach from and {len(held_out)} for the "
            "threshold, of parts that the others do not show; at least one of each is needed"
        )
    return _split(paths, held_out, teaching)


def split_by_chance(
    paths: Sequence[Path], parts: Sequence[Part], *, rate: float, share: float | None, seed: int, place: Path
) -> Split:
    """`hold_out_count` of the `parts`, drawn by the seed, are held out; `place` is what messages name.

    Raises:
        ExportError: there are too few parts.
    """
    if len(parts) < LEAST_PARTS:
        repeated = f", which show {len(parts)} different parts" if len(parts) < len(paths) else ""
        raise ExportError(
            f"{place}: {len(paths)} usable pictures of good parts{repeated}; at least {LEAST_PARTS} are needed, "
            "50 to 200 are usual"
        )
    count = hold_out_count(len(parts), rate, share)
    order = np.random.default_rng([seed, 3]).permutation(len(parts))
    held_out = [parts[number][0] for number in order[:count]]
    return _split(paths, held_out, [index for number in order[count:] for index in parts[number]])


def hold_out_count(parts: int, rate: float, share: float | None) -> int:
    """How many parts to hold out for the threshold.

    By default as many as the false-reject rate needs, 1/rate - 1, but never more than half of the parts, nor fewer
    than a fifth: a bank from too few parts finds every part strange.
    """
    if share is not None:
        return min(parts - 1, max(1, round(share * parts)))
    needed = math.ceil(round(1 / rate, 9)) - 1
    return max(1, min(max(needed, parts // 5), parts // 2))


def name_repeats(paths: Sequence[Path], parts: Sequence[Part]) -> None:
    """Warn of pictures that show a part which another one shows, too."""
    repeated = [part for part in parts if len(part) > 1]
    if repeated:
        first, second = (shown(paths[index]) for index in repeated[0][:2])
        say(
            f"warning: {sum(map(len, repeated))} of {len(paths)} pictures are so alike that they show the same part, "
            f"such as {first} and {second}: {len(parts)} different parts. The promise on false rejects holds for "
            "independent parts, so parts are counted, not pictures: each is taught or held out as a whole, and one "
            "picture of it sets the threshold. Take one picture of each part; if they are different parts after all, "
            "say --independent"
        )


def name_stillness(paths: Sequence[Path], still: int) -> None:
    """Warn where most pictures, `still` of them, are as alike as frames of one part at rest."""
    if 2 * still > len(paths):
        say(
            f"warning: {still} of {len(paths)} pictures differ from the one before by no more than a camera's noise. "
            "If they show one part again and again, nothing is promised of others: take one picture of each part"
        )


def _split(paths: Sequence[Path], held_out: Sequence[int], teaching: Sequence[int]) -> Split:
    return Split(tuple(paths[index] for index in sorted(held_out)), tuple(paths[index] for index in sorted(teaching)))
