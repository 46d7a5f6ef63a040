"""Do the pictures belong together? Unreadable, of another size, blank or repeated ones are named."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.errors import ExportError, SourceError
from edge.files.likeness import alike, thumbnail
from edge.files.names import shown
from edge.files.pictures import read_picture
from edge.records import Float32Array
from edge.terminal import phase, say
from export.teaching.same_part import cells_of

_BLANK_DEVIATION = 1.0  # grey levels; a covered lens or a black frame is below, any real picture far above
_NAMED = 10


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """Pictures that can be used together."""

    paths: tuple[Path, ...]
    height: int
    width: int
    skipped: tuple[str, ...]  # "name: why"
    looks: Float32Array  # (pictures, cells), for `teaching.same_part`
    still: int  # pictures that the one before is alike


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    path: Path
    size: tuple[int, int]  # (height, width); (0, 0) where it cannot be read
    digest: str
    cells: Float32Array
    still: bool = False  # alike to the picture before
    problem: str = ""


def check_pictures(paths: Sequence[Path], *, skip_bad: bool) -> Pictures:
    """Look at every picture once.

    Raises:
        ExportError: some are bad and `skip_bad` is off, or none is left; all (up to ten) are named.
    """
    looks = []
    before: Float32Array | None = None
    with phase("checking pictures", len(paths)) as done:
        for number, path in enumerate(paths):
            look, before = _look(path, before)
            looks.append(look)
            done(number + 1)
    sizes = Counter(look.size for look in looks if look.size != (0, 0))
    usual = sizes.most_common(1)[0][0] if sizes else (0, 0)
    bad = _problems(looks, usual)
    if bad and not skip_bad:
        raise ExportError(
            f"{len(bad)} of {len(paths)} pictures cannot be used: {_shorten(bad)}. "
            "Remove them, or leave them out with --skip-bad"
        )
    for line in bad.values():
        say(f"skipped {line}")
    kept = [look for look in looks if look.path not in bad]
    if not kept:
        raise ExportError("no usable picture is left")
    return Pictures(
        paths=tuple(look.path for look in kept),
        height=usual[0],
        width=usual[1],
        skipped=tuple(bad.values()),
        looks=np.stack([look.cells for look in kept]),
        still=sum(look.still for look in kept),
    )


def _look(path: Path, before: Float32Array | None) -> tuple[_Look, Float32Array | None]:
    """What there is to know of a picture, and its thumbnail; `before` is that of the picture before."""
    try:
        image = read_picture(path)
    except SourceError as error:
        return _Look(path, (0, 0), "", np.empty(0, np.float32), problem=str(error)), before
    seen = thumbnail(image)
    blank = float(np.std(image)) < _BLANK_DEVIATION
    look = _Look(
        path,
        (image.shape[0], image.shape[1]),
        hashlib.sha256(image.tobytes()).hexdigest(),
        cells_of(seen),
        still=before is not None and alike(before, seen),
        problem=f"{shown(path)}: blank (all pixels nearly equal)" if blank else "",
    )
    return look, seen


def _problems(looks: Sequence[_Look], usual: tuple[int, int]) -> dict[Path, str]:
    bad: dict[Path, str] = {}
    first: dict[str, Path] = {}
    for look in looks:
        if look.problem:
            bad[look.path] = look.problem
        elif look.size != usual:
            bad[look.path] = f"{shown(look.path)}: {look.size[1]}×{look.size[0]} where most are {usual[1]}×{usual[0]}"
        elif look.digest in first:
            bad[look.path] = f"{shown(look.path)}: the same picture as {shown(first[look.digest])}"
        else:
            first[look.digest] = look.path
    return bad


def _shorten(bad: dict[Path, str]) -> str:
    lines = list(bad.values())
    more = f"; and {len(lines) - _NAMED} more" if len(lines) > _NAMED else ""
    return "; ".join(lines[:_NAMED]) + more
