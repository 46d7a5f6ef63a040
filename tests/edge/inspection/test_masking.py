from __future__ import annotations

import numpy as np
import pytest

from edge.errors import SettingsError
from edge.inspection.masking import describe_mask, mask_patches, outside_patches
from edge.records import Box, UInt8Array

FRAME = (80, 160)  # height, width
GRID = (4, 8)  # a patch is 20×20 pixels of the whole frame
WHOLE = Box(0, 0, 160, 80)


def mask_of(*boxes: Box) -> UInt8Array:
    mask = np.zeros(FRAME, np.uint8)
    for box in boxes:
        mask[box.y : box.bottom, box.x : box.right] = 255
    return mask


def test_patches_that_white_mostly_covers_are_left_out() -> None:
    ignored = mask_patches(mask_of(Box(0, 0, 40, 31)), *FRAME, WHOLE, GRID)
    np.testing.assert_array_equal(np.flatnonzero(ignored), [0, 1, 8, 9])


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((10, 20), np.uint8), "expected a picture of the frame's size, 160×80, got 20×10"),
        (np.full(FRAME, 255, np.uint8), "covers the whole inspected region"),
        (mask_of(), "leaves out none of 32 patches"),
        (mask_of(Box(30, 30, 9, 9)), "covers half of a patch, which is 20×20 pixels of the frame"),
    ],
    ids=["size", "white", "black", "tiny"],
)
def test_a_mask_that_leaves_out_all_or_nothing_is_refused(mask: UInt8Array, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        mask_patches(mask, *FRAME, WHOLE, GRID)


def test_white_that_lies_wholly_outside_the_region_does_no_harm_and_is_said() -> None:
    region, mask = Box(80, 0, 80, 80), mask_of(Box(0, 0, 60, 80))
    ignored = mask_patches(mask, *FRAME, region, GRID)
    assert not ignored.any()
    assert describe_mask(mask, region, GRID, ignored).endswith("its white lies outside the inspected region")


@pytest.mark.parametrize(
    ("boxes", "text"),
    [
        ([Box(0, 0, 40, 40)], "the mask leaves out 4 of 32 patches"),
        (
            [Box(0, 0, 120, 80)],
            "the mask leaves out 24 of 32 patches, more than half: white is what is not judged",
        ),
        (
            [Box(0, 0, 40, 40), Box(90, 50, 6, 6), Box(130, 50, 6, 6)],
            "the mask leaves out 4 of 32 patches; 2 of its 3 white areas are too small: a patch is 20×20 pixels",
        ),
    ],
    ids=["plain", "inverted", "with specks"],
)
def test_what_a_mask_leaves_out_is_said_and_what_of_it_has_no_effect(boxes: list[Box], text: str) -> None:
    mask = mask_of(*boxes)
    assert describe_mask(mask, WHOLE, GRID, mask_patches(mask, *FRAME, WHOLE, GRID)) == text


def test_patches_mostly_outside_a_part_are_left_out() -> None:
    outside = outside_patches(Box(40, 0, 80, 80), *FRAME, WHOLE, GRID)
    np.testing.assert_array_equal(outside.reshape(GRID)[0], [True, True, *[False] * 4, True, True])
