"""A seeded line that draws machined plates, good ones and defective ones, with the truth about each.

A part is a pure function of the line's seed and its own number: whoever reads `sim-7-42` in a verdict can
draw that part again, or ask `truth` what was wrong with it. All seeds make the same product, so that a
bundle taught on one line inspects another.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from itertools import count

import cv2
import numpy as np

from edge.records import Box, Float32Array, UInt8Array
from edge.settings.source import SimulatedSettings
from edge.sources.base import Shot
from edge.sources.pace import PacedSource, Picture
from edge.sources.simulated.defects import Canvas, DefectKind, draw_defect
from edge.sources.simulated.part import SLACK, Scene, make_scene

# The pose a mechanical stop leaves, and what a lamp and a lens do over a shift.
SHIFT = 3.5  # units of the drawing, each way: 4 pixels of 480
TURN_DEG = 4.0
GAIN = 0.07
GRADIENT = 0.06
SECOND_DEFECT = 0.2  # share of defective parts with two

_KINDS = tuple(DefectKind)
_NEUTRAL = 128  # of textures and light


@dataclass(frozen=True, slots=True)
class SimulatedDefect:
    """What is wrong, and where."""

    kind: DefectKind
    box: Box  # of what is visible of it, in the frame's pixels


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedPart:
    """A picture and the truth about it."""

    image: UInt8Array  # (height, width, 3) BGR
    defects: tuple[SimulatedDefect, ...]  # none: a good part
    mask: UInt8Array  # (height, width): 255 where a defect is visible, else 0


def part_id(seed: int, number: int) -> str:
    """The name of a part, from which `truth` can be asked."""
    return f"sim-{seed}-{number}"


def truth(seed: int, number: int, defect_rate: float) -> tuple[DefectKind, ...]:
    """What is wrong with the part; empty for a good one. Draws nothing."""
    rng = np.random.default_rng([seed, number])
    if rng.random() >= defect_rate:
        return ()
    how_many = 2 if rng.random() < SECOND_DEFECT else 1
    return tuple(_KINDS[index] for index in rng.choice(len(_KINDS), how_many, replace=False))


def draw_part(seed: int, number: int, size: tuple[int, int], defect_rate: float) -> SimulatedPart:
    """The part with this number, in a frame of `size` (height, width)."""
    scene = make_scene(*size)
    rng = np.random.default_rng([seed, number, 1])  # not the stream of `truth`
    turn = _pose(scene, rng)
    part, alpha = _texture(scene, rng), scene.alpha
    light, noise, belt = _light(scene, rng), _piece(scene.noise, scene, rng), _piece(scene.belt, scene, rng)
    masks: list[tuple[DefectKind, UInt8Array]] = []
    kinds = truth(seed, number, defect_rate)
    if kinds:
        canvas = Canvas(scene=scene, part=part, alpha=alpha.copy())
        masks = [(kind, draw_defect(canvas, kind, rng.random(), rng)) for kind in kinds]
        alpha = canvas.alpha
    image = _expose(_compose(part, alpha, belt, turn), light, noise)
    placed = [(kind, _place(mask, turn, cv2.INTER_NEAREST)) for kind, mask in masks]
    return SimulatedPart(
        image=image,
        defects=tuple(SimulatedDefect(kind, _bounds(mask)) for kind, mask in placed),
        mask=_union([mask for _, mask in placed], size),
    )


def open_simulated(settings: SimulatedSettings) -> PacedSource:
    """Parts 0, 1, 2, … of the line `settings.seed`, for ever or `settings.frames` of them."""
    return PacedSource(_pictures(settings), fps=settings.fps, frames=settings.frames)


def _pictures(settings: SimulatedSettings) -> Generator[Picture]:
    size = settings.simulated_height, settings.simulated_width
    for number in count():
        name = part_id(settings.seed, number)
        part = draw_part(settings.seed, number, size, settings.defect_rate)
        yield Picture(Shot(part.image), name=name, part_id=name, simulated=True)


def _pose(scene: Scene, rng: np.random.Generator) -> Float32Array:
    """Turn and shift, (2, 3), as OpenCV's warpAffine takes them."""
    height, width = scene.alpha.shape
    middle = (width / 2, height / 2)
    turn = np.array(cv2.getRotationMatrix2D(middle, rng.uniform(-TURN_DEG, TURN_DEG), 1.0), np.float32)
    turn[:, 2] += (rng.uniform(-SHIFT, SHIFT, 2) * scene.scale).astype(np.float32)
    return turn


def _piece(tile: UInt8Array, scene: Scene, rng: np.random.Generator) -> UInt8Array:
    """A frame-sized view of a texture, at a random place."""
    height, width = scene.alpha.shape
    top, left = rng.integers(0, SLACK, 2)
    return tile[top : top + height, left : left + width]


def _texture(scene: Scene, rng: np.random.Generator) -> UInt8Array:
    strength = rng.uniform(0.8, 1.2)
    brushing = _piece(scene.brushing, scene, rng)
    return np.asarray(cv2.addWeighted(scene.part, 1, brushing, strength, -_NEUTRAL * strength), np.uint8)


def _light(scene: Scene, rng: np.random.Generator) -> UInt8Array:
    """Gain and a gradient across the frame, (height, width, 3); `_NEUTRAL` changes nothing."""
    height, width = scene.alpha.shape
    gain, down, across = 1 + rng.uniform(-GAIN, GAIN), *rng.uniform(-GRADIENT, GRADIENT, 2)
    rows = np.linspace(-down, down, height, dtype=np.float32)[:, None]
    columns = np.linspace(-across, across, width, dtype=np.float32)[None, :]
    light = (_NEUTRAL * (gain + rows + columns)).astype(np.uint8)
    return np.asarray(cv2.cvtColor(light, cv2.COLOR_GRAY2BGR), np.uint8)


def _compose(part: UInt8Array, alpha: UInt8Array, belt: UInt8Array, turn: Float32Array) -> UInt8Array:
    """Lay the part onto the belt. Multiplied by alpha before it is turned, so that edges stay clean."""
    opaque = cv2.cvtColor(alpha, cv2.COLOR_GRAY2BGR)
    part = _place(np.asarray(cv2.multiply(part, opaque, scale=1 / 255), np.uint8), turn, cv2.INTER_LINEAR)
    through = cv2.cvtColor(cv2.bitwise_not(_place(alpha, turn, cv2.INTER_LINEAR)), cv2.COLOR_GRAY2BGR)
    return np.asarray(cv2.add(part, cv2.multiply(belt, through, scale=1 / 255)), np.uint8)


def _expose(picture: UInt8Array, light: UInt8Array, noise: UInt8Array) -> UInt8Array:
    lit = cv2.multiply(picture, light, scale=1 / _NEUTRAL)
    return np.asarray(cv2.addWeighted(lit, 1, noise, 1, -_NEUTRAL), np.uint8)


def _place(picture: UInt8Array, turn: Float32Array, interpolation: int) -> UInt8Array:
    height, width = picture.shape[:2]
    return np.asarray(cv2.warpAffine(picture, turn, (width, height), flags=interpolation), np.uint8)


def _bounds(mask: UInt8Array) -> Box:
    x, y, width, height = cv2.boundingRect(mask)
    return Box(x, y, width, height)


def _union(masks: list[UInt8Array], size: tuple[int, int]) -> UInt8Array:
    union = np.zeros(size, np.uint8)
    for mask in masks:
        np.maximum(union, mask, out=union)
    return union
