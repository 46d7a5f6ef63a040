"""A small bundle of the drawn plate, for campaigns that attack the whole service: made in less than a minute."""

from __future__ import annotations

from pathlib import Path

from benchmarks.rig.station import FRAME_SIZE
from edge.bundle.ir import Geometry
from edge.files.pictures import write_picture
from edge.sources.simulated.source import draw_part
from export.conversion.convert import convert
from export.conversion.options import ConvertOptions, WeightsChoice
from export.teaching.teach import TeachOptions, teach

_GOOD_PARTS = 30
_LINE_SEED = 11


def make_bundle(directory: Path) -> Path:
    """Convert EfficientNet-Lite0 and teach it below `directory`."""
    pictures = directory / "good"
    pictures.mkdir()
    for number in range(_GOOD_PARTS):
        part = draw_part(_LINE_SEED, number, FRAME_SIZE, defect_rate=0.0)
        write_picture(pictures / f"good-{number}.png", part.image)
    geometry = Geometry(input_height=128, input_width=128)
    convert(ConvertOptions(backbone="efficientnet_lite0", geometry=geometry, weights=WeightsChoice()), directory / "ir")
    teach(TeachOptions(ir=directory / "ir", images=pictures, out=directory / "bundle"))
    return directory / "bundle"
