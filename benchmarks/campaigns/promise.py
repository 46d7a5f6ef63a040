"""Parts photographed five times each: what is promised of false rejects, and what new parts make of it.

Taught twice from the same frames: as if each were a part of its own (`--independent`), and as `teach` does by itself.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.campaigns import CampaignError, Rows
from edge.bundle.bundle import Guarantee, read_bundle
from edge.bundle.ir import Geometry
from edge.files.pictures import write_picture
from edge.inspection.inspector import Inspector
from edge.records import Frame, FrameIdentity, UInt8Array
from edge.sources.simulated.source import draw_part
from export.conversion.make_ir import make_ir
from export.conversion.options import ConvertOptions
from export.metrics.operating import rate_of
from export.metrics.records import Rate
from export.teaching.teach import TeachOptions, teach

COUNT = 8  # products, each with its own parts
_PARTS, _FRAMES = 20, 5  # taught of each
_NEW = 100  # inspected of each
_SIZE = (192, 256)  # height, width
_NOISE = 2.0  # grey levels
_FIRST_NEW = 1000
_RATE = 0.05


def run(count: int, seed: int) -> Rows:
    """Teach `count` products from five frames of each of twenty parts, and inspect a hundred new parts of each.

    Raises:
        CampaignError: more new parts are rejected than the promise by part allows at its confidence.
    """
    with tempfile.TemporaryDirectory(prefix="patchline-") as directory:
        network = ConvertOptions("efficientnet_lite0", geometry=Geometry(input_height=128, input_width=128))
        make_ir(network, Path(directory) / "ir")
        tried = [_try_product(Path(directory), seed + number) for number in range(count)]
    frames, parts = (_together(tried, way) for way in (0, 1))
    promised = tried[0][1][0]
    if parts.low > promised.rate_at_confidence:
        raise CampaignError(
            f"{parts.count} of {parts.parts} new parts rejected, where {promised.rate_at_confidence:.1%} was promised"
        )
    return [
        ("frames as parts: promised at most", f"{100 * tried[0][0][0].expected_rate:.1f} %"),
        ("frames as parts: rejected of the new", f"{100 * frames.rate:.1f} %"),
        ("by part: promised at most", f"{100 * promised.expected_rate:.1f} %"),
        ("by part: rejected of the new", f"{100 * parts.rate:.1f} %"),
    ]


def _try_product(directory: Path, seed: int) -> tuple[tuple[Guarantee, Rate], tuple[Guarantee, Rate]]:
    """One product: frames taken for parts, and by part."""
    random = np.random.default_rng(seed)
    good = directory / f"good-{seed}"
    for number in range(_PARTS * _FRAMES):
        write_picture(good / f"{number}.png", _photograph(seed, number // _FRAMES, random))
    new = [_photograph(seed, _FIRST_NEW + number, random) for number in range(_NEW)]
    options = TeachOptions(
        ir=directory / "ir",
        images=good,
        out=directory / "bundle",
        coreset_ratio=0.05,
        false_reject_rate=_RATE,
        seed=seed,
        replace=True,
    )
    return _teach_and_inspect(replace(options, independent=True), new), _teach_and_inspect(options, new)


def _together(tried: Sequence[tuple[tuple[Guarantee, Rate], tuple[Guarantee, Rate]]], way: int) -> Rate:
    rates = [product[way][1] for product in tried]
    return rate_of(sum(rate.count for rate in rates), sum(rate.parts for rate in rates))


def _photograph(line: int, part: int, random: np.random.Generator) -> UInt8Array:
    image = draw_part(line, part, _SIZE, 0.0).image
    return np.clip(image + random.normal(0, _NOISE, image.shape), 0, 255).astype(np.uint8)


def _teach_and_inspect(options: TeachOptions, new: list[UInt8Array]) -> tuple[Guarantee, Rate]:
    guarantee = teach(options).threshold.guarantee
    assert guarantee is not None  # of the conformal threshold
    inspector = Inspector(read_bundle(options.out))
    frames = [Frame(FrameIdentity(number, 0.0, 0.0), image) for number, image in enumerate(new)]
    rejected = sum(inspector.inspect(frame).verdict.score > inspector.threshold for frame in frames)
    return guarantee, rate_of(int(rejected), len(new))
