"""Frame → the model's input, by the same function in teaching and on the line (pure).

The paper resizes the shorter side and then crops the centre. Cropping first and resizing once gives the same
field of view, touches fewer pixels, and makes map → frame a plain scale and offset.
"""

from __future__ import annotations

import cv2
import numpy as np

from edge.bundle.ir import Geometry
from edge.records import BoolArray, Box, UInt8Array


def inspected_region(frame_height: int, frame_width: int, geometry: Geometry, roi: Box | None) -> Box:
    """The part of a frame that the model sees, in the frame's pixels.

    Raises:
        ValueError: the region of interest reaches beyond the frame.
    """
    roi = roi or Box(0, 0, frame_width, frame_height)
    if roi.right > frame_width or roi.bottom > frame_height:
        raise ValueError(
            f"the region of interest reaches to {roi.right}×{roi.bottom}, but the frame is {frame_width}×{frame_height}"
        )
    if geometry.resize_shorter is None:
        return roi
    scale = min(roi.width, roi.height) / geometry.resize_shorter
    width = min(roi.width, max(1, round(geometry.input_width * scale)))
    height = min(roi.height, max(1, round(geometry.input_height * scale)))
    return Box(roi.x + (roi.width - width) // 2, roi.y + (roi.height - height) // 2, width, height)


def prepare(image: UInt8Array, region: Box, out: UInt8Array, scratch: UInt8Array | None = None) -> None:
    """Resize `region` of `image` (height, width, 3) into `out` (input_height, input_width, 3), in place.

    Who prepares many pictures gives a `scratch` (2 · input_height, 2 · input_width, 3) that may be overwritten.

    What is reduced is averaged over its area, by steps that OpenCV does with vector instructions: a region of twice the
    input or more is halved in means of 2 by 2 pixels, again and again; what is left is interpolated to just twice the
    input, and halved. 1920×1080 to 256² takes 0.6 ms instead of 4.7 by OpenCV's own area average, 480² 0.3 instead of
    0.9, at the same quality (docs/evaluation.md).
    """
    height, width = out.shape[:2]
    source = image[region.y : region.bottom, region.x : region.right]
    while _halves_well(source, height, width):
        half = source.shape[1] // 2, source.shape[0] // 2
        source = cv2.resize(source, half, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    if _doubles_well(source, height, width):
        doubled = make_scratch(out) if scratch is None else scratch
        source = cv2.resize(source, (2 * width, 2 * height), dst=doubled, interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    enlarged = source.shape[0] < height or source.shape[1] < width
    cv2.resize(source, (width, height), dst=out, interpolation=cv2.INTER_LINEAR if enlarged else cv2.INTER_AREA)


def make_scratch(out: UInt8Array) -> UInt8Array:
    """For `prepare` into `out` (input_height, input_width, 3)."""
    return np.empty((2 * out.shape[0], 2 * out.shape[1], 3), np.uint8)


def _halves_well(source: UInt8Array, height: int, width: int) -> bool:
    rows, columns = source.shape[:2]
    return bool(rows >= 2 * height and columns >= 2 * width and rows % 2 == columns % 2 == 0)


def _doubles_well(source: UInt8Array, height: int, width: int) -> bool:
    """Whether the two neighbours of each point at twice the input cover nearly every pixel."""
    rows, columns = source.shape[:2]
    fits = height < rows < 4 * height and width < columns < 4 * width
    return bool(fits and (rows % height != 0 or columns % width != 0))  # whole multiples are averaged as fast


def ignored_patches(mask: UInt8Array, region: Box, grid: tuple[int, int]) -> BoolArray:
    """Patches (rows · columns,) that `mask` (frame height, width; non-zero: ignore) mostly covers."""
    rows, columns = grid
    inside = (mask[region.y : region.bottom, region.x : region.right] != 0).astype(np.float32)
    coverage = cv2.resize(inside, (columns, rows), interpolation=cv2.INTER_AREA)
    return np.asarray(coverage > 0.5).reshape(-1)
