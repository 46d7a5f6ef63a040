"""MVTec AD and its like: folders train, test and ground_truth."""

from __future__ import annotations

from pathlib import Path

from export.datasets.category import Category, Layout
from export.datasets.layouts.base import Reading, has_any
from export.datasets.masks import good_pictures, kinds_in, pictures_in
from export.metrics.records import GOOD


def _read_split_folders(name: str, path: Path, layout: Layout, good: str) -> Category:
    """Directories for train and test, and for validation where there is one."""
    validation = path / "validation"
    return Category(
        name=name,
        layout=layout,
        path=path,
        train=pictures_in(path / "train" / good),
        validation=pictures_in(validation / good) if validation.is_dir() else (),
        test=good_pictures(pictures_in(path / "test" / good)) + kinds_in(path / "test", path, besides=good),
    )


MVTEC = Reading(
    Layout.MVTEC,
    lambda path: has_any(path, "train", "test", "ground_truth"),
    lambda name, path, _seed: _read_split_folders(name, path, Layout.MVTEC, GOOD),
)
LOCO = Reading(
    Layout.LOCO,
    lambda path: has_any(path, "validation", "test/logical_anomalies", "test/structural_anomalies"),
    lambda name, path, _seed: _read_split_folders(name, path, Layout.LOCO, GOOD),
)
BTAD = Reading(
    Layout.BTAD,
    lambda path: has_any(path, "train/ok", "test/ok", "test/ko"),
    lambda name, path, _seed: _read_split_folders(name, path, Layout.BTAD, "ok"),
)
