from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.rig.station import FRAME_SIZE
from edge.files.pictures import read_picture, write_picture
from export.datasets.category import Category
from export.datasets.find import find_categories
from export.datasets.ground_truth import read_mask_of
from export.datasets.resize import make_uniform
from export.datasets.verify import check_category
from tests.datasets import draw_category


@pytest.fixture
def category(tmp_path: Path) -> Category:
    return find_categories(draw_category(tmp_path / "plate", masks=True))[0]


def enlarge(path: Path) -> None:
    image = read_picture(path)
    write_picture(path, np.asarray(cv2.resize(image, None, fx=1.5, fy=1.25, interpolation=cv2.INTER_NEAREST), np.uint8))


def test_a_category_of_one_size_is_taken_as_it_is(category: Category, tmp_path: Path) -> None:
    assert make_uniform(category, check_category(category), tmp_path / "copies") == category
    assert not (tmp_path / "copies").exists()


def test_odd_pictures_and_their_masks_become_resized_copies(
    category: Category, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    defective = next(picture for picture in category.test if picture.masks)
    for path in (category.train[3], defective.path, *defective.masks):
        enlarge(path)
    before = category.train[3].read_bytes()

    uniform = make_uniform(category, check_category(category), tmp_path / "copies")

    paths = [*uniform.train, *(picture.path for picture in uniform.test)]
    assert {read_picture(path).shape[:2] for path in paths} == {FRAME_SIZE}
    assert uniform.train[3] != category.train[3]
    assert uniform.train[:3] == category.train[:3]
    changed = next(picture for picture in uniform.test if picture.path.stem == defective.path.stem and picture.masks)
    mask = read_mask_of(changed, *FRAME_SIZE)
    assert mask is not None
    assert mask.any()
    assert category.train[3].read_bytes() == before
    assert "2 of 29 pictures are not 256×192" in capsys.readouterr().err


def test_a_defect_thinner_than_a_pixel_of_the_copy_stays_marked(category: Category, tmp_path: Path) -> None:
    defective = next(picture for picture in category.test if picture.masks)
    enlarge(defective.path)
    height, width = read_picture(defective.path).shape[:2]
    mask = np.zeros((height, width), np.uint8)
    mask[:, 1] = 255  # of three columns that become two, the one that no nearest pixel falls on
    write_picture(defective.masks[0], mask)
    uniform = make_uniform(category, check_category(category), tmp_path / "copies")
    changed = next(picture for picture in uniform.test if picture.path.stem == defective.path.stem and picture.masks)
    marked = read_mask_of(changed, *FRAME_SIZE)
    assert marked is not None
    assert set(np.flatnonzero(marked.any(axis=0))) <= {0, 1}


def test_a_name_as_long_as_file_systems_allow_can_be_copied(category: Category, tmp_path: Path) -> None:
    write_picture(category.train[3], np.zeros((20, 30, 3), np.uint8))
    category.train[3].rename(category.train[3].with_name(f"{'n' * 251}.png"))
    (found,) = find_categories(category.path)
    uniform = make_uniform(found, check_category(found), tmp_path / "copies")
    (copy,) = [entry for entry in uniform.train if entry not in found.train]
    assert len(copy.name) < 251
    assert read_picture(copy).shape[:2] == FRAME_SIZE
