from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import SourceError
from edge.files.jpeg import decode_jpeg
from edge.records import UInt8Array

MANY = 10**6


def textured(height: int = 60, width: int = 83) -> UInt8Array:
    coarse = np.random.default_rng(0).integers(0, 256, (height // 4, width // 4, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height)), np.uint8)


def encoded(image: UInt8Array, *options: int) -> bytes:
    return cv2.imencode(".jpg", image, options)[1].tobytes()


JPEG = encoded(textured(240, 320))
SCAN = JPEG.rindex(b"\xff\xda")


@pytest.mark.parametrize(
    "jpeg",
    [
        encoded(textured()),
        encoded(textured()[:, :, 0]),
        encoded(textured(), cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
        encoded(textured(), cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422),
        encoded(textured(), cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        encoded(textured(), cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
    ],
    ids=["4:2:0", "grey", "4:4:4", "4:2:2", "progressive", "restart markers"],
)
def test_pictures_are_those_of_opencv_to_the_bit(jpeg: bytes) -> None:
    expected = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(decode_jpeg(memoryview(jpeg), MANY), expected)


@given(st.integers(0, len(JPEG) - 1))
def test_a_jpeg_that_is_cut_anywhere_is_refused_with_or_without_an_end_put_to_it(length: int) -> None:
    for cut in (JPEG[:length], JPEG[: min(length, len(JPEG) - 2)] + b"\xff\xd9"):
        if cut != JPEG:
            with pytest.raises(SourceError, match="JPEG"):
                decode_jpeg(cut, MANY)


@given(st.integers(SCAN + 20, len(JPEG) * 3 // 4), st.sampled_from(["missing", "zeroed"]))
def test_a_jpeg_of_which_a_quarter_is_missing_or_zeroed_is_refused(place: int, kind: str) -> None:
    rest = JPEG[place + len(JPEG) // 4 :]
    filling = b"" if kind == "missing" else bytes(len(JPEG) - place - len(rest))
    with pytest.raises(SourceError, match="JPEG"):
        decode_jpeg(JPEG[:place] + filling + rest, MANY)


@given(st.binary(max_size=200))
def test_other_bytes_are_no_jpeg(data: bytes) -> None:
    for bytes_ in (data, b"\xff\xd8" + data):
        with pytest.raises(SourceError, match="not a JPEG"):
            decode_jpeg(bytes_, MANY)
