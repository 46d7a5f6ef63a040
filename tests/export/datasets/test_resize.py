from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.rig.station import FRAME_SIZE
from edge.files.pictures import read_picture, write_picture
from export.datasets.category import Category
from export.datasets.find import find_categories
from export.datasets.masks import read_mask_of
from export.datasets.resize import make_uniform
from tests.datasets import draw_category


@pytest.fixture
def category(tmp_path: Path) -> Category:
    return find_categories(draw_category(tmp_path / "plate", masks=True))[0]


def enlarge(path: Path) -> None:
    image = read_picture(path)
    write_picture(path, np.asarray(cv2.resize(image, None, fx=1.5, fy=1.25, interpolation=cv2.INTER_NEAREST), np.uint8))


def test_a_category_of_one_size_is_taken_as_it_is(category: Category, tmp_path: Path) -> None:
    assert make_uniform(category, tmp_path / "copies") == category
    assert not (tmp_path / "copies").exists()


def test_odd_pictures_and_their_masks_become_resized_copies(
    category: Category, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    defective = next(picture for picture in category.test if picture.masks)
    for path in (category.train[3], defective.path, *defective.masks):
        enlarge(path)
    before = category.train[3].read_bytes()

    uniform = make_uniform(category, tmp_path / "copies")

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
