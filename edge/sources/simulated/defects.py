"""Defects of the simulated line, drawn onto a part before it is placed in the frame.

A drawing function changes `part` (BGR) and `alpha` in place; where it changed them is measured afterwards, so
the mask of a defect is what can be seen of it, not what was meant.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np

from edge.records import BoolArray, Float32Array, UInt8Array
from edge.sources.simulated.part import HOLES, PRINT, Point, Scene

# Grey levels: a change as small as this drowns in the noise of the picture.
_VISIBLE = 10
_SHIFT = 4  # fractional bits of OpenCV's coordinates

# Plain metal that is laid over a hole to make it missing: one centre for each of `HOLES`.
_DONORS: tuple[Point, ...] = ((105, 187), (375, 250), (105, 293), (375, 294), (262, 322), (352, 312))
# Where cracks begin, and the direction in which there is metal.
_CRACK_STARTS: tuple[tuple[Point, float], ...] = (
    ((119, 142), 0.4),
    ((361, 142), math.pi - 0.2),
    ((119, 338), -0.4),
    ((361, 338), math.pi + 0.2),
    ((162, 269), 2.36),
    ((218, 269), 0.78),
    ((303, 262), 0.2),
)


class DefectKind(StrEnum):
    """What can be wrong with a part."""

    SCRATCH = "scratch"
    DENT = "dent"
    STAIN = "stain"
    MISSING_HOLE = "missing_hole"
    CHIPPED_EDGE = "chipped_edge"
    CRACK = "crack"
    FOREIGN_PARTICLE = "foreign_particle"
    SMEARED_PRINT = "smeared_print"


@dataclass(frozen=True, slots=True, eq=False)
class Canvas:
    """A part that defects are drawn onto."""

    scene: Scene
    part: UInt8Array  # (height, width, 3) BGR, changed in place
    alpha: UInt8Array  # (height, width), changed in place


def draw_defect(canvas: Canvas, kind: DefectKind, size: float, rng: np.random.Generator) -> UInt8Array:
    """Draw one defect, `size` from 0 (subtle) to 1 (big).

    Returns:
        Mask (height, width), 255 where the part looks different now.
    """
    part_before, alpha_before = canvas.part.copy(), canvas.alpha.copy()
    _DRAW[kind](canvas, size, rng)
    blue, green, red = cv2.split(cv2.absdiff(canvas.part, part_before))
    change = cv2.max(cv2.max(blue, green), cv2.max(red, cv2.absdiff(canvas.alpha, alpha_before)))
    visible = np.where(change >= _VISIBLE, 255, 0).astype(np.uint8)
    reach = max(3, round(3 * canvas.scene.scale) | 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    return np.asarray(cv2.morphologyEx(visible, cv2.MORPH_CLOSE, kernel), np.uint8)


def _scratch(canvas: Canvas, size: float, rng: np.random.Generator) -> None:
    scale = canvas.scene.scale
    length, width = (38 + 90 * size) * scale, (1.3 + 1.3 * size) * scale
    angle, bend = rng.uniform(0.35, math.pi - 0.35), rng.uniform(-0.5, 0.5)  # never along the brushing
    points = _curve(_free_point(canvas.scene, rng), angle, bend, length)
    bright, dark = _line_mask(canvas, points, width), _line_mask(canvas, points + 1.2 * scale, width)
    _add(canvas, (54 + 26 * size) * bright - 40 * dark * (1 - bright))


def _dent(canvas: Canvas, size: float, rng: np.random.Generator) -> None:
    radius = (9 + 15 * size) * canvas.scene.scale
    x, y = _around(canvas, _free_point(canvas.scene, rng))
    stretch = rng.uniform(0.8, 1.25)
    distance = np.hypot(x * stretch, y / stretch) / radius
    lit = (x * 0.55 + y * 0.84) / radius  # the wall facing the lamp is the far one
    _add(canvas, (92 + 34 * size) * lit * np.exp(-1.6 * distance**2))


def _stain(canvas: Canvas, size: float, rng: np.random.Generator) -> None:
    radius = (8 + 24 * size) * canvas.scene.scale
    blob = _blob_mask(canvas, _free_point(canvas.scene, rng), radius, rng, softness=0.16 * radius)
    colour = np.array([(38, 62, 92), (52, 50, 48), (60, 96, 104)][rng.integers(3)], np.float32)
    _blend(canvas, colour, blob * rng.uniform(0.34, 0.6))


def _missing_hole(canvas: Canvas, size: float, rng: np.random.Generator) -> None:
    """Never drilled: plain metal where the hole should be."""
    large = size >= 0.4
    index = rng.integers(4) if large else 4 + rng.integers(2)
    (centre, radius), donor = HOLES[index], _DONORS[index]
    reach = round((radius + 5) * canvas.scene.scale)
    hole, plain = (_window(canvas, point, reach) for point in (centre, donor))
    disc = _disc(reach)
    canvas.part[hole][disc] = canvas.part[plain][disc]
    canvas.alpha[hole][disc] = 255


def _chipped_edge(canvas: Canvas, size: float, rng: np.random.Generator) -> None:
    x, y = (float(value) for value in canvas.scene.edge[rng.integers(len(canvas.scene.edge))])
    radius = (7 + 14 * size) * canvas.scene.scale
    bite = _blob_mask(canvas, (x, y), radius, rng, softness=0.5)
    rim = _blob_mask(canvas, (x, y), radius + 3 * canvas.scene.scale, rng, softness=1.0)
    _add(canvas, 44 * rim)
    canvas.part[bite > 0.5] = 0
    np.copyto(canvas.alpha, ((1 - bite) * canvas.alpha + bite * 70).astype(np.uint8), where=canvas.scene.metal)


def _crack(canvas: Canvas, size: float, rng: np.random.Generator) -> None:
    """Starts at a hole, runs away from it in a zigzag, and branches when it is big."""
    scale = canvas.scene.scale
    start, direction = _CRACK_STARTS[rng.integers(len(_CRACK_STARTS))]
    angle = direction + rng.uniform(-0.3, 0.3)
    points = _zigzag(canvas.scene.place(start), angle, (28 + 50 * size) * scale, rng)
    mask = _line_mask(canvas, points, (1.3 + 1.2 * size) * scale)
    if size > 0.5:
        branch = points[len(points) // 2]
        side = _zigzag((branch[0], branch[1]), angle + rng.choice([-0.8, 0.8]), 26 * scale, rng)
        mask = np.maximum(mask, _line_mask(canvas, side, 1.3 * scale))
    _blend(canvas, np.array([40, 38, 36], np.float32), mask * 0.85)


def _foreign_particle(canvas: Canvas, size: float, rng: np.random.Generator) -> None:
    """A chip of plastic, a turning chip or a fibre lying on the part, with its shadow."""
    scale = canvas.scene.scale
    place = _free_point(canvas.scene, rng)
    below = (place[0] + 2 * scale, place[1] + 2.6 * scale)
    shape = rng.integers(3)
    colour = np.array([(178, 92, 34), (226, 228, 230), (28, 28, 30)][shape], np.float32)
    if shape == 2:
        points = _curve(place, rng.uniform(0, math.pi), rng.uniform(-2.6, 2.6), (30 + 60 * size) * scale)
        body = _line_mask(canvas, points, (1.3 + 0.9 * size) * scale)
        shade = _line_mask(canvas, points + 2 * scale, (1.6 + 0.9 * size) * scale)
    else:
        radius, state = (4.5 + 10 * size) * scale, rng.integers(2**32)
        body = _blob_mask(canvas, place, radius, np.random.default_rng(state), softness=0.5)
        shade = _blob_mask(canvas, below, radius, np.random.default_rng(state), softness=1.6 * scale)
    _blend(canvas, np.array([44, 44, 44], np.float32), shade * 0.55)
    _blend(canvas, colour, body)


def _smeared_print(canvas: Canvas, size: float, rng: np.random.Generator) -> None:
    """Ink dragged sideways over a part of the mark."""
    left, top, right, bottom = PRINT
    reach = (0.38 + 0.62 * size) * (right - left)
    start = left + rng.uniform(0, right - left - reach)
    x0, y0 = (round(value) for value in canvas.scene.place((start, top - 2)))
    x1, y1 = (round(value) for value in canvas.scene.place((start + reach, bottom + 2)))
    drag = max(3, round((9 + 16 * size) * canvas.scene.scale))
    patch = canvas.part[y0:y1, x0 : x1 + drag]
    kernel = np.zeros((1, 2 * drag + 1), np.float32)
    kernel[0, : drag + 1] = 1 / (drag + 1)
    smeared = cv2.filter2D(patch, -1, kernel, borderType=cv2.BORDER_REPLICATE)
    patch[:] = np.minimum(smeared, cv2.addWeighted(patch, 0.35, smeared, 0.65, 0))


_DRAW: dict[DefectKind, Callable[[Canvas, float, np.random.Generator], None]] = {
    DefectKind.SCRATCH: _scratch,
    DefectKind.DENT: _dent,
    DefectKind.STAIN: _stain,
    DefectKind.MISSING_HOLE: _missing_hole,
    DefectKind.CHIPPED_EDGE: _chipped_edge,
    DefectKind.CRACK: _crack,
    DefectKind.FOREIGN_PARTICLE: _foreign_particle,
    DefectKind.SMEARED_PRINT: _smeared_print,
}


def _free_point(scene: Scene, rng: np.random.Generator) -> Point:
    x, y = scene.free[rng.integers(len(scene.free))]
    return float(x), float(y)


def _curve(middle: Point, angle: float, bend: float, length: float) -> Float32Array:
    """Points (24, 2) of a curve of `length` through `middle` that turns by `bend` radians."""
    steps = np.linspace(-0.5, 0.5, 24)
    angles = angle + bend * steps
    path = np.cumsum(np.stack([np.cos(angles), np.sin(angles)], axis=1) * (length / 24), axis=0)
    return np.asarray(path - path[12] + middle, np.float32)


def _zigzag(start: Point, angle: float, length: float, rng: np.random.Generator) -> Float32Array:
    """Points (9, 2) of a jagged line of about `length`."""
    angles = angle + rng.uniform(-0.75, 0.75, 8)
    steps = np.stack([np.cos(angles), np.sin(angles)], axis=1) * (length / 8)
    return np.concatenate([[start], start + np.cumsum(steps, axis=0)]).astype(np.float32)


def _line_mask(canvas: Canvas, points: Float32Array, width: float) -> Float32Array:
    """Coverage 0 … 1, (height, width), of a line."""
    mask = np.zeros(canvas.alpha.shape, np.uint8)
    fixed = np.rint(points * 2**_SHIFT).astype(np.int32)
    cv2.polylines(mask, [fixed], False, 255, max(1, round(width)), cv2.LINE_AA, _SHIFT)
    # Thinner than a pixel is drawn fainter.
    return np.asarray(mask * np.float32(min(1.0, max(0.5, width)) / 255), np.float32)


def _blob_mask(
    canvas: Canvas, centre: Point, radius: float, rng: np.random.Generator, *, softness: float
) -> Float32Array:
    """Coverage 0 … 1, (height, width), of an irregular round shape with a blurred edge."""
    angles = np.linspace(0, 2 * math.pi, 40, endpoint=False)
    waves = sum(rng.uniform(0, 0.17) * np.cos(k * angles + rng.uniform(0, 6.3)) for k in (2, 3, 5))
    radii = radius * (1 + waves)
    points = np.stack([centre[0] + radii * np.cos(angles), centre[1] + radii * np.sin(angles)], axis=1)
    mask = np.zeros(canvas.alpha.shape, np.uint8)
    cv2.fillPoly(mask, [np.rint(points * 2**_SHIFT).astype(np.int32)], 255, cv2.LINE_AA, _SHIFT)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), max(0.4, softness)) / np.float32(255), np.float32)


def _window(canvas: Canvas, centre: Point, reach: int) -> tuple[slice, slice]:
    x, y = (round(value) for value in canvas.scene.place(centre))
    return slice(y - reach, y + reach + 1), slice(x - reach, x + reach + 1)


def _disc(radius: int) -> BoolArray:
    """(2 · radius + 1, same): True inside the circle."""
    steps = np.arange(-radius, radius + 1)
    return np.asarray(np.hypot(steps[:, None], steps[None, :]) <= radius)


def _around(canvas: Canvas, centre: Point) -> tuple[Float32Array, Float32Array]:
    """Every pixel's x (1, width) and y (height, 1), measured from `centre`."""
    height, width = canvas.alpha.shape
    x = np.arange(width, dtype=np.float32)[None, :] - np.float32(centre[0])
    y = np.arange(height, dtype=np.float32)[:, None] - np.float32(centre[1])
    return x, y


def _add(canvas: Canvas, levels: Float32Array) -> None:
    """Make the metal brighter or darker by `levels`, (height, width)."""
    levels = np.where(canvas.scene.metal, levels, np.float32(0))
    window = _touched(np.abs(levels) >= 0.5)
    changed = np.clip(canvas.part[window] + levels[window][..., None], 0, 255)
    canvas.part[window] = changed.astype(np.uint8)


def _blend(canvas: Canvas, colour: Float32Array, coverage: Float32Array) -> None:
    """Cover the metal with `colour`, (3,) BGR, where `coverage`, (height, width) of 0 … 1, says so."""
    coverage = np.where(canvas.scene.metal, coverage, np.float32(0))
    window = _touched(coverage > 0)
    weight = coverage[window][..., None]
    canvas.part[window] = (canvas.part[window] * (1 - weight) + colour * weight).astype(np.uint8)


def _touched(where: BoolArray) -> tuple[slice, slice]:
    """The rows and columns that hold all True."""
    x, y, width, height = cv2.boundingRect(where.astype(np.uint8))
    return slice(y, y + height), slice(x, x + width)
