"""Labelled datasets on disk: which pictures teach, which test, and where the masks of the defects are.

A dataset is a directory of categories (or one category), each in one of these layouts:

    mvtec    train/good, test/good, test/<kind>, ground_truth/<kind>/<stem>_mask.png or <stem>.png
             (MVTec AD; VisA as its authors' script converts it)
    loco     the same with validation/good, and ground_truth/<kind>/<stem>/<n>.png (MVTec LOCO AD)
    visa     Data/Images/{Normal,Anomaly}, Data/Masks/Anomaly, beside them split_csv/1cls.csv (VisA as it comes)
    btad     train/ok, test/ok, test/ko, ground_truth/ko/<stem>.png (beanTech)
    folders  good, bad and, where defects have kinds, bad/<kind>; ground_truth/<kind>/<stem>.png (one's own pictures)

Masks are optional, for a whole category. Whatever is missing or does not fit is named: half a dataset gives figures
that look like results.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge.errors import ExportError
from export.datasets.category import Category, LabelledPicture
from export.datasets.layouts.base import Reading
from export.datasets.layouts.detect import LOOKED_FOR, reading_of
from export.datasets.layouts.visa import VISA, read_split, split_file_of
from export.datasets.masks import (
    directories_in,
    shorten,
)
from export.metrics.records import GOOD


def find_categories(root: Path, wanted: Sequence[str] = (), *, seed: int = 0) -> tuple[Category, ...]:
    """The categories below `root`, or `root` itself if it is one, with all their pictures listed.

    Plain folders have no split: the good pictures are put in the order of the SHA-256 of "seed/name", and the first
    `TEST_SHARE` of them (at least one) test; so the split depends on names alone, and hardly moves when some are added.

    Args:
        root: a dataset or one category.
        wanted: names of categories, in the order that is wanted; none for all, by name.
        seed: of the split of plain folders.

    Raises:
        ExportError: no category is there, a wanted one is missing, or categories are broken: train or test pictures,
            defective pictures, some of the masks or the pictures of masks are missing, or the split cannot be read.
            Every broken category is named, with up to ten files.
    """
    places = _places(root)
    missing = [name for name in wanted if name not in places]
    if missing:
        raise ExportError(f"{root}: no category {', '.join(missing)}; found: {', '.join(places)}")
    categories, problems = [], []
    for name in wanted or places:
        try:
            categories.append(_read_category(name, *places[name], seed))
        except ExportError as error:
            problems.append(str(error))
    if problems:
        raise ExportError("\n".join(problems))
    return tuple(categories)


def _places(root: Path) -> dict[str, tuple[Path, Reading]]:
    if not root.is_dir():
        raise ExportError(f"{root}: no such directory; give a dataset or one of its categories")
    reading = reading_of(root)
    if reading is not None:
        whole = root if root.name not in {"", ".."} else root.resolve()  # its parent and its name are needed
        return {whole.name: (whole, reading)}
    split = split_file_of(root)
    if split.is_file():
        names = sorted({row.name for row in read_split(split)})
        return {name: (root / name, VISA) for name in names}
    places = {path.name: (path, reading) for path in directories_in(root) if (reading := reading_of(path))}
    if not places:
        raise ExportError(_unknown(root))
    return places


def _unknown(root: Path) -> str:
    found = sorted(path.name + "/" * path.is_dir() for path in root.iterdir())
    deeper = [path for path in directories_in(root) if any(reading_of(inner) for inner in directories_in(path))]
    hint = f". Did you mean {deeper[0]}?" if deeper else ""
    return f"{root}: no category at all. {LOOKED_FOR}. Found: {shorten(found) or 'nothing'}{hint}"


def _read_category(name: str, path: Path, reading: Reading, seed: int) -> Category:
    category = reading.read(name, path, seed)
    _check(category)
    return category


def _check(category: Category) -> None:
    """What every layout needs, whatever it looks like."""
    if not category.train:
        raise ExportError(f"{category.path}: no good pictures to teach from")
    defective = [picture for picture in category.test if picture.kind != GOOD]
    if len(defective) == len(category.test):
        raise ExportError(f"{category.path}: no good pictures to test with")
    if not defective:
        raise ExportError(f"{category.path}: no defective pictures among {len(category.test)} to test with")
    _check_masks(category, defective)


def _check_masks(category: Category, defective: Sequence[LabelledPicture]) -> None:
    kinds = {picture.kind for picture in category.test} | {"ok"}
    unknown = [path.name for path in directories_in(category.path / "ground_truth") if path.name not in kinds]
    if unknown:
        raise ExportError(
            f"{category.path / 'ground_truth'}: masks of kinds that have no pictures: {shorten(unknown)}; "
            "extract the archive again, or remove them"
        )
    without = [f"{picture.kind}/{picture.path.name}" for picture in defective if not picture.masks]
    if without and len(without) < len(defective):
        raise ExportError(
            f"{category.path}: {len(without)} of {len(defective)} defective pictures have no mask: "
            f"{shorten(without)}; add them, or remove all masks to go without pixel metrics"
        )
