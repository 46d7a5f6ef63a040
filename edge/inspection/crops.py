"""Defects → JPEG crops of the frame, each within a byte limit (pure)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import cv2
import numpy as np

from edge.records import Box, Crop, Defect, UInt8Array

_LEAST_MARGIN = 16  # pixels; a tiny defect needs its surroundings to be recognised
_QUALITIES = (90, 80, 65, 50)
_PIXELS_PER_BYTE = 4  # of a textured picture at quality 90; encoding takes 2.4 ns a pixel, for each quality tried
_SMALLEST_SIDE = 16  # of which no JPEG has 4096 bytes, the least limit that can be set


def cut_crops(
    image: UInt8Array, defects: Sequence[Defect], *, limit: int, margin: float, max_bytes: int
) -> tuple[Crop, ...]:
    """Crops of the first `limit` defects of `image` (height, width, 3) BGR."""
    crops = []
    for index, defect in enumerate(defects[:limit]):
        box = _with_margin(defect.box, margin, image.shape[0], image.shape[1])
        jpeg = encode_within(image[box.y : box.bottom, box.x : box.right], max_bytes)
        crops.append(Crop(index=index, box=box, jpeg=jpeg, sha256=hashlib.sha256(jpeg).hexdigest()))
    return tuple(crops)


def encode_within(image: UInt8Array, max_bytes: int) -> bytes:
    """`image` as a JPEG of at most `max_bytes`.

    It is halved at once while it is so large that it could fit only at the lowest qualities. Then the quality is
    lowered, then the size is halved again.
    """
    while image.shape[0] * image.shape[1] > _PIXELS_PER_BYTE * max_bytes and max(image.shape[:2]) > _SMALLEST_SIDE:
        image = _halved(image)
    while True:
        for quality in _QUALITIES:
            encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
            if len(encoded) <= max_bytes:
                return encoded
        if max(image.shape[:2]) <= _SMALLEST_SIDE:
            return encoded
        image = _halved(image)


def _halved(image: UInt8Array) -> UInt8Array:
    half = max(1, image.shape[1] // 2), max(1, image.shape[0] // 2)
    return np.asarray(cv2.resize(image, half, interpolation=cv2.INTER_AREA), np.uint8)


def _with_margin(box: Box, margin: float, height: int, width: int) -> Box:
    pixels = max(_LEAST_MARGIN, round(margin * max(box.width, box.height)))
    x, y = max(0, box.x - pixels), max(0, box.y - pixels)
    return Box(x, y, min(width, box.right + pixels) - x, min(height, box.bottom + pixels) - y)
