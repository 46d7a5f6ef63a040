"""Pictures of one size: a bundle takes frames of one size, and some public sets mix sizes.

On the line another size is an error. In a dataset it is somebody's scanning: the odd pictures are resized to the usual
size, with their masks, as copies; the dataset is not touched.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from edge.files.pictures import read_picture, write_picture
from edge.records import UInt8Array
from edge.terminal import phase, say
from export.datasets.category import Category, LabelledPicture
from export.datasets.masks import read_mask_file

Size = tuple[int, int]  # height, width


def make_uniform(category: Category, copies: Path) -> Category:
    """The category with every picture of its most common size; others as resized copies below `copies`.

    Raises:
        SourceError: a picture cannot be read.
        PatchlineError: a copy cannot be written.
    """
    test = [picture.path for picture in category.test]
    paths = [*category.train, *category.validation, *test]
    sizes: dict[Path, Size] = {}
    with phase(f"looking at {category.name}", len(paths)) as done:
        for number, path in enumerate(paths):
            height, width = read_picture(path).shape[:2]
            sizes[path] = (height, width)
            done(number + 1)
    usual, _ = Counter(sizes.values()).most_common(1)[0]
    odd = [path for path, size in sizes.items() if size != usual]
    if not odd:
        return category
    say(
        f"{category.name}: {len(odd)} of {len(paths)} pictures are not {usual[1]}×{usual[0]} as most are, "
        f"such as {odd[0].name} with {sizes[odd[0]][1]}×{sizes[odd[0]][0]}: resized copies are used"
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
    mask = read_mask_file(path).astype(np.uint8) * np.uint8(255)
    resized = cv2.resize(mask, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT)
    return _write(np.asarray(resized, np.uint8), path, root, copies)


def _write(image: UInt8Array, path: Path, root: Path, copies: Path) -> Path:
    copy = copies / path.relative_to(root)
    if copy.suffix != ".png":  # lossless, and beside a copy of the same stem
        copy = copy.with_name(f"{copy.name}.png")
    copy.parent.mkdir(parents=True, exist_ok=True)
    write_picture(copy, image)
    return copy
