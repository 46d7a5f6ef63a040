from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge.sources.newest import identical


@given(st.integers(0, 49), st.integers(0, 69), st.integers(0, 2))
def test_one_other_byte_anywhere_makes_another_picture(row: int, column: int, channel: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    other = image.copy()
    assert identical(image, other)
    other[row, column, channel] ^= 1
    assert not identical(image, other)


def test_pictures_of_other_sizes_are_not_identical() -> None:
    assert not identical(np.zeros((48, 64, 3), np.uint8), np.zeros((48, 32, 3), np.uint8))
