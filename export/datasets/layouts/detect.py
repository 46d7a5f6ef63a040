"""Which layout a folder has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from export.datasets.category import Layout
from export.metrics.records import GOOD

LOOKED_FOR = (
    "A category has train/good, test/good and test/<kind> (MVTec AD, MVTec LOCO AD, converted VisA); "
    "train/ok, test/ok and test/ko (BTAD); Data/Images and, beside it, split_csv/1cls.csv (VisA); or good and bad"
)


@dataclass(frozen=True, slots=True)
class Place:
    """A directory and the layout that it has."""

    path: Path
    layout: Layout


def layout_of(path: Path) -> Layout | None:
    """The layout that `path` looks like, be it complete or not; None if it is no category."""

    def has(*names: str) -> bool:
        return any((path / name).is_dir() for name in names)

    if has("Data/Images"):
        return Layout.VISA
    if has("train/ok", "test/ok", "test/ko"):
        return Layout.BTAD
    if has("validation", "test/logical_anomalies", "test/structural_anomalies"):
        return Layout.LOCO
    if has(GOOD) and has("bad"):
        return Layout.FOLDERS
    return Layout.MVTEC if has("train", "test", "ground_truth") else None
