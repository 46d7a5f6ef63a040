"""Plain folders of pictures, good and defective."""

from __future__ import annotations

import hashlib
from pathlib import Path

from edge.errors import ExportError
from edge.files.pictures import is_picture
from export.datasets.category import Category, Layout
from export.datasets.layouts.base import Reading, has_any
from export.datasets.masks import (
    defective_pictures,
    good_pictures,
    kinds_in,
    pictures_in,
)
from export.metrics.records import GOOD

# Of plain folders this share of the good pictures is for testing.
TEST_SHARE = 0.2


def _read_folders(name: str, path: Path, seed: int) -> Category:
    """Plain `good` and `bad`."""
    good = pictures_in(path / GOOD)
    if len(good) < 2:
        raise ExportError(f"{path / GOOD}: one picture; expected at least two, to teach from and to test with")
    held_out = sorted(good, key=lambda picture: hashlib.sha256(f"{seed}/{picture.name}".encode()).digest())
    tested = frozenset(held_out[: max(1, round(TEST_SHARE * len(good)))])
    bad = path / "bad"
    loose = [file for file in bad.iterdir() if is_picture(file)]
    return Category(
        name=name,
        layout=Layout.FOLDERS,
        path=path,
        train=tuple(picture for picture in good if picture not in tested),
        validation=(),
        test=good_pictures([picture for picture in good if picture in tested])
        + (defective_pictures(bad, path) if loose else ())
        + kinds_in(bad, path, besides=""),
    )


FOLDERS = Reading(Layout.FOLDERS, lambda path: has_any(path, GOOD) and has_any(path, "bad"), _read_folders)
