"""What is wrong with a dataset, before it is relied on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from edge.errors import ExportError, SourceError
from edge.files.pictures import read_picture
from edge.terminal import phase
from export.datasets.category import GOOD, Category, CategorySummary, KindSummary, LabelledPicture
from export.datasets.find import find_categories
from export.datasets.masks import (
    read_mask_of,
    shorten,
)


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


def _named(problems: Sequence[str]) -> str:
    return f"{len(problems)} files cannot be used: {shorten(problems)}"
