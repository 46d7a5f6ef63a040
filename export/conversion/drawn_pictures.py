"""Seeded drawn pictures for comparing networks where the user gave none: textures, gradients and shapes.

Plain noise would not do: averaged over a receptive field it is grey, and deep features stay near zero.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from edge.records import UInt8Array

TEXTURE_CELLS = (3, 7, 17, 41)  # coarse to fine: cells of noise along the shorter side
SHAPES = 24


def draw_pictures(count: int, height: int, width: int, seed: int = 0) -> list[UInt8Array]:
    """`count` pictures (height, width, 3) BGR; the k-th is a pure function of size, seed and k."""
    return [_draw(height, width, np.random.default_rng([seed, index])) for index in range(count)]


def _draw(height: int, width: int, random: np.random.Generator) -> UInt8Array:
    picture = _texture(height, width, random)
    shapes: tuple[Callable[..., object], ...] = (_circle, _rectangle, _line)
    for _ in range(SHAPES):
        colour = tuple(int(value) for value in random.integers(0, 256, 3))
        centre = (int(random.integers(0, width)), int(random.integers(0, height)))
        size = int(random.integers(2, max(4, min(height, width) // 4)))
        shapes[int(random.integers(len(shapes)))](picture, centre, size, colour)
    return picture


def _texture(height: int, width: int, random: np.random.Generator) -> UInt8Array:
    """Noise of several cell sizes, summed and stretched to the whole range of u8."""
    total = np.zeros((height, width, 3), np.float32)
    for cells in TEXTURE_CELLS:
        noise = random.random((cells, cells, 3), np.float32)
        total += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC) / len(TEXTURE_CELLS)
    return cv2.normalize(total, total, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def _circle(picture: UInt8Array, centre: tuple[int, int], size: int, colour: tuple[int, ...]) -> None:
    cv2.circle(picture, centre, size, colour, thickness=-1, lineType=cv2.LINE_AA)


def _rectangle(picture: UInt8Array, centre: tuple[int, int], size: int, colour: tuple[int, ...]) -> None:
    corner = (centre[0] + size, centre[1] + 2 * size)
    cv2.rectangle(picture, centre, corner, colour, thickness=-1)


def _line(picture: UInt8Array, centre: tuple[int, int], size: int, colour: tuple[int, ...]) -> None:
    end = (centre[0] + 3 * size, centre[1] - 2 * size)
    cv2.line(picture, centre, end, colour, thickness=1 + size // 8, lineType=cv2.LINE_AA)
