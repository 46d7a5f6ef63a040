from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from edge.errors import ExportError, SourceError
from edge.files.pictures import read_picture
from export.datasets.category import LabelledPicture
from export.datasets.ground_truth import read_mask_file, read_mask_of

SIDE = 24
DRAWN = np.zeros((SIDE, SIDE), np.uint8)
DRAWN[4:9, 10:20] = 1
BLACK = np.zeros((SIDE, SIDE), np.uint8)


def with_alpha(colours: npt.NDArray[np.uint8], alpha: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.dstack([colours, colours, colours, alpha])


def save(path: Path, pixels: npt.NDArray[Any]) -> Path:
    assert cv2.imwrite(str(path), pixels)
    return path


def marked_by(*masks: Path) -> npt.NDArray[np.bool_]:
    marked = read_mask_of(LabelledPicture(masks[0].with_name("picture.png"), "dent", masks), SIDE, SIDE)
    assert marked is not None
    return marked


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("0_255.png", DRAWN * 255),
        ("0_1.png", DRAWN),
        ("third_kind_of_defect.png", DRAWN * 3),
        ("labels_of_16_bit.png", DRAWN.astype(np.uint16)),
        ("255_in_16_bit.png", DRAWN.astype(np.uint16) * 255),
        ("white_in_16_bit.tif", DRAWN.astype(np.uint16) * 65535),
        ("red.png", np.dstack([BLACK, BLACK, DRAWN * 200])),
        ("opaque.png", with_alpha(DRAWN * 255, BLACK + 255)),
        ("transparent_where_black.png", with_alpha(DRAWN * 255, DRAWN * 255)),
    ],
)
def test_what_is_not_black_is_defective_at_every_depth(tmp_path: Path, name: str, pixels: npt.NDArray[Any]) -> None:
    assert np.array_equal(marked_by(save(tmp_path / name, pixels)), DRAWN > 0)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (with_alpha(BLACK, DRAWN * 255), "its transparency says other than its colours"),
        (with_alpha(DRAWN * 255, 255 - DRAWN * 255), "its transparency says other than its colours"),
        (DRAWN * 155 + 100, "none of it is black"),
        (BLACK, "marks no pixel, but .*picture.png is said to show 'dent'"),
        (BLACK.astype(np.uint16), "marks no pixel"),
    ],
)
def test_a_mask_that_says_nothing_or_two_things_is_refused_by_name(
    tmp_path: Path, pixels: npt.NDArray[Any], message: str
) -> None:
    with pytest.raises(ExportError, match=rf"mask\.png: .*{message}"):
        marked_by(save(tmp_path / "mask.png", pixels))


def test_one_of_several_masks_may_be_black(tmp_path: Path) -> None:
    masks = save(tmp_path / "0.png", BLACK), save(tmp_path / "1.png", DRAWN * 255)
    assert np.array_equal(marked_by(*masks), DRAWN > 0)


def test_a_wholly_defective_picture_can_be_marked(tmp_path: Path) -> None:
    assert marked_by(save(tmp_path / "mask.png", BLACK + 255)).all()


def test_floating_point_values_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "mask.tif", DRAWN.astype(np.float32))
    with pytest.raises(SourceError, match=r"mask\.tif: values of type float32; expected 8 or 16 unsigned bits"):
        read_mask_file(path)


def test_a_mask_of_another_size_is_refused_with_both_sizes(tmp_path: Path) -> None:
    path = save(tmp_path / "mask.png", DRAWN[:, :-1] * 255)
    with pytest.raises(ExportError, match=r"mask\.png: mask of 23×24 pixels; expected 24×24, as .*picture\.png has"):
        marked_by(path)


def test_a_mask_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    path.write_bytes(b"not a picture")
    with pytest.raises(SourceError, match=r"mask\.png"):
        read_mask_file(path)


def test_the_rings_around_a_lossy_mask_are_not_defective(tmp_path: Path) -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 16:48] = 255
    cv2.circle(mask, (32, 32), 25, 255, -1)
    path = tmp_path / "mask.jpg"
    assert cv2.imwrite(str(path), mask, [cv2.IMWRITE_JPEG_QUALITY, 60])
    assert ((read_picture(path).max(axis=2) > 0) != (mask > 0)).any()  # the rings
    assert np.array_equal(read_mask_file(path), mask > 0)
