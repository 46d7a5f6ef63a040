"""Pictures of one size: a bundle takes frames of one size, and some public sets mix sizes.

On the line another size is an error. In a dataset it is somebody's scanning: the odd pictures are resized to the usual
size, with their masks, as copies; the dataset is not touched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from edge.files.names import bounded, shown
from edge.files.pictures import read_picture, write_picture
from edge.records import BoolArray, UInt8Array
from edge.terminal import say
from export.datasets.category import Category, LabelledPicture
from export.datasets.ground_truth import read_mask_file
from export.datasets.verify import Size


def make_uniform(category: Category, sizes: Mapping[Path, Size], copies: Path) -> Category:
    """The category with every picture of its most common size; others as resized copies below `copies`.

    Args:
        category: what is on disk.
        sizes: of every picture, as `check_category` found them.
        copies: the directory for copies, which need not exist.

    Raises:
        SourceError: a picture cannot be read any more.
        PatchlineError: a copy cannot be written.
    """
    usual, _ = Counter(sizes.values()).most_common(1)[0]
    odd = [path for path, size in sizes.items() if size != usual]
    if not odd:
        return category
    say(
        f"{shown(category.name)}: {len(odd)} of {len(sizes)} pictures are not {usual[1]}×{usual[0]} as most are, "
        f"such as {shown(odd[0])} with {sizes[odd[0]][1]}×{sizes[odd[0]][0]}: resized copies are used"
    )
    copied = {path: _copy(path, category.path, copies, usual) for path in odd}
    return replace(
        category,
        train=tuple(copied.get(path, path) for path in category.train),
        validation=tuple(copied.get(path, path) for path in category.validation),
        test=tuple(_with_copies(picture, copied, category.path, copies, usual) for picture in category.test),
    )


def _with_copies(
    picture: LabelledPicture, copied: dict[Path, Path], root: Path, copies: Path, usual: Size
) -> LabelledPicture:
    if picture.path not in copied:
        return picture
    masks = tuple(_copy_mask(mask, root, copies, usual) for mask in picture.masks)
    return replace(picture, path=copied[picture.path], masks=masks)


def _copy(path: Path, root: Path, copies: Path, size: Size) -> Path:
    image = read_picture(path)
    shrinks = image.shape[0] >= size[0] and image.shape[1] >= size[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return _write(np.asarray(cv2.resize(image, (size[1], size[0]), interpolation=method), np.uint8), path, root, copies)


def _copy_mask(path: Path, root: Path, copies: Path, size: Size) -> Path:
    return _write(_resize_mask(read_mask_file(path), size).astype(np.uint8) * np.uint8(255), path, root, copies)


def _resize_mask(mask: BoolArray, size: Size) -> BoolArray:
    """Nearest, as evaluation does; a defect too thin for that keeps every pixel that it touches."""
    wanted = (size[1], size[0])
    resized = cv2.resize(mask.astype(np.uint8), wanted, interpolation=cv2.INTER_NEAREST_EXACT) > 0
    if mask.any() and not resized.any():
        resized = cv2.resize(mask.astype(np.float32), wanted, interpolation=cv2.INTER_AREA) > 0
    return np.asarray(resized)


def _write(image: UInt8Array, path: Path, root: Path, copies: Path) -> Path:
    copy = copies / path.relative_to(root)
    if copy.suffix != ".png" or copy.name != bounded(copy.name):
        copy = copy.with_name(f"{bounded(copy.name)}.png")  # lossless, and beside a copy of the same stem
    copy.parent.mkdir(parents=True, exist_ok=True)
    write_picture(copy, image)
    return copy
