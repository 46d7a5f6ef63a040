from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge.records import Box, UInt8Array
from export.teaching.synthetic_defects import add_defect


def textured(seed: int = 0) -> UInt8Array:
    return np.random.default_rng(seed).integers(40, 200, (200, 240, 3), np.uint8)


@given(st.integers(0, 10**6))
def test_a_defect_is_small_visible_and_inside_the_region(seed: int) -> None:
    image, region = textured(), Box(30, 20, 150, 120)
    defective = add_defect(image, region, None, np.random.default_rng(seed))
    changed = (defective != image).any(axis=2)
    assert defective.shape == image.shape
    assert defective.dtype == np.uint8
    assert 0 < changed.sum() <= 0.02 * region.width * region.height
    inside = np.zeros_like(changed)
    inside[region.y : region.bottom, region.x : region.right] = True
    assert not (changed & ~inside).any()


def test_the_picture_itself_is_not_changed() -> None:
    image = textured()
    before = image.copy()
    add_defect(image, Box(0, 0, 240, 200), None, np.random.default_rng(1))
    assert (image == before).all()


def test_the_same_seed_draws_the_same_defect() -> None:
    first, second = (add_defect(textured(), Box(0, 0, 240, 200), None, np.random.default_rng(7)) for _ in range(2))
    assert (first == second).all()


def test_defects_are_centred_where_parts_are_judged() -> None:
    ignored = np.ones((200, 240), np.bool_)
    ignored[60:140, 80:160] = False
    for seed in range(50):
        image = textured(seed)
        changed = (add_defect(image, Box(0, 0, 240, 200), ignored, np.random.default_rng(seed)) != image).any(axis=2)
        rows, columns = np.nonzero(changed)
        assert 50 <= rows.mean() <= 150
        assert 70 <= columns.mean() <= 170


def test_tiny_regions_can_have_a_defect() -> None:
    image = textured()
    for seed in range(20):
        assert add_defect(image, Box(5, 5, 32, 32), None, np.random.default_rng(seed)).shape == image.shape
