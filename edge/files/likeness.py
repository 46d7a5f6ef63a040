"""Whether two pictures show the same part at rest: alike but for the sensor's noise and the brightness as a whole.

A camera that runs free shows one part many times, and many pictures of one part teach, and prove, no more than one.
"""

from __future__ import annotations

import cv2
import numpy as np

from edge.records import Float32Array, UInt8Array

SIDE = 64  # cells a side: each is the mean of many pixels, so noise hardly reaches it
# Grey levels between two cells, at the 99th percentile. Noise of σ = 5 in every pixel of 450² makes 2.8; two different
# parts in the same pose differ by 16.7 and more (screws, 1024²; bottles, 450²: 28; MVTec AD, 60 pictures each).
SAME = 4.0


def thumbnail(image: UInt8Array) -> Float32Array:
    """(SIDE, SIDE, 3): what `alike` compares, of a picture (height, width, 3)."""
    cells = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    return np.asarray(cells - cells.mean(axis=(0, 1)), np.float32)


def alike(first: Float32Array, second: Float32Array) -> bool:
    """Whether two thumbnails are of the same part in the same place; a step in brightness alone is no other part."""
    return bool(np.percentile(np.abs(first - second).max(axis=2), 99) < SAME)
