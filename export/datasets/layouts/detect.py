"""Which layout a folder has: a new one is a module beside this one, and a place in `READINGS`."""

from __future__ import annotations

from pathlib import Path

from export.datasets.layouts.base import Reading
from export.datasets.layouts.folders import FOLDERS
from export.datasets.layouts.mvtec import BTAD, LOCO, MVTEC
from export.datasets.layouts.visa import VISA

LOOKED_FOR = (
    "A category has train/good, test/good and test/<kind> (MVTec AD, MVTec LOCO AD, converted VisA); "
    "train/ok, test/ok and test/ko (BTAD); Data/Images and, beside it, split_csv/1cls.csv (VisA); or good and bad"
)

READINGS = (VISA, BTAD, LOCO, FOLDERS, MVTEC)  # the first that fits; MVTec's folders are those of others, too


def reading_of(path: Path) -> Reading | None:
    """How to read `path`, be it complete or not; None if it is no category."""
    return next((reading for reading in READINGS if reading.looks_like(path)), None)
