"""VisA: one CSV file says which picture belongs where."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edge.errors import ExportError
from export.datasets.category import Category, LabelledPicture, Layout
from export.datasets.layouts.base import Reading, has_any
from export.datasets.masks import (
    loose_masks,
    refuse_stray_masks,
    shorten,
    stems_of,
)
from export.metrics.records import GOOD

_VISA_COLUMNS = ("object", "split", "label", "image", "mask")
_VISA_KINDS = {"normal": GOOD, "anomaly": "anomaly"}


@dataclass(frozen=True, slots=True)
class _SplitRow:
    line: int
    name: str
    train: bool
    kind: str
    image: str  # relative to the dataset
    mask: str


def _read_visa(name: str, path: Path, _seed: int) -> Category:
    """VisA as it comes: a table says what each picture is for."""
    root, split = path.parent, split_file_of(path.parent)
    rows = [row for row in read_split(split) if row.name == name]
    if not rows:
        raise ExportError(f"{split}: no object '{name}'; expected it to say which pictures of {path} are for what")
    missing = [row.image for row in rows if not (root / row.image).is_file()]
    if missing:
        raise ExportError(
            f"{path}: of {len(rows)} pictures named in {split.name}, {len(missing)} are missing: {shorten(missing)}; "
            "extract the archive again, or choose other categories"
        )
    defective = [f"line {row.line}: {row.image}" for row in rows if row.train and row.kind != GOOD]
    if defective:
        raise ExportError(
            f"{split}: {len(defective)} defective pictures to teach from: {shorten(defective)}; use 1cls.csv"
        )
    refuse_stray_masks(loose_masks(path / "Data/Masks/Anomaly", stems_of(path / "Data/Images/Anomaly")))
    return Category(
        name=name,
        layout=Layout.VISA,
        path=path,
        train=tuple(root / row.image for row in rows if row.train),
        validation=(),
        test=tuple(_listed_picture(root, row) for row in rows if not row.train),
    )


def _listed_picture(root: Path, row: _SplitRow) -> LabelledPicture:
    named = row.kind != GOOD and row.mask and (root / row.mask).is_file()
    return LabelledPicture(root / row.image, row.kind, (root / row.mask,) if named else ())


def split_file_of(root: Path) -> Path:
    """Where VisA keeps its split."""
    return root / "split_csv" / "1cls.csv"


def read_split(path: Path) -> list[_SplitRow]:
    """The rows of a split file; a damaged one is an `ExportError`."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file, strict=True)
            absent = [column for column in _VISA_COLUMNS if column not in (table.fieldnames or ())]
            if absent:
                raise ExportError(f"{path}: no column {', '.join(absent)}; expected {','.join(_VISA_COLUMNS)}")
            rows = [_split_row(path, table.line_num, row) for row in table]
    except OSError as error:
        raise ExportError(
            f"{path}: cannot be read ({error.strerror}); VisA comes with it, extract the archive again"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ExportError(
            f"{path}: not a table of comma-separated values ({error}); extract the archive again"
        ) from error
    if not rows:
        raise ExportError(f"{path}: no pictures below the heading; extract the archive again")
    return rows


def _split_row(path: Path, line: int, row: dict[str, str | None]) -> _SplitRow:
    values = [row[column] for column in _VISA_COLUMNS]
    name, split, label, image, mask = (value or "" for value in values)
    if None in values or split not in {"train", "test"} or label not in _VISA_KINDS:
        raise ExportError(
            f"{path}, line {line}: expected object,train or test,normal or anomaly,image,mask; got {values}"
        )
    if not all(map(_is_inside, filter(None, (f"{name}/", image, mask)))) or not image:
        raise ExportError(f"{path}, line {line}: object, image and mask must be paths inside the dataset; got {values}")
    return _SplitRow(line, name, split == "train", _VISA_KINDS[label], image, mask)


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


VISA = Reading(Layout.VISA, lambda path: has_any(path, "Data/Images"), _read_visa)
