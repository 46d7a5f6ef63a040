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

import csv
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath

import numpy as np

from edge.errors import ExportError, SourceError
from edge.pictures import SUFFIXES, list_pictures, read_picture
from edge.records import BoolArray
from edge.terminal import phase

GOOD = "good"

# Of plain folders this share of the good pictures is for testing.
TEST_SHARE = 0.2

LOOKED_FOR = (
    "A category has train/good, test/good and test/<kind> (MVTec AD, MVTec LOCO AD, converted VisA); "
    "train/ok, test/ok and test/ko (BTAD); Data/Images and, beside it, split_csv/1cls.csv (VisA); or good and bad"
)
_NAMED = 10
_LOSSY = frozenset({".jpeg", ".jpg", ".webp"})  # compression rings around the defects
_VISA_COLUMNS = ("object", "split", "label", "image", "mask")
_VISA_KINDS = {"normal": GOOD, "anomaly": "anomaly"}


class Layout(StrEnum):
    """How the pictures of a category are laid out."""

    MVTEC = "mvtec"
    LOCO = "loco"
    VISA = "visa"
    BTAD = "btad"
    FOLDERS = "folders"


@dataclass(frozen=True, slots=True)
class LabelledPicture:
    """One picture to test with, and what is known about it."""

    path: Path
    kind: str  # `good`, or the kind of defect
    masks: tuple[Path, ...]  # together they show the defect; empty for good pictures and where there are none


@dataclass(frozen=True, slots=True)
class Category:
    """One product of a dataset; complete, as far as that can be seen without opening the pictures."""

    name: str
    layout: Layout
    path: Path
    train: tuple[Path, ...]  # good pictures to teach from
    validation: tuple[Path, ...]  # further good pictures, neither for teaching nor for testing (LOCO only)
    test: tuple[LabelledPicture, ...]  # good and defective ones, at least one of each


@dataclass(frozen=True, slots=True)
class KindSummary:
    """The test pictures of one kind."""

    kind: str
    pictures: int
    masks: int  # pictures that have a mask


@dataclass(frozen=True, slots=True)
class CategorySummary:
    """How many pictures a category has."""

    name: str
    layout: Layout
    train: int
    validation: int
    kinds: tuple[KindSummary, ...]


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
            categories.append(_read_category(name, places[name], seed))
        except ExportError as error:
            problems.append(str(error))
    if problems:
        raise ExportError("\n".join(problems))
    return tuple(categories)


def read_mask_of(picture: LabelledPicture, height: int, width: int) -> BoolArray | None:
    """Where `picture`, of `height` and `width` pixels, is defective: (height, width), the union of its masks.

    All False for a good picture, None for a defective one without masks. A mask's pixel is defective if it is not
    black: LOCO and VisA number the kinds of defects from 1. In lossy formats it is from the middle grey on.

    Raises:
        SourceError: a mask cannot be read.
        ExportError: a mask is of another size.
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
    return union


def read_mask_file(path: Path) -> BoolArray:
    """One mask file (height, width): what is not black; in lossy formats, what is above the middle grey.

    Raises:
        SourceError: it cannot be read.
    """
    return np.asarray(read_picture(path).max(axis=2) > (127 if path.suffix.lower() in _LOSSY else 0))


def verify_dataset(root: Path, wanted: Sequence[str] = ()) -> tuple[CategorySummary, ...]:
    """Open every picture and every mask once, and count them.

    Raises:
        ExportError: as `find_categories`, or files cannot be read or masks have another size than their pictures; up to
            ten are named for each category.
    """
    problems, summaries = [], []
    for category in find_categories(root, wanted):
        bad = _unreadable(category)
        if bad:
            problems.append(f"{category.path}: {_named(bad)}; extract or copy the dataset again")
        summaries.append(_summary(category))
    if problems:
        raise ExportError("\n".join(problems))
    return tuple(summaries)


@dataclass(frozen=True, slots=True)
class _Place:
    path: Path
    layout: Layout


@dataclass(frozen=True, slots=True)
class _SplitRow:
    line: int
    name: str
    train: bool
    kind: str
    image: str  # relative to the dataset
    mask: str


def _places(root: Path) -> dict[str, _Place]:
    if not root.is_dir():
        raise ExportError(f"{root}: no such directory; give a dataset or one of its categories")
    layout = _layout_of(root)
    if layout is not None:
        whole = root if root.name not in {"", ".."} else root.resolve()  # its parent and its name are needed
        return {whole.name: _Place(whole, layout)}
    split = _split_file(root)
    if split.is_file():
        names = sorted({row.name for row in _read_split(split)})
        return {name: _Place(root / name, Layout.VISA) for name in names}
    places = {path.name: _Place(path, layout) for path in _directories(root) if (layout := _layout_of(path))}
    if not places:
        raise ExportError(_unknown(root))
    return places


def _layout_of(path: Path) -> Layout | None:
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


def _unknown(root: Path) -> str:
    found = sorted(path.name + "/" * path.is_dir() for path in root.iterdir())
    deeper = [path for path in _directories(root) if any(_layout_of(inner) for inner in _directories(path))]
    hint = f". Did you mean {deeper[0]}?" if deeper else ""
    return f"{root}: no category at all. {LOOKED_FOR}. Found: {_shorten(found) or 'nothing'}{hint}"


def _read_category(name: str, place: _Place, seed: int) -> Category:
    match place.layout:
        case Layout.VISA:
            category = _read_visa(name, place.path)
        case Layout.FOLDERS:
            category = _read_folders(name, place.path, seed)
        case Layout.MVTEC | Layout.LOCO | Layout.BTAD:
            category = _read_split_folders(name, place)
    _check(category)
    return category


def _read_split_folders(name: str, place: _Place) -> Category:
    """MVTec AD, MVTec LOCO AD and BTAD: directories for train and test."""
    path = place.path
    good = "ok" if place.layout is Layout.BTAD else GOOD
    validation = path / "validation"
    return Category(
        name=name,
        layout=place.layout,
        path=path,
        train=_pictures(path / "train" / good),
        validation=_pictures(validation / good) if validation.is_dir() else (),
        test=_good(_pictures(path / "test" / good)) + _kinds(path / "test", path, besides=good),
    )


def _read_folders(name: str, path: Path, seed: int) -> Category:
    """Plain `good` and `bad`."""
    good = _pictures(path / GOOD)
    if len(good) < 2:
        raise ExportError(f"{path / GOOD}: one picture; expected at least two, to teach from and to test with")
    held_out = sorted(good, key=lambda picture: hashlib.sha256(f"{seed}/{picture.name}".encode()).digest())
    tested = frozenset(held_out[: max(1, round(TEST_SHARE * len(good)))])
    bad = path / "bad"
    loose = [file for file in bad.iterdir() if _is_picture(file)]
    return Category(
        name=name,
        layout=Layout.FOLDERS,
        path=path,
        train=tuple(picture for picture in good if picture not in tested),
        validation=(),
        test=_good([picture for picture in good if picture in tested])
        + (_defective(bad, path) if loose else ())
        + _kinds(bad, path, besides=""),
    )


def _read_visa(name: str, path: Path) -> Category:
    """VisA as it comes: a table says what each picture is for."""
    root, split = path.parent, _split_file(path.parent)
    rows = [row for row in _read_split(split) if row.name == name]
    if not rows:
        raise ExportError(f"{split}: no object '{name}'; expected it to say which pictures of {path} are for what")
    missing = [row.image for row in rows if not (root / row.image).is_file()]
    if missing:
        raise ExportError(
            f"{path}: of {len(rows)} pictures named in {split.name}, {len(missing)} are missing: {_shorten(missing)}; "
            "extract the archive again, or choose other categories"
        )
    spoilt = [f"line {row.line}: {row.image}" for row in rows if row.train and row.kind != GOOD]
    if spoilt:
        raise ExportError(f"{split}: {len(spoilt)} defective pictures to teach from: {_shorten(spoilt)}; use 1cls.csv")
    _refuse_strays(_loose_masks(path / "Data/Masks/Anomaly", _stems(path / "Data/Images/Anomaly")))
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
    unknown = [path.name for path in _directories(category.path / "ground_truth") if path.name not in kinds]
    if unknown:
        raise ExportError(
            f"{category.path / 'ground_truth'}: masks of kinds that have no pictures: {_shorten(unknown)}; "
            "extract the archive again, or remove them"
        )
    without = [f"{picture.kind}/{picture.path.name}" for picture in defective if not picture.masks]
    if without and len(without) < len(defective):
        raise ExportError(
            f"{category.path}: {len(without)} of {len(defective)} defective pictures have no mask: "
            f"{_shorten(without)}; add them, or remove all masks to go without pixel metrics"
        )


def _good(pictures: Sequence[Path]) -> tuple[LabelledPicture, ...]:
    return tuple(LabelledPicture(path, GOOD, ()) for path in pictures)


def _kinds(directory: Path, category: Path, *, besides: str) -> tuple[LabelledPicture, ...]:
    """The pictures of every kind of defect that has a directory, and their masks."""
    kinds = [path for path in _directories(directory) if path.name != besides]
    if directory / GOOD in kinds:
        raise ExportError(f"{directory / GOOD}: good pictures where kinds of defects are expected; move them elsewhere")
    return tuple(picture for kind in kinds for picture in _defective(kind, category))


def _defective(directory: Path, category: Path) -> tuple[LabelledPicture, ...]:
    kind, pictures = directory.name, _pictures(directory)
    masks = _masks(category / "ground_truth" / kind, {path.stem for path in pictures})
    return tuple(LabelledPicture(path, kind, masks.get(path.stem, ())) for path in pictures)


def _masks(directory: Path, stems: set[str]) -> dict[str, tuple[Path, ...]]:
    """The masks in `directory` by the stem of their pictures: `<stem>_mask.png`, `<stem>.png` or `<stem>/<n>.png`."""
    masks: dict[str, tuple[Path, ...]] = {path.name: _pictures(path) for path in _directories(directory)}
    for path, stem in _mask_files(directory, stems):
        masks[stem] = (*masks.get(stem, ()), path)
    _refuse_strays([paths[0] for stem, paths in masks.items() if stem not in stems])
    return masks


def _mask_files(directory: Path, stems: set[str]) -> Iterator[tuple[Path, str]]:
    if directory.is_dir():
        for path in sorted(filter(_is_picture, directory.iterdir())):
            yield path, path.stem if path.stem in stems else path.stem.removesuffix("_mask")


def _loose_masks(directory: Path, stems: set[str]) -> list[Path]:
    return [path for path, stem in _mask_files(directory, stems) if stem not in stems]


def _refuse_strays(masks: Sequence[Path]) -> None:
    if masks:
        names = [f"{path.parent.name}/{path.name}" for path in masks]
        raise ExportError(
            f"{masks[0].parent}: {len(masks)} masks without a picture of their name: {_shorten(names)}; "
            "extract the archive again, or remove them"
        )


def _split_file(root: Path) -> Path:
    return root / "split_csv" / "1cls.csv"


def _read_split(path: Path) -> list[_SplitRow]:
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


def _unreadable(category: Category) -> list[str]:
    """Open everything that `category` lists; what is wrong with it."""
    good = [LabelledPicture(path, GOOD, ()) for path in category.train + category.validation]
    problems = []
    pictures = [*good, *category.test]
    with phase(f"checking {category.name}", len(pictures)) as done:
        for number, picture in enumerate(pictures):
            try:
                height, width = read_picture(picture.path).shape[:2]
                read_mask_of(picture, height, width)
            except (SourceError, ExportError) as error:
                problems.append(str(error))
            done(number + 1)
    return problems


def _summary(category: Category) -> CategorySummary:
    pictures = Counter(picture.kind for picture in category.test)
    masks = Counter(picture.kind for picture in category.test if picture.masks)
    return CategorySummary(
        name=category.name,
        layout=category.layout,
        train=len(category.train),
        validation=len(category.validation),
        kinds=tuple(KindSummary(kind, pictures[kind], masks[kind]) for kind in sorted(pictures)),
    )


def _pictures(directory: Path) -> tuple[Path, ...]:
    """The pictures in `directory`; there must be some."""
    if not directory.is_dir():
        raise ExportError(f"{directory}: no such directory; is the dataset extracted to its end?")
    try:
        return tuple(list_pictures(directory))
    except SourceError as error:
        raise ExportError(f"{error}; is the dataset extracted to its end?") from error


def _directories(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _stems(directory: Path) -> set[str]:
    return {path.stem for path in directory.iterdir()} if directory.is_dir() else set()


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _named(problems: Sequence[str]) -> str:
    return f"{len(problems)} files cannot be used: {_shorten(problems)}"


def _shorten(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
