"""Which pictures show the same part: frames of a camera that ran on while a part lay there, or a part seen twice.

What a threshold promises about parts to come supposes that the held-out pictures show parts that know nothing of one
another, nor of those in the bank. Frames of one part are neither; they are told by being far more alike than pictures
of this product are among themselves.
"""

from __future__ import annotations

import numpy as np

from edge.files.likeness import SIDE
from edge.records import Float32Array

CELLS = SIDE // 2  # on each side of a look: so few that a camera's noise averages out of them
# Of the usual distance, tried in this order. Frames of a part that lay still are below 0.1 (camera noise of five grey
# levels, on MVTec AD bottle), different parts above 0.17 (simulated plates, bottles, screws, hazelnuts).
_NEAR = (1 / 8, 1 / 16, 1 / 32, 1 / 64)
# Grey levels between two cells, at the 99th percentile. Frames of a part that lay still stay below 1.3 with that noise;
# different parts of the sets above begin at 6.2, however rare their kind is among others that look quite different.
_SAME = 4.0
_REACH = 1000  # pictures are compared with so many that follow them: a bound on work, far beyond a camera's repeats


def cells_of(thumbnail: Float32Array) -> Float32Array:
    """A thumbnail (SIDE, SIDE, 3) in fewer numbers, all grey: (CELLS · CELLS,)."""
    grey = thumbnail.mean(axis=2)
    return np.asarray(grey.reshape(CELLS, 2, CELLS, 2).mean(axis=(1, 3)).reshape(-1), np.float32)


def group_same_parts(looks: Float32Array) -> tuple[tuple[int, ...], ...]:
    """The pictures by part: indices into `looks` (pictures, CELLS · CELLS), each part where its first picture stands.

    Two pictures show one part if no cell differs by more than noise and they are nearer than a share of the usual
    distance, and hardly any others are up to twice as far apart: where parts differ in little but their place, near
    ones are near by chance, and farther ones more numerous.
    """
    groups = list(range(len(looks)))
    for first, second in _near_pairs(looks):
        one, other = groups[first], groups[second]
        if one != other:
            low, high = min(one, other), max(one, other)
            groups = [low if group == high else group for group in groups]
    members: dict[int, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    return tuple(tuple(indices) for indices in members.values())


def _near_pairs(looks: Float32Array) -> list[tuple[int, int]]:
    """Pairs on the near side of a gap; none where there is no gap."""
    rows = _distances(looks)
    every = np.concatenate([np.empty(0, np.float32), *rows])
    usual = float(np.median(every)) if len(every) else 0.0
    for share in _NEAR:
        limit = share * usual
        below = int((every < limit).sum())
        if below > int((every < 2 * limit).sum()) - below:
            return [
                (first, first + 1 + int(step))
                for first, row in enumerate(rows)
                for step in np.flatnonzero(row < limit)
                if np.percentile(np.abs(looks[first + 1 + step] - looks[first]), 99) < _SAME
            ]
    return []


def _distances(looks: Float32Array) -> list[Float32Array]:
    """How far those that follow it are from each picture, in grey levels."""
    rows = []
    for first in range(len(looks) - 1):
        difference = looks[first + 1 : first + 1 + _REACH] - looks[first]
        rows.append(np.sqrt(np.einsum("ij,ij->i", difference, difference) / np.float32(looks.shape[1])))
    return rows
