"""Defects drawn onto pictures of good parts, where no real ones are to be had.

They compare settings with one another; they say nothing about real defects. Small, and of three kinds: a scratch, a
stain, and a piece of the same picture in another place and direction (as in CutPaste, Li et al., CVPR 2021).
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from edge.records import BoolArray, Box, Float32Array, UInt8Array

# Sides of a defect as shares of the region's shorter side.
_SMALLEST, _LARGEST = 0.03, 0.10
_CONTRAST = (30.0, 80.0)  # grey levels of a scratch or stain against what lies below
_ATTEMPTS = 100  # at finding a place that is inspected


def add_defect(image: UInt8Array, region: Box, ignored: BoolArray | None, rng: np.random.Generator) -> UInt8Array:
    """A copy of `image` (height, width, 3) with one defect inside `region`.

    Args:
        image: a good part.
        region: what is inspected of it, in its pixels.
        ignored: (height, width), True where nothing is judged; defects are centred elsewhere.
        rng: every random choice follows from it.
    """
    draw = _KINDS[rng.integers(len(_KINDS))]
    side = max(4, round(min(region.width, region.height) * rng.uniform(_SMALLEST, _LARGEST)))
    x, y = _place(region, ignored, side, rng)
    defective = image.copy()
    draw(defective[y : y + side, x : x + side], image, region, rng)
    return defective


def _place(region: Box, ignored: BoolArray | None, side: int, rng: np.random.Generator) -> tuple[int, int]:
    """Upper left corner of a square that lies inside the region and is centred on an inspected pixel."""
    x, y = region.x, region.y
    for _ in range(_ATTEMPTS):
        x = int(rng.integers(region.x, region.right - side + 1))
        y = int(rng.integers(region.y, region.bottom - side + 1))
        if ignored is None or not ignored[y + side // 2, x + side // 2]:
            break
    return x, y


def _draw_scratch(window: UInt8Array, image: UInt8Array, region: Box, rng: np.random.Generator) -> None:
    del image, region
    side = len(window)
    mask = np.zeros((side, side), np.uint8)
    along = np.array([0.1, 0.5, 0.9]) + rng.uniform(-0.1, 0.1, 3)
    across = rng.uniform(0.1, 0.9, 3)
    points = np.stack([along, across] if rng.integers(2) else [across, along], axis=1)
    points = (points * side).round().astype(np.int32)
    cv2.polylines(mask, [points], isClosed=False, color=255, thickness=max(1, side // 12), lineType=cv2.LINE_AA)
    _add(window, np.asarray(mask / np.float32(255), np.float32), rng)


def _draw_stain(window: UInt8Array, image: UInt8Array, region: Box, rng: np.random.Generator) -> None:
    del image, region
    side = len(window)
    mask = np.zeros((side, side), np.uint8)
    axes = (round(side * rng.uniform(0.2, 0.42)), round(side * rng.uniform(0.2, 0.42)))
    cv2.ellipse(mask, (side // 2, side // 2), axes, rng.uniform(0, 180), 0, 360, 255, -1, cv2.LINE_AA)
    soft = cv2.GaussianBlur(mask.astype(np.float32) / 255, (0, 0), max(0.5, side / 16))
    _add(window, np.asarray(soft, np.float32), rng)


def _draw_piece(window: UInt8Array, image: UInt8Array, region: Box, rng: np.random.Generator) -> None:
    side = len(window)
    x = int(rng.integers(region.x, region.right - side + 1))
    y = int(rng.integers(region.y, region.bottom - side + 1))
    piece = np.rot90(image[y : y + side, x : x + side], int(rng.integers(1, 4)))
    gain = rng.uniform(0.7, 1.3)  # a piece of the same plain background would change nothing
    window[:] = np.clip(piece * gain, 0, 255).astype(np.uint8)


def _add(window: UInt8Array, mask: Float32Array, rng: np.random.Generator) -> None:
    """Brighter where the window is dark, darker where it is bright."""
    sign = -1.0 if window.mean() > 127 else 1.0
    tint = rng.uniform(*_CONTRAST) * rng.uniform(0.7, 1.0, 3)
    window[:] = np.clip(window + sign * mask[:, :, None] * tint, 0, 255).round().astype(np.uint8)


_KINDS: tuple[Callable[[UInt8Array, UInt8Array, Box, np.random.Generator], None], ...] = (
    _draw_scratch,
    _draw_stain,
    _draw_piece,
)
