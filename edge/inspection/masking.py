"""Which patches are judged: the taught mask leaves out some, a station's own mask and region leave out more (pure).

A station never adds to what was taught: the memory bank knows no patches from elsewhere, and would find good ones
strange.
"""

from __future__ import annotations

import cv2
import numpy as np

from edge.errors import SettingsError
from edge.inspection.preprocess import ignored_patches
from edge.records import BoolArray, Box, UInt8Array


def mask_patches(
    mask: UInt8Array, frame_height: int, frame_width: int, region: Box, grid: tuple[int, int]
) -> BoolArray:
    """The patches (rows · columns,) that `mask` (frame height, frame width; non-zero: ignore) leaves out.

    Raises:
        SettingsError: the mask is not of the frame's size, leaves nothing to inspect, or leaves out nothing though some
            of it lies in `region`.
    """
    if mask.shape != (frame_height, frame_width):
        raise SettingsError(
            f"mask: expected a picture of the frame's size, {frame_width}×{frame_height}, "
            f"got {mask.shape[1]}×{mask.shape[0]}"
        )
    ignored = ignored_patches(mask, region, grid)
    if ignored.all():
        raise SettingsError("mask: it covers the whole inspected region; white is what shall be ignored")
    if not ignored.any() and (_inside(mask, region).any() or not mask.any()):
        raise SettingsError(
            f"mask: it leaves out none of {ignored.size} patches: no white area in the inspected region covers half of "
            f"a patch, which is {_patch(region, grid)} pixels of the frame"
        )
    return ignored


def describe_mask(mask: UInt8Array, region: Box, grid: tuple[int, int], ignored: BoolArray) -> str:
    """For people: what `mask` leaves out, and what of it is without effect; `ignored` is `mask_patches`'s answer."""
    text = f"the mask leaves out {ignored.sum()} of {ignored.size} patches"
    if 2 * ignored.sum() > ignored.size:
        text += ", more than half: white is what is not judged"
    areas, lost = _count_areas(_inside(mask, region), ignored.reshape(grid))
    if lost:
        text += f"; {lost} of its {areas} white areas are too small: a patch is {_patch(region, grid)} pixels"
    if not _inside(mask, region).any():
        text += "; all of its white lies outside the inspected region"
    return text


def outside_patches(part: Box, frame_height: int, frame_width: int, region: Box, grid: tuple[int, int]) -> BoolArray:
    """The patches (rows · columns,) of `region` that lie mostly outside `part`."""
    outside = np.ones((frame_height, frame_width), np.uint8)
    outside[part.y : part.bottom, part.x : part.right] = 0
    return ignored_patches(outside, region, grid)


def _inside(mask: UInt8Array, region: Box) -> UInt8Array:
    return mask[region.y : region.bottom, region.x : region.right]


def _count_areas(mask: UInt8Array, ignored: BoolArray) -> tuple[int, int]:
    """Connected white areas, and those of them that touch no ignored patch (rows, columns)."""
    count, labels = cv2.connectedComponents((mask != 0).astype(np.uint8), connectivity=8)
    taken = cv2.resize(ignored.astype(np.uint8), mask.shape[::-1], interpolation=cv2.INTER_NEAREST) != 0
    effective = np.setdiff1d(labels[taken], [0])
    return count - 1, count - 1 - len(effective)


def _patch(region: Box, grid: tuple[int, int]) -> str:
    return f"{region.width / grid[1]:.0f}×{region.height / grid[0]:.0f}"
