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
    """Resize `region` of `image` (height, width, 3) into `out` (input_height, input_width, 3), in place."""
    height, width = out.shape[:2]
    shrinks = region.width >= width and region.height >= height
    cv2.resize(
        image[region.y : region.bottom, region.x : region.right],
        (width, height),
        dst=out,
        interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
    )


def ignored_patches(mask: UInt8Array, region: Box, grid: tuple[int, int]) -> BoolArray:
    """Patches (rows · columns,) that `mask` (frame height, width; non-zero: ignore) mostly covers."""
    rows, columns = grid
    inside = (mask[region.y : region.bottom, region.x : region.right] != 0).astype(np.float32)
    coverage = cv2.resize(inside, (columns, rows), interpolation=cv2.INTER_AREA)
    return np.asarray(coverage > 0.5).reshape(-1)
