"""Small labelled datasets of drawn parts, for what evaluates."""

from __future__ import annotations

from pathlib import Path

from edge.files.pictures import write_picture
from tests.bundles import UNSEEN, draw_defective, draw_good

TAUGHT = 20
GOOD_TESTED = 4
# Parts whose defects are large: kind of directory → numbers.
DEFECTS = {"edge": (0, 14), "plate": (4, 19, 24)}
DEFECTIVE_TESTED = 5


def draw_category(category: Path, *, masks: bool) -> Path:
    """A category in MVTec AD's layout."""
    for number in range(TAUGHT):
        write_picture(category / "train" / "good" / f"{number:03}.png", draw_good(number).image)
    for number in range(GOOD_TESTED):
        write_picture(category / "test" / "good" / f"{number:03}.png", draw_good(UNSEEN + number).image)
    for kind, numbers in DEFECTS.items():
        for number in numbers:
            part = draw_defective(number)
            write_picture(category / "test" / kind / f"{number:03}.png", part.image)
            if masks:
                write_picture(category / "ground_truth" / kind / f"{number:03}_mask.png", part.mask)
    return category
