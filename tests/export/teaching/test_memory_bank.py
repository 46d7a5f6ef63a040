from __future__ import annotations

import shutil
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.rig.station import FRAME_SIZE
from edge.bundle.ir import read_ir_description
from edge.errors import ExportError, SourceError
from edge.files.pictures import list_pictures, write_picture
from export.teaching.coreset import PROJECTION, project
from export.teaching.memory_bank import collect_vectors, embed_pictures, select_bank
from export.teaching.taught_model import TaughtModel, open_model
from tests.bundles import draw_defective

PATCHES = 16 * 16


def open_taught(ir_dir: Path, mask: Path | None = None) -> TaughtModel:
    ir = read_ir_description(ir_dir)
    return open_model(ir_dir, ir, FRAME_SIZE, region=None, mask=mask, device="CPU", precision="f32")


@pytest.fixture(scope="module")
def model(ir_dir: Path) -> TaughtModel:
    return open_taught(ir_dir)


@pytest.fixture
def pictures(good_pictures: Path, tmp_path: Path) -> list[Path]:
    """Copies of six good parts, to be spoilt."""
    copies = tmp_path / "pictures"
    copies.mkdir()
    return [Path(shutil.copy(path, copies)) for path in list_pictures(good_pictures)[:6]]


def make_scratch(tmp_path: Path, name: str) -> Path:
    directory = tmp_path / name
    directory.mkdir()
    return directory


def test_vectors_and_projections_are_those_of_the_pictures(
    model: TaughtModel, pictures: Sequence[Path], tmp_path: Path
) -> None:
    embedded = embed_pictures(model, pictures, 3, tmp_path, keep_vectors=True)
    assert embedded.vectors is not None
    assert embedded.vectors.shape == (6 * PATCHES, model.ir.dimension)
    assert embedded.projected.shape == (6 * PATCHES, PROJECTION)
    for number, path in enumerate(pictures):
        own = slice(number * PATCHES, (number + 1) * PATCHES)
        patches = model.embed_picture(path)
        assert (embedded.vectors[own] == patches).all()
        assert (embedded.projected[own] == project(patches, 3)).all()


@pytest.mark.parametrize("masked", [False, True])
def test_embedding_again_gives_the_vectors_that_were_not_kept(
    ir_dir: Path, pictures: Sequence[Path], tmp_path: Path, *, masked: bool
) -> None:
    mask = np.zeros(FRAME_SIZE, np.uint8)
    mask[:48] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    model = open_taught(ir_dir, tmp_path / "mask.png" if masked else None)
    kept = embed_pictures(model, pictures, 0, make_scratch(tmp_path, "kept"), keep_vectors=True)
    thrown = embed_pictures(model, pictures, 0, make_scratch(tmp_path, "thrown"), keep_vectors=False)
    per_picture = PATCHES * 3 // 4 if masked else PATCHES
    assert model.patches == per_picture
    assert thrown.vectors is None
    assert (thrown.projected == kept.projected).all()
    # First and last of a picture, several of one, none of the third and of the last.
    picks = np.asarray([0, 7, per_picture - 1, per_picture, 3 * per_picture + 5, 5 * per_picture - 1])
    assert (collect_vectors(model, thrown, picks) == collect_vectors(model, kept, picks)).all()
    assert collect_vectors(model, thrown, picks).shape == (6, model.ir.dimension)


def test_only_pictures_that_own_picks_are_embedded_again(
    model: TaughtModel, pictures: Sequence[Path], tmp_path: Path
) -> None:
    embedded = embed_pictures(model, pictures, 0, tmp_path, keep_vectors=False)
    pictures[1].unlink()
    assert len(collect_vectors(model, embedded, np.asarray([0, 2 * PATCHES]))) == 2
    with pytest.raises(SourceError, match=pictures[1].name):
        collect_vectors(model, embedded, np.asarray([0, PATCHES]))


def test_a_picture_that_changed_meanwhile_is_refused_by_name(
    model: TaughtModel, pictures: Sequence[Path], tmp_path: Path
) -> None:
    embedded = embed_pictures(model, pictures, 0, tmp_path, keep_vectors=False)
    write_picture(pictures[4], draw_defective(3).image[::-1].copy())
    with pytest.raises(ExportError, match=rf"{pictures[4].name}: the picture changed while it was taught from"):
        collect_vectors(model, embedded, np.arange(0, 6 * PATCHES, 3))


@pytest.mark.parametrize("keep_vectors", [True, False])
def test_memory_does_not_grow_with_the_pictures(
    model: TaughtModel, good_pictures: Path, tmp_path: Path, *, keep_vectors: bool
) -> None:
    paths = list_pictures(good_pictures)
    one_picture = PATCHES * model.ir.dimension * 4
    peaks = []
    embed_pictures(model, paths[:2], 0, make_scratch(tmp_path, "warm"), keep_vectors=keep_vectors)
    for count in (5, 30):
        tracemalloc.start()
        embedded = embed_pictures(
            model, paths[:count], 0, make_scratch(tmp_path, f"{count}"), keep_vectors=keep_vectors
        )
        collect_vectors(model, embedded, np.asarray([0, 4 * PATCHES]))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < one_picture


def test_the_bank_is_in_the_order_of_the_patches_and_leaves_no_scratch(
    model: TaughtModel, pictures: Sequence[Path], tmp_path: Path
) -> None:
    out = tmp_path / "banks" / "plate"
    bank, record = select_bank(model, pictures, out, coreset="greedy", ratio=0.05, parts=1, seed=0)
    assert list(out.parent.iterdir()) == []
    assert (record.vectors, record.dimension, record.patches) == (77, model.ir.dimension, 6 * PATCHES)
    everything = np.concatenate([model.embed_picture(path).copy() for path in pictures])
    rows = [int(np.flatnonzero((everything == vector).all(axis=1))[0]) for vector in bank]
    assert rows == sorted(set(rows))
