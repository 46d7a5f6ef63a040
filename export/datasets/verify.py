"""What is wrong with a dataset, before it is relied on: every picture and every mask is opened once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.errors import ExportError, PatchlineError, SourceError
from edge.files.names import shown
from edge.files.pictures import read_picture
from edge.terminal import phase
from export.datasets.category import Category, CategorySummary, KindSummary, LabelledPicture
from export.datasets.find import find_categories
from export.datasets.ground_truth import read_mask_of
from export.datasets.masks import shorten
from export.metrics.records import GOOD

Size = tuple[int, int]  # height, width


@dataclass(frozen=True, slots=True)
class _Look:
    """What was seen of one category."""

    sizes: dict[Path, Size]  # of the pictures that can be read
    problems: tuple[PatchlineError, ...]


def verify_dataset(root: Path, wanted: Sequence[str] = ()) -> tuple[CategorySummary, ...]:
    """Check every picture and every mask, and count them.

    Raises:
        ExportError: as `find_categories`; or files cannot be read, masks have another size than their pictures, mark
            nothing or are none; up to ten are named for each category.
    """
    problems, summaries = [], []
    for category in find_categories(root, wanted):
        bad = _look_at(category).problems
        if bad:
            problems.append(_named(category, bad))
        summaries.append(_summary(category))
    if problems:
        raise ExportError("\n".join(problems))
    return tuple(summaries)


def check_category(category: Category) -> dict[Path, Size]:
    """What `verify_dataset` checks, of one category that is about to be used; the sizes of all its pictures.

    Raises:
        SourceError: pictures or masks cannot be read; up to ten are named.
        ExportError: masks have another size than their pictures, mark nothing or are none.
    """
    look = _look_at(category)
    if look.problems:
        raise type(look.problems[0])(_named(category, look.problems))
    return look.sizes


def _look_at(category: Category) -> _Look:
    good = [LabelledPicture(path, GOOD, ()) for path in category.train + category.validation]
    sizes: dict[Path, Size] = {}
    problems: list[PatchlineError] = []
    pictures = [*good, *category.test]
    with phase(f"checking {shown(category.name)}", len(pictures)) as done:
        for number, picture in enumerate(pictures):
            try:
                height, width = read_picture(picture.path).shape[:2]
                sizes[picture.path] = (height, width)
                read_mask_of(picture, height, width)
            except (SourceError, ExportError) as error:
                problems.append(error)
            done(number + 1)
    return _Look(sizes, tuple(problems))


def _summary(category: Category) -> CategorySummary:
    pictures = Counter(picture.kind for picture in category.test)
    masks = Counter(picture.kind for picture in category.test if picture.masks)
    return CategorySummary(
        name=shown(category.name),
        layout=category.layout,
        train=len(category.train),
        validation=len(category.validation),
        kinds=tuple(KindSummary(shown(kind), pictures[kind], masks[kind]) for kind in sorted(pictures)),
    )


def _named(category: Category, problems: Sequence[PatchlineError]) -> str:
    named = shorten([str(problem) for problem in problems])
    return f"{category.path}: {len(problems)} files cannot be used: {named}; mend them, or copy the dataset again"
