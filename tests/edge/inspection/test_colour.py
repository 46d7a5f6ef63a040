from __future__ import annotations

import numpy as np
import pytest

from edge.inspection.colour import Colour, colour_of, why_other_colour
from edge.records import UInt8Array


def grey(seed: int = 0) -> UInt8Array:
    shade = np.random.default_rng(seed).integers(0, 256, (96, 128, 1), np.uint8)
    return np.repeat(shade, 3, axis=2)


def coloured() -> UInt8Array:
    picture = grey()
    picture[:, 64:, 0] //= 4
    return picture


def nearly_grey() -> UInt8Array:
    """As a colour camera shows metal, or a decoder a grey picture."""
    return np.asarray(np.clip(grey().astype(np.int16) + np.array([-2, 0, 3]), 0, 255), np.uint8)


@pytest.mark.parametrize(
    ("pictures", "colour"),
    [
        ([grey(0), grey(1)], Colour.GREY),
        ([coloured(), coloured()], Colour.COLOURED),
        ([coloured(), grey()], Colour.UNCERTAIN),
        ([nearly_grey()], Colour.UNCERTAIN),
    ],
)
def test_only_what_holds_of_every_picture_is_certain(pictures: list[UInt8Array], colour: Colour) -> None:
    assert colour_of(pictures) is colour


@pytest.mark.parametrize(
    ("taught", "image", "refused"),
    [
        (Colour.COLOURED, grey(), "the picture is grey, but the bundle was taught in colour"),
        (Colour.GREY, coloured(), "the picture is coloured, but the bundle was taught in grey"),
        (Colour.COLOURED, coloured(), ""),
        (Colour.COLOURED, nearly_grey(), ""),
        (Colour.GREY, grey(), ""),
        (Colour.GREY, nearly_grey(), ""),
        (Colour.UNCERTAIN, grey(), ""),
        (Colour.UNCERTAIN, coloured(), ""),
    ],
)
def test_a_picture_is_refused_where_its_colour_is_certainly_another(
    taught: Colour, image: UInt8Array, refused: str
) -> None:
    assert why_other_colour(taught, image) == refused


def test_one_coloured_pixel_makes_no_grey_picture() -> None:
    picture = grey()
    picture[17, 23] = (0, 0, 255)
    assert why_other_colour(Colour.COLOURED, picture) == ""
