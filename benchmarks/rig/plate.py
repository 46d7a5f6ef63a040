"""A small product of the simulated line, taught as a user would: for attacks on what was taught."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.rig.station import FRAME_SIZE
from edge.files.pictures import write_picture
from edge.sources.simulated.source import draw_part

EXPORT = Path(sys.executable).parent / "patchline-export"
_SEED = 11
_GOOD_PARTS = 30
_UNSEEN = 1000  # far beyond the numbers of the parts that are taught


def teach_plate(directory: Path) -> Path:
    """Convert EfficientNet-Lite0 (from its package) and teach from good parts; returns the bundle."""
    draw_plates(directory / "good", range(_GOOD_PARTS), defect_rate=0.0)
    _export("convert", "--backbone", "efficientnet_lite0", "--input-size", "128x128", "--out", directory / "ir")
    bundle = directory / "bundle"
    _export("teach", "--ir", directory / "ir", "--images", directory / "good", "--out", bundle)
    return bundle


def draw_unseen(directory: Path, good: int, defective: int) -> None:
    """Pictures of parts that were not taught."""
    draw_plates(directory, range(_UNSEEN, _UNSEEN + good), defect_rate=0.0)
    draw_plates(directory, range(_UNSEEN + good, _UNSEEN + good + defective), defect_rate=1.0)


def draw_plates(directory: Path, numbers: range, *, defect_rate: float) -> None:
    """One picture for each number."""
    directory.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        part = draw_part(_SEED, number, FRAME_SIZE, defect_rate=defect_rate)
        write_picture(directory / f"part-{number}.png", part.image)


def _export(*arguments: str | Path) -> None:
    subprocess.run([EXPORT, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
