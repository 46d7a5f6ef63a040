from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.files.headers import Header, read_header

PICTURE = np.arange(60 * 80 * 4, dtype=np.uint32).astype(np.uint8).reshape(60, 80, 4)
FILES = {suffix: cv2.imencode(suffix, PICTURE)[1].tobytes() for suffix in (".png", ".tif")}
FILES[".ppm"] = cv2.imencode(".ppm", PICTURE[:, :, :3])[1].tobytes()


def test_size_transparency_and_largest_value_are_read_before_anything_is_decoded() -> None:
    assert read_header(FILES[".png"]) == Header(80, 60, dropped=("transparency",))
    assert read_header(FILES[".tif"]) == Header(80, 60, dropped=("transparency",))
    assert read_header(FILES[".ppm"]) == Header(80, 60, largest_value=255)


@pytest.mark.parametrize("data", [b"", b"BM", b"RIFF", b"P1 8 8\n", b"P5 8"])
def test_of_what_is_not_understood_nothing_is_known(data: bytes) -> None:
    assert read_header(data) == Header()


@given(st.sampled_from(sorted(FILES)), st.integers(0, 400), st.binary(min_size=1, max_size=8), st.booleans())
def test_no_header_makes_it_fail(suffix: str, place: int, damage: bytes, cut: bool) -> None:
    data = FILES[suffix]
    read_header(data[:place] + damage + (b"" if cut else data[place + len(damage) :]))
