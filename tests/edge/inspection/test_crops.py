from __future__ import annotations

import hashlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.inspection.crops import cut_crops, encode_within
from edge.records import Box, Defect, UInt8Array


def noise(height: int, width: int) -> UInt8Array:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def decode(jpeg: bytes) -> UInt8Array:
    return np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), np.uint8)


def defect(box: Box) -> Defect:
    return Defect(box=box, area=box.width * box.height, peak_score=1.0)


def test_a_crop_shows_the_defect_and_its_margin() -> None:
    image = np.full((300, 400, 3), 200, np.uint8)
    image[100:180, 150:250] = (0, 0, 255)
    (crop,) = cut_crops(image, [defect(Box(150, 100, 100, 80))], limit=3, margin=0.25, max_bytes=96 * 1024)
    assert crop.box == Box(125, 75, 150, 130)
    shown = decode(crop.jpeg)
    assert shown.shape == (130, 150, 3)
    assert np.abs(shown[65, 75].astype(int) - (0, 0, 255)).max() < 20
    assert np.abs(shown[5, 5].astype(int) - 200).max() < 20
    assert crop.sha256 == hashlib.sha256(crop.jpeg).hexdigest()
    assert crop.index == 0


def test_a_tiny_defect_still_gets_surroundings() -> None:
    (crop,) = cut_crops(noise(100, 100), [defect(Box(50, 50, 1, 1))], limit=1, margin=0.0, max_bytes=96 * 1024)
    assert crop.box == Box(34, 34, 33, 33)


@given(
    x=st.integers(0, 199),
    y=st.integers(0, 99),
    width=st.integers(1, 200),
    height=st.integers(1, 100),
    margin=st.floats(0, 4),
)
def test_a_crop_contains_its_defect_and_never_leaves_the_frame(
    x: int, y: int, width: int, height: int, margin: float
) -> None:
    box = Box(x, y, min(width, 200 - x), min(height, 100 - y))
    (crop,) = cut_crops(noise(100, 200), [defect(box)], limit=1, margin=margin, max_bytes=1 << 20)
    assert 0 <= crop.box.x <= box.x < box.right <= crop.box.right <= 200
    assert 0 <= crop.box.y <= box.y < box.bottom <= crop.box.bottom <= 100
    assert decode(crop.jpeg).shape == (crop.box.height, crop.box.width, 3)


@pytest.mark.parametrize(("limit", "expected"), [(0, []), (2, [0, 1]), (9, [0, 1, 2])])
def test_only_the_first_defects_are_cut(limit: int, expected: list[int]) -> None:
    defects = [defect(Box(10 * number, 0, 5, 5)) for number in range(3)]
    crops = cut_crops(noise(100, 100), defects, limit=limit, margin=0.25, max_bytes=96 * 1024)
    assert [crop.index for crop in crops] == expected


def test_a_picture_that_fits_keeps_its_size_and_quality() -> None:
    image = np.full((200, 300, 3), 90, np.uint8)
    best = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
    assert encode_within(image, 96 * 1024) == best


@pytest.mark.parametrize("size", [(1000, 1000), (2000, 15), (31, 3000), (1, 5000), (17, 17), (1, 1)])
@pytest.mark.parametrize("max_bytes", [4096, 20_000])
def test_a_jpeg_is_never_larger_than_the_limit(size: tuple[int, int], max_bytes: int) -> None:
    jpeg = encode_within(noise(*size), max_bytes)
    assert len(jpeg) <= max_bytes
    assert decode(jpeg).size > 0


def test_quality_is_given_up_before_size() -> None:
    image = noise(100, 100)
    at_90 = len(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1])
    assert decode(encode_within(image, at_90 - 1)).shape == image.shape


def test_a_crop_far_too_large_for_the_limit_is_halved_rather_than_spoilt() -> None:
    image = np.full((800, 1200, 3), 90, np.uint8)
    half = cv2.imencode(".jpg", image[:400, :600], [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
    assert encode_within(image, 96 * 1024) == half


def test_a_limit_below_any_jpeg_ends_with_the_smallest_one() -> None:
    assert max(decode(encode_within(noise(500, 500), 10)).shape[:2]) <= 16
