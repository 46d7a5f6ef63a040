"""What a mask marks: which pixels of a defective picture are defective.

A mask has its picture's size and is black where there is no defect; whatever is not black is defective. So 1 bit, 0/1,
0/255, numbered kinds of defects (LOCO and VisA count from 1) and 16-bit labels are read alike. What could be read in
two ways, or says nothing, is refused by name: it would give figures that look like results.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge.errors import ExportError
from edge.files.pictures import read_as_stored, read_picture
from edge.records import BoolArray
from export.datasets.category import LabelledPicture
from export.metrics.records import GOOD

_LOSSY = frozenset({".jpeg", ".jpg", ".webp"})  # compression rings around the defects
_REDRAW = "save it without transparency, black where there is no defect"


def read_mask_of(picture: LabelledPicture, height: int, width: int) -> BoolArray | None:
    """Where `picture`, of `height` and `width` pixels, is defective: (height, width), the union of its masks.

    All False for a good picture, None for a defective one without masks.

    Raises:
        SourceError: a mask cannot be read.
        ExportError: a mask is of another size or is none, or the masks mark nothing.
    """
    if picture.kind != GOOD and not picture.masks:
        return None
    union = np.zeros((height, width), bool)
    for path in picture.masks:
        mask = read_mask_file(path)
        if mask.shape != union.shape:
            raise ExportError(
                f"{path}: mask of {mask.shape[1]}×{mask.shape[0]} pixels; expected {width}×{height}, as "
                f"{picture.path} has; take both from the same dataset"
            )
        union |= mask
    if picture.masks and not union.any():
        raise ExportError(
            f"{picture.masks[0]}: marks no pixel, but {picture.path} is said to show '{picture.kind}'; "
            "draw the defect, or move the picture to the good ones"
        )
    return union


def read_mask_file(path: Path) -> BoolArray:
    """One mask file (height, width): what is not black; in lossy formats, what is above the middle grey.

    Raises:
        SourceError: it cannot be read.
        ExportError: what it marks is not certain: its transparency says other than its colours, or nothing is black.
    """
    if path.suffix.lower() in _LOSSY:
        return np.asarray(read_picture(path).max(axis=2) > 127)
    stored = read_as_stored(path)
    colours, transparency = stored[:, :, :3], stored[:, :, 3:]
    marked = np.asarray(colours.max(axis=2) > 0)
    if transparency.size and _disagree(marked, transparency[:, :, 0] > 0):
        raise ExportError(
            f"{path}: what it marks is not certain, as its transparency says other than its colours; {_REDRAW}"
        )
    if marked.all() and colours.min() != colours.max():
        raise ExportError(f"{path}: not a mask, as none of it is black (free of defects); {_REDRAW}")
    return marked


def _disagree(marked: BoolArray, opaque: BoolArray) -> bool:
    """Whether it matters which of colours and opacity is the mask; what is opaque everywhere says nothing."""
    return bool((marked & ~opaque).any() or (not marked.any() and not opaque.all()))
