"""The product of the simulated line as its drawing says it: a machined plate, and the textures around it.

Everything here depends on the frame size alone, is drawn once and then only read. Coordinates are units of
the drawing: `CENTRE` lies in the middle of the frame, and the frame's shorter side has `SHORTER_SIDE` of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from edge.records import BoolArray, Float32Array, Int64Array, UInt8Array

SHORTER_SIDE = 420.0
CENTRE = (240.0, 240.0)
# Textures are larger than the frame by this, so that every part sees another piece of them.
SLACK = 96

Point = tuple[float, float]

PLATE = (70.0, 105.0, 410.0, 375.0)  # left, top, right, bottom
PLATE_CORNER = 26.0
BORE: tuple[Point, float] = ((190.0, 240.0), 40.0)
BOSS_RADIUS = 66.0
HOLES: tuple[tuple[Point, float], ...] = (
    ((105.0, 140.0), 14.0),
    ((375.0, 140.0), 14.0),
    ((105.0, 340.0), 14.0),
    ((375.0, 340.0), 14.0),
    ((300.0, 318.0), 8.0),
    ((328.0, 318.0), 8.0),
)
SLOT = ((292.0, 232.0), (292.0, 278.0), 11.0)  # two centres, radius
PRINT = (276.0, 158.0, 372.0, 214.0)  # left, top, right, bottom of the printed mark

_METAL = 158.0
_INK = 52.0
_BEVEL = 4.5
_LIGHT = (-0.55, -0.84)  # towards the lamp: upper left
_SMOOTH_LIMIT = 2048  # pixels: up to here the drawing is made larger and reduced, against jagged edges


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What is drawn once for a frame size. All arrays are read-only."""

    scale: float  # pixels per unit of the drawing
    origin: Point  # where the drawing's (0, 0) is, in pixels
    part: UInt8Array  # (height, width, 3) BGR, black outside the metal
    alpha: UInt8Array  # (height, width): 255 metal, 0 belt, between them the shadow
    metal: BoolArray  # (height, width)
    free: Int64Array  # (n, 2): x, y of plain metal, away from edges, holes and print
    edge: Int64Array  # (n, 2): x, y on the plate's outline, without the rounded corners
    brushing: UInt8Array  # (height + SLACK, width + SLACK, 3), 128 is neutral
    belt: UInt8Array  # (height + SLACK, width + SLACK, 3) BGR
    noise: UInt8Array  # (height + SLACK, width + SLACK, 3), 128 is neutral

    def place(self, point: Point) -> Point:
        """A point of the drawing, in pixels."""
        return (self.origin[0] + point[0] * self.scale, self.origin[1] + point[1] * self.scale)


@lru_cache(maxsize=2)
def make_scene(height: int, width: int) -> Scene:
    """Draw the scene for frames of this size."""
    scale = min(height, width) / SHORTER_SIDE
    origin = (width / 2 - CENTRE[0] * scale, height / 2 - CENTRE[1] * scale)
    pen = _Pen(height, width, scale, origin)
    part, metal = _draw_plate(pen)
    # Textures belong to the product and the camera, not to one line: their seed never changes.
    rng = np.random.default_rng(20_220_618)
    tile = (height + SLACK, width + SLACK)
    arrays = {
        "part": part,
        "alpha": _alpha(metal, scale),
        "metal": metal > 127,
        "free": _free_points(pen, metal),
        "edge": _edge_points(pen),
        "brushing": _brushing(rng, tile, scale),
        "belt": _belt(rng, tile, scale),
        "noise": _tile(128 + 2.2 * _white(rng, (*tile, 3))),
    }
    for array in arrays.values():
        array.flags.writeable = False
    return Scene(scale=scale, origin=origin, **arrays)  # type: ignore[arg-type]  # one dict, several dtypes


class _Pen:
    """Draws shapes given in the drawing's coordinates onto masks larger than the frame."""

    def __init__(self, height: int, width: int, scale: float, origin: Point) -> None:
        self.height, self.width = height, width
        self.over = max(1, min(4, _SMOOTH_LIMIT // max(height, width)))
        self._scale, self._origin = scale * self.over, (origin[0] * self.over, origin[1] * self.over)

    def blank(self) -> UInt8Array:
        return np.zeros((self.height * self.over, self.width * self.over), np.uint8)

    def reduce(self, mask: UInt8Array) -> UInt8Array:
        return np.asarray(cv2.resize(mask, (self.width, self.height), interpolation=cv2.INTER_AREA), np.uint8)

    def at(self, point: Point) -> tuple[int, int]:
        return (
            round(self._origin[0] + point[0] * self._scale),
            round(self._origin[1] + point[1] * self._scale),
        )

    def length(self, units: float) -> int:
        return max(1, round(units * self._scale))

    def disc(self, mask: UInt8Array, centre: Point, radius: float, value: int = 255) -> None:
        cv2.circle(mask, self.at(centre), self.length(radius), value, -1, cv2.LINE_AA)

    def line(self, mask: UInt8Array, start: Point, end: Point, width: float, value: int = 255) -> None:
        cv2.line(mask, self.at(start), self.at(end), value, self.length(width), cv2.LINE_AA)

    def box(self, mask: UInt8Array, box: tuple[float, float, float, float], value: int = 255) -> None:
        cv2.rectangle(mask, self.at(box[:2]), self.at(box[2:]), value, -1)

    def text(self, mask: UInt8Array, text: str, corner: Point, size: float, width: float) -> None:
        font = cv2.FONT_HERSHEY_DUPLEX
        cv2.putText(mask, text, self.at(corner), font, size * self._scale, 255, self.length(width), cv2.LINE_AA)


def _draw_plate(pen: _Pen) -> tuple[UInt8Array, UInt8Array]:
    """The plate without texture, and its mask (0 … 255)."""
    outline = _outline(pen)
    solid = outline.copy()
    for centre, radius in (BORE, *HOLES):
        pen.disc(solid, centre, radius, 0)
    pen.line(solid, SLOT[0], SLOT[1], 2 * SLOT[2], 0)
    boss = pen.blank()
    pen.disc(boss, BORE[0], BOSS_RADIUS)

    metal = pen.reduce(solid)
    shade = _METAL + _slope(pen) + _relief(metal, pen, 42) + _relief(pen.reduce(boss), pen, 26)
    shade += _turned_rings(pen, pen.reduce(boss)) - _grooves(pen)
    ink = pen.reduce(_print(pen)).astype(np.float32) / 255
    shade = shade * (1 - ink) + _INK * ink
    tint = np.array([1.02, 1.0, 0.975], np.float32)  # steel is a little blue
    part = np.clip(shade[..., None] * tint, 0, 255) * (metal[..., None] > 0)
    return part.astype(np.uint8), metal


def _outline(pen: _Pen) -> UInt8Array:
    mask = pen.blank()
    left, top, right, bottom = PLATE
    pen.box(mask, (left + PLATE_CORNER, top, right - PLATE_CORNER, bottom))
    pen.box(mask, (left, top + PLATE_CORNER, right, bottom - PLATE_CORNER))
    for x in (left + PLATE_CORNER, right - PLATE_CORNER):
        for y in (top + PLATE_CORNER, bottom - PLATE_CORNER):
            pen.disc(mask, (x, y), PLATE_CORNER)
    return mask


def _relief(mask: UInt8Array, pen: _Pen, strength: float) -> Float32Array:
    """Light on the bevels: bright where the edge of `mask` faces the lamp, dark where it turns away."""
    sigma = _BEVEL / 2 * pen.length(1) / pen.over
    soft = cv2.GaussianBlur(mask.astype(np.float32) / 255, (0, 0), max(0.6, sigma))
    outward_x = -cv2.Sobel(soft, cv2.CV_32F, 1, 0, ksize=3)
    outward_y = -cv2.Sobel(soft, cv2.CV_32F, 0, 1, ksize=3)
    facing = outward_x * _LIGHT[0] + outward_y * _LIGHT[1]
    return np.asarray(facing * (strength * max(0.6, sigma)), np.float32)


def _slope(pen: _Pen) -> Float32Array:
    rows = np.linspace(9, -9, pen.height, dtype=np.float32)[:, None]
    columns = np.linspace(6, -6, pen.width, dtype=np.float32)[None, :]
    return rows + columns


def _turned_rings(pen: _Pen, boss: UInt8Array) -> Float32Array:
    """The lathe's marks on the boss."""
    centre_x, centre_y = (value / pen.over for value in pen.at(BORE[0]))
    y, x = np.mgrid[: pen.height, : pen.width].astype(np.float32)
    unit = pen.length(100) / pen.over / 100
    radius = np.hypot(x - centre_x, y - centre_y) / unit
    angle = np.arctan2(y - centre_y, x - centre_x)
    rings = 4 * np.sin(radius * 1.9) + 9 * np.cos(2 * (angle - 0.6))
    return np.asarray(rings * (boss / 255), np.float32)


def _grooves(pen: _Pen) -> Float32Array:
    mask = pen.blank()
    pen.line(mask, (134, 128), (346, 128), 2.5)
    pen.line(mask, (134, 352), (346, 352), 2.5)
    return pen.reduce(mask).astype(np.float32) * (58 / 255)


def _print(pen: _Pen) -> UInt8Array:
    mask = pen.blank()
    left, top, right, bottom = PRINT
    pen.text(mask, "PL-07", (left, top + 22), 0.86, 2.2)
    pen.text(mask, "8.8 STEEL", (left, top + 40), 0.42, 1.3)
    for number, bit in enumerate("1011010011101101"):  # a bar code of the part's type
        if bit == "1":
            x = left + 1 + number * 5.8
            pen.box(mask, (x, top + 46, min(x + 4.2, right), bottom))
    return mask


def _alpha(metal: UInt8Array, scale: float) -> UInt8Array:
    shift = np.array([[1, 0, 5 * scale], [0, 1, 7 * scale]], np.float32)
    height, width = metal.shape
    shadow = cv2.GaussianBlur(cv2.warpAffine(metal, shift, (width, height)), (0, 0), max(0.6, 5 * scale))
    return np.maximum(metal, (shadow * 0.55).astype(np.uint8))


def _free_points(pen: _Pen, metal: UInt8Array) -> Int64Array:
    plain = pen.blank()
    left, top, right, bottom = PRINT
    pen.box(plain, (left - 4, top - 4, right + 4, bottom + 4))
    blocked = (pen.reduce(plain) > 0) | (metal < 255)
    distance = cv2.distanceTransform((~blocked).astype(np.uint8), cv2.DIST_L2, 5)
    margin = 10 * pen.length(100) / pen.over / 100
    rows, columns = np.nonzero(distance > margin)
    return np.stack([columns, rows], axis=1).astype(np.int64)


def _edge_points(pen: _Pen) -> Int64Array:
    left, top, right, bottom = PLATE
    inset = PLATE_CORNER + 14
    xs, ys = np.arange(left + inset, right - inset), np.arange(top + inset, bottom - inset)
    points = [(x, y) for x in xs for y in (top, bottom)] + [(x, y) for y in ys for x in (left, right)]
    return np.array([pen.at(point) for point in points], np.int64) // pen.over


def _brushing(rng: np.random.Generator, tile: tuple[int, int], scale: float) -> UInt8Array:
    """Brushed metal: noise drawn out along the rows."""
    long = _unit(cv2.blur(_white(rng, tile), (max(3, round(70 * scale)), 1)))
    short = _unit(cv2.blur(_white(rng, tile), (max(3, round(16 * scale)), 1)))
    # Slow changes are drawn small and enlarged: a blur this wide would take a minute on large frames.
    coarse = _white(rng, (max(4, round(tile[0] / scale / 8)), max(4, round(tile[1] / scale / 8))))
    cloud = _unit(cv2.resize(cv2.GaussianBlur(coarse, (0, 0), 2.7), tile[::-1], interpolation=cv2.INTER_CUBIC))
    return _tile((128 + 3.2 * long + 2.2 * short + 1.8 * cloud)[..., None].repeat(3, axis=2))


def _belt(rng: np.random.Generator, tile: tuple[int, int], scale: float) -> UInt8Array:
    """A matte rubber belt: fine grain and a faint weave."""
    across, down = (np.sin(np.arange(length, dtype=np.float32) * (0.9 / scale)) for length in reversed(tile))
    weave = down[:, None] * across[None, :]
    grain = _unit(cv2.GaussianBlur(_white(rng, tile), (0, 0), max(0.6, 1.1 * scale)))
    grey = 46 + 2.0 * weave + 3.0 * grain
    return _tile(grey[..., None] * np.array([0.98, 1.04, 0.94], np.float32))


def _white(rng: np.random.Generator, shape: tuple[int, ...]) -> Float32Array:
    return rng.standard_normal(shape, dtype=np.float32)


def _unit(values: cv2.typing.MatLike) -> Float32Array:
    """Scaled to standard deviation 1."""
    return np.asarray(values / max(float(np.std(values)), 1e-9), np.float32)


def _tile(values: Float32Array) -> UInt8Array:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
