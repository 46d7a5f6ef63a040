"""What of a frame is judged: the bundle's region and mask, less what the station's own leave out (pure).

A station never adds to what was taught: the memory bank knows no patches from elsewhere and would find good ones
strange. The model sees the taught region whatever the station's own, so that every patch looks as it was taught.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge.bundle.bundle import Bundle, Manifest
from edge.errors import BundleError, SettingsError
from edge.inspection.masking import describe_mask, mask_patches, outside_patches
from edge.inspection.preprocess import ignored_patches, inspected_region
from edge.records import BoolArray, Box, UInt8Array


@dataclass(frozen=True, slots=True, eq=False)
class LeftOut:
    """Which patches are not judged; none: all of the region's are."""

    region: Box  # what the model sees, in the frame's pixels
    taught: BoolArray | None  # (rows · columns,) left out by the bundle
    ignored: BoolArray | None  # (rows · columns,) left out by bundle and station together
    notes: tuple[str, ...]  # for people


def find_left_out(bundle: Bundle, mask: UInt8Array | None, part: Box | None) -> LeftOut:
    """What the bundle and a station's own `mask` (frame height, frame width) and `part` of the region leave out.

    Raises:
        BundleError: the bundle's own mask leaves nothing to inspect.
        SettingsError: mask or part do not fit the bundle, or leave nothing to inspect.
    """
    manifest = bundle.manifest
    whole = Box(0, 0, manifest.frame_width, manifest.frame_height)
    roi = manifest.region.box() if manifest.region else whole
    region = inspected_region(manifest.frame_height, manifest.frame_width, manifest.ir.geometry, roi)
    grid, notes = manifest.ir.grid, []
    taught = masked = outside = None
    if bundle.mask is not None:
        taught = _taught_patches(bundle.mask, region, grid)
        notes.append(f"as taught, {describe_mask(bundle.mask, region, grid, taught)}")
    if mask is not None:
        masked = mask_patches(mask, manifest.frame_height, manifest.frame_width, region, grid)
        notes.append(f"inspection.mask: {describe_mask(mask, region, grid, masked)}")
    if part is not None and part != roi:
        outside = _outside_patches(part, roi, region, manifest)
        notes.append(f"inspection.region leaves out {outside.sum()} of {outside.size} patches of what was taught")
    return LeftOut(region, taught, _together(taught, masked, outside), tuple(notes))


def _taught_patches(mask: UInt8Array, region: Box, grid: tuple[int, int]) -> BoolArray:
    ignored = ignored_patches(mask, region, grid)
    if ignored.all():
        raise BundleError("mask.png: it leaves nothing to inspect, which no teaching does; teach again")
    return ignored


def _outside_patches(part: Box, roi: Box, region: Box, manifest: Manifest) -> BoolArray:
    if part.x < roi.x or part.y < roi.y or part.right > roi.right or part.bottom > roi.bottom:
        raise SettingsError(
            f"inspection.region: {part.width}×{part.height} at x {part.x}, y {part.y} reaches beyond what the bundle "
            f"was taught with, {roi.width}×{roi.height} at x {roi.x}, y {roi.y} of the "
            f"{manifest.frame_width}×{manifest.frame_height} frame. The memory bank belongs to that region: "
            "teach again with --region, or give a part of it"
        )
    return outside_patches(part, manifest.frame_height, manifest.frame_width, region, manifest.ir.grid)


def _together(*parts: BoolArray | None) -> BoolArray | None:
    given = [part for part in parts if part is not None]
    if not given:
        return None
    ignored: BoolArray = np.logical_or.reduce(given)
    if ignored.all():
        raise SettingsError("inspection.mask and inspection.region leave no patch to inspect")
    return ignored
