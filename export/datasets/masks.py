"""Which mask belongs to which picture; `ground_truth` says what it marks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from edge.errors import ExportError, SourceError
from edge.files.pictures import is_picture, list_pictures
from export.datasets.category import LabelledPicture
from export.metrics.records import GOOD

_NAMED = 10


def good_pictures(pictures: Sequence[Path]) -> tuple[LabelledPicture, ...]:
    """`pictures` as good ones, which have no mask."""
    return tuple(LabelledPicture(path, GOOD, ()) for path in pictures)


def kinds_in(directory: Path, category: Path, *, besides: str) -> tuple[LabelledPicture, ...]:
    """The pictures of every kind of defect that has a directory, and their masks."""
    kinds = [path for path in directories_in(directory) if path.name != besides]
    if directory / GOOD in kinds:
        raise ExportError(f"{directory / GOOD}: good pictures where kinds of defects are expected; move them elsewhere")
    return tuple(picture for kind in kinds for picture in defective_pictures(kind, category))


def defective_pictures(directory: Path, category: Path) -> tuple[LabelledPicture, ...]:
    """The pictures of one kind of defect, which `directory` is named after, and their masks."""
    kind, pictures = directory.name, pictures_in(directory)
    masks = _masks(category / "ground_truth" / kind, {path.stem for path in pictures})
    stems = Counter(path.stem for path in pictures)
    twins = [path.name for path in pictures if stems[path.stem] > 1 and path.stem in masks]
    if twins:
        raise ExportError(
            f"{directory}: pictures that differ in their suffix alone, so that it is not certain which a mask belongs "
            f"to: {shorten(twins)}; rename them, and their masks"
        )
    return tuple(LabelledPicture(path, kind, masks.get(path.stem, ())) for path in pictures)


def _masks(directory: Path, stems: set[str]) -> dict[str, tuple[Path, ...]]:
    """The masks in `directory` by the stem of their pictures: `<stem>_mask.png`, `<stem>.png` or `<stem>/<n>.png`."""
    masks: dict[str, tuple[Path, ...]] = {path.name: pictures_in(path) for path in directories_in(directory)}
    for path, stem in _mask_files(directory, stems):
        masks[stem] = (*masks.get(stem, ()), path)
    refuse_stray_masks([paths[0] for stem, paths in masks.items() if stem not in stems])
    return masks


def _mask_files(directory: Path, stems: set[str]) -> Iterator[tuple[Path, str]]:
    if directory.is_dir():
        for path in sorted(filter(is_picture, directory.iterdir())):
            yield path, path.stem if path.stem in stems else path.stem.removesuffix("_mask")


def loose_masks(directory: Path, stems: set[str]) -> list[Path]:
    """The masks in `directory` that belong to none of `stems`."""
    return [path for path, stem in _mask_files(directory, stems) if stem not in stems]


def refuse_stray_masks(masks: Sequence[Path]) -> None:
    """A mask without a picture is an `ExportError`: something is missing."""
    if masks:
        names = [f"{path.parent.name}/{path.name}" for path in masks]
        raise ExportError(
            f"{masks[0].parent}: {len(masks)} masks without a picture of their name: {shorten(names)}; "
            "extract the archive again, or remove them"
        )


def pictures_in(directory: Path) -> tuple[Path, ...]:
    """The pictures in `directory`; there must be some."""
    if not directory.is_dir():
        raise ExportError(f"{directory}: no such directory; is the dataset extracted to its end?")
    try:
        return tuple(list_pictures(directory))
    except SourceError as error:
        raise ExportError(f"{error}; is the dataset extracted to its end?") from error


def directories_in(path: Path) -> list[Path]:
    """The directories in `path`, sorted; none if it is no directory."""
    if not path.is_dir():
        return []
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def stems_of(directory: Path) -> set[str]:
    """The names in `directory` without their suffixes."""
    return {path.stem for path in directory.iterdir()} if directory.is_dir() else set()


def shorten(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
