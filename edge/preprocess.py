"""Frame → the model's input, by the same function in teaching and on the line (pure).

The paper resizes the shorter side and then crops the centre. Cropping first and resizing once gives the same
field of view, touches fewer pixels, and makes map → frame a plain scale and offset.
"""

from __future__ import annotations

import cv2
import numpy as np

from edge.ir import Geometry
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


def prepare(image: UInt8Array, region: Box, out: UInt8Array) -> None:
    """Resize `region` of `image` (height, width, 3) into `out` (input_height, input_width, 3), in place.

    A region of twice the input or more is halved first, in means of 2 by 2 pixels, which OpenCV does with vector
    instructions: 1920×1080 to 256² in 0.7 ms instead of 4.7, at the same quality (image AUROC equal, pixel AUROC within
    0.12 points and mostly 0.03; MVTec AD bottle and hazelnut at 112² and 128², by patchline-export evaluate).
    """
    height, width = out.shape[:2]
    source = image[region.y : region.bottom, region.x : region.right]
    while _halves_well(source, height, width):
        half = source.shape[1] // 2, source.shape[0] // 2
        source = cv2.resize(source, half, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    cv2.resize(source, (width, height), dst=out, interpolation=_interpolation(source, region, height, width))


def _halves_well(source: UInt8Array, height: int, width: int) -> bool:
    rows, columns = source.shape[:2]
    return bool(rows >= 2 * height and columns >= 2 * width and rows % 2 == columns % 2 == 0)


def _interpolation(source: UInt8Array, region: Box, height: int, width: int) -> int:
    rows, columns = source.shape[:2]
    if rows < height or columns < width:
        return cv2.INTER_LINEAR
    halved = rows < region.height
    # After halving, two neighbours cover nearly every pixel: linear is as good as area there, and half as long.
    return cv2.INTER_LINEAR if halved and rows < 2 * height and columns < 2 * width else cv2.INTER_AREA


def ignored_patches(mask: UInt8Array, region: Box, grid: tuple[int, int]) -> BoolArray:
    """Patches (rows · columns,) that `mask` (frame height, width; non-zero: ignore) mostly covers."""
    rows, columns = grid
    inside = (mask[region.y : region.bottom, region.x : region.right] != 0).astype(np.float32)
    coverage = cv2.resize(inside, (columns, rows), interpolation=cv2.INTER_AREA)
    return np.asarray(coverage > 0.5).reshape(-1)
