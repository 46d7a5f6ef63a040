"""MVTec AD and its like: folders train, test and ground_truth."""

from __future__ import annotations

from export.datasets.category import Category, Layout
from export.datasets.layouts.detect import Place
from export.datasets.masks import (
    good_pictures,
    kinds_in,
    pictures_in,
)
from export.metrics.records import GOOD


def read_split_folders(name: str, place: Place) -> Category:
    """MVTec AD, MVTec LOCO AD and BTAD: directories for train and test."""
    path = place.path
    good = "ok" if place.layout is Layout.BTAD else GOOD
    validation = path / "validation"
    return Category(
        name=name,
        layout=place.layout,
        path=path,
        train=pictures_in(path / "train" / good),
        validation=pictures_in(validation / good) if validation.is_dir() else (),
        test=good_pictures(pictures_in(path / "test" / good)) + kinds_in(path / "test", path, besides=good),
    )
