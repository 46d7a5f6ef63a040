"""Grey pictures for a bundle taught in colour, and the reverse (pure).

Only what is certain counts: a colour camera's noise differs between channels, so that a picture whose channels are
equal everywhere is a grey one; and a grey bundle's frames say that the camera had no colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto

import numpy as np

from edge.records import UInt8Array

_EVERY = 16  # rows and columns are looked at: 20 µs of a 1920×1080 frame
_SPREAD = 24  # levels between the channels of a pixel that is coloured for certain, noise and compression considered
_SHARE = 0.01  # of the pixels, in a picture that is coloured for certain


class Colour(Enum):
    """What a product's frames are for certain."""

    GREY = auto()
    COLOURED = auto()
    UNCERTAIN = auto()


def colour_of(pictures: Sequence[UInt8Array]) -> Colour:
    """What all of `pictures`, each (height, width, 3), have in common."""
    if all(_is_grey(picture) for picture in pictures):
        return Colour.GREY
    return Colour.COLOURED if all(_is_coloured(picture) for picture in pictures) else Colour.UNCERTAIN


def why_other_colour(taught: Colour, image: UInt8Array) -> str:
    """Why `image` (height, width, 3) is not what was `taught`; empty where it may be."""
    if taught is Colour.COLOURED and _is_grey(image):
        return "the picture is grey, but the bundle was taught in colour"
    if taught is Colour.GREY and _is_coloured(image):
        return "the picture is coloured, but the bundle was taught in grey"
    return ""


def _is_grey(image: UInt8Array) -> bool:
    return _channels_agree(image[::_EVERY, ::_EVERY]) and _channels_agree(image)


def _channels_agree(image: UInt8Array) -> bool:
    blue, green, red = image[..., 0], image[..., 1], image[..., 2]  # three times as fast as along the last axis
    return bool((blue == green).all() and (green == red).all())


def _is_coloured(image: UInt8Array) -> bool:
    blue, green, red = (image[::_EVERY, ::_EVERY, channel] for channel in range(3))
    spread = np.maximum(np.maximum(blue, green), red) - np.minimum(np.minimum(blue, green), red)
    return float((spread > _SPREAD).mean()) > _SHARE
