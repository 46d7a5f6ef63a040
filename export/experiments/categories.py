"""What an experiment changes of a category: how many good pictures teach, and whether defective ones are among them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edge.errors import ExportError
from export.datasets.category import Category
from export.metrics.records import GOOD

NOISE = (0.0, 0.01, 0.02, 0.05, 0.1)  # shares of defective pictures among those that teach


def few_shots(category: Category, seed: int, *, shots: int) -> Category:
    """The bank from `shots` good pictures, drawn by the seed; the other good pictures set the threshold.

    Raises:
        ExportError: the category has too few good pictures.
    """
    if shots >= len(category.train):
        raise ExportError(f"{category.path}: {shots} shots need more than {len(category.train)} good pictures")
    order = np.random.default_rng([seed, 4]).permutation(len(category.train))
    chosen = tuple(category.train[index] for index in sorted(order[:shots]))
    others = tuple(category.train[index] for index in sorted(order[shots:]))
    return replace(category, train=chosen, validation=others)


def with_noise(category: Category, seed: int, *, share: float) -> Category:
    """`share` of the teaching pictures are defective ones, taken out of the test set.

    The same parts leave the test set whatever the share, so that all shares are tested on the same pictures.

    Raises:
        ExportError: there are too few defective pictures.
    """
    most = round(max(NOISE) / (1 - max(NOISE)) * len(category.train))
    defective = [index for index, picture in enumerate(category.test) if picture.kind != GOOD]
    if most > len(defective) // 2:
        raise ExportError(f"{category.path}: {len(defective)} defective pictures are too few to move {most} of them")
    moved = np.random.default_rng([seed, 5]).permutation(defective)[:most]
    count = round(share / (1 - share) * len(category.train))
    train = (*category.train, *(category.test[index].path for index in moved[:count]))
    left = frozenset(int(index) for index in moved)
    test = tuple(picture for index, picture in enumerate(category.test) if index not in left)
    return replace(category, train=train, test=test)
