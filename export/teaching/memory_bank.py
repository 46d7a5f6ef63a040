"""Pictures of good parts → memory bank, in memory that does not grow with pictures × patches × dimensions.

Selection reads only projections, of at most 128 dimensions: they lie in a memory-mapped scratch file. The vectors
themselves lie in another one, from which the chosen ones are read; where the disk has no room for it, the pictures
that own picks are embedded once more instead, which gives the same bank.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.bundle.bundle import BankRecord
from edge.errors import ExportError
from edge.records import Float32Array, Int64Array
from edge.terminal import phase, say
from export.teaching.coreset import PROJECTION, project, select_composable, select_random
from export.teaching.options import Coreset
from export.teaching.taught_model import TaughtModel

_SPACE_FACTOR = 1.2  # of the scratch files: others write to this disk too
# Of the largest projected value: a device that does not repeat its own bf16 sums to the bit stays far below, another
# picture far above.
_SAME_PICTURE = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """Patches of all pictures, in their order, memory-mapped."""

    pictures: tuple[Path, ...]
    seed: int
    projected: Float32Array  # (pictures × patches, ≤ 128)
    vectors: Float32Array | None  # (pictures × patches, dim); None: not kept


def select_bank(
    model: TaughtModel,
    pictures: Sequence[Path],
    out: Path,
    *,
    coreset: Coreset,
    ratio: float,
    parts: int,
    seed: int,
) -> tuple[Float32Array, BankRecord]:
    """The bank (vectors, dim) of `ratio` of all patches, in their order; scratch space is taken beside `out`.

    Raises:
        ExportError: the disk has no room or fails, or a picture changed meanwhile.
        SourceError: a picture cannot be read any more.
    """
    with _scratch(out) as scratch:
        embedded = embed_pictures(model, pictures, seed, scratch, keep_vectors=_has_room(model, pictures, scratch))
        points = embedded.projected
        count = max(1, round(len(points) * ratio))
        with phase("selecting the coreset", count) as done:
            match coreset:
                case "greedy":
                    picks = select_composable(points, count, seed, parts, done)
                case "random":
                    picks = select_random(len(points), count, seed)
        bank = collect_vectors(model, embedded, np.sort(picks))
        record = BankRecord(
            vectors=len(bank),
            dimension=bank.shape[1],
            patches=len(points),
            coreset_ratio=ratio,
            projection=points.shape[1],
            seed=seed,
        )
    return bank, record


def embed_pictures(
    model: TaughtModel, pictures: Sequence[Path], seed: int, scratch: Path, *, keep_vectors: bool
) -> Embedded:
    """Embed and project every picture, into files in `scratch`.

    Raises:
        ExportError: the disk refuses.
        SourceError: a picture cannot be read any more.
    """
    projected, vectors = scratch / "projected.f32", scratch / "vectors.f32"
    try:
        with ExitStack() as open_files, phase("embedding good parts", len(pictures)) as done:
            projected_file = open_files.enter_context(projected.open("wb"))
            vectors_file = open_files.enter_context(vectors.open("wb")) if keep_vectors else None
            for number, path in enumerate(pictures):
                patches = model.embed_picture(path)
                # Written, not mapped: on a full disk a mapped page kills the process instead of raising.
                project(patches, seed).tofile(projected_file)
                if vectors_file is not None:
                    patches.tofile(vectors_file)
                done(number + 1)
    except OSError as error:
        # NumPy's own error on a full disk has no strerror.
        why = error.strerror or error
        raise ExportError(f"{scratch.parent}: cannot be written ({why}); nothing was kept") from error
    return Embedded(
        pictures=tuple(pictures),
        seed=seed,
        projected=_map(projected, _projected_dimension(model)),
        vectors=_map(vectors, model.ir.dimension) if keep_vectors else None,
    )


def collect_vectors(model: TaughtModel, embedded: Embedded, picks: Int64Array) -> Float32Array:
    """The vectors (picks, dim) of the patches `picks`, ascending.

    Raises:
        ExportError: a picture had to be embedded again and is no longer what it was.
        SourceError: it cannot be read any more.
    """
    if embedded.vectors is not None:
        return embedded.vectors[picks]
    per_picture = len(embedded.projected) // len(embedded.pictures)
    vectors = np.empty((len(picks), model.ir.dimension), np.float32)
    owners = np.unique(picks // per_picture)
    bounds = np.append(np.searchsorted(picks, owners * per_picture), len(picks))
    with phase("embedding again what was chosen", len(owners)) as done:
        for number, owner in enumerate(owners):
            own = slice(bounds[number], bounds[number + 1])
            vectors[own] = model.embed_picture(embedded.pictures[owner])[picks[own] - owner * per_picture]
            _refuse_changed(
                embedded.pictures[owner], project(vectors[own], embedded.seed), embedded.projected[picks[own]]
            )
            done(number + 1)
    return vectors


def _refuse_changed(path: Path, now: Float32Array, before: Float32Array) -> None:
    if np.abs(now - before).max() > _SAME_PICTURE * np.abs(before).max():
        raise ExportError(
            f"{path}: the picture changed while it was taught from; teach again, from pictures that stay as they are"
        )


def _map(path: Path, dimension: int) -> Float32Array:
    return np.asarray(np.memmap(path, np.float32, "r")).reshape(-1, dimension)


def _projected_dimension(model: TaughtModel) -> int:
    return min(PROJECTION, model.ir.dimension)


@contextmanager
def _scratch(out: Path) -> Iterator[Path]:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        directory = tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.")
    except OSError as error:
        raise ExportError(f"{out.parent}: cannot be written ({error.strerror})") from error
    with directory as name:
        yield Path(name)


def _has_room(model: TaughtModel, pictures: Sequence[Path], scratch: Path) -> bool:
    """Whether all vectors can be kept; their projections must be.

    Raises:
        ExportError: there is no room for those.
    """
    values = len(pictures) * model.patches * np.dtype(np.float32).itemsize * _SPACE_FACTOR
    least, all_of_it = values * _projected_dimension(model), values * (_projected_dimension(model) + model.ir.dimension)
    free = shutil.disk_usage(scratch).free
    if free < least:
        raise ExportError(
            f"{scratch.parent}: teaching needs {least / 1e9:.1f} GB of scratch space here, {free / 1e9:.1f} GB are "
            "free; free some, or teach from fewer pictures"
        )
    if free < all_of_it:
        say(
            f"note: {scratch.parent} has {free / 1e9:.1f} GB free; with {all_of_it / 1e9:.1f} GB the pictures would "
            "not have to be embedded twice"
        )
    return free >= all_of_it
