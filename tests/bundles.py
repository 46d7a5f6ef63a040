"""A real IR, drawn pictures and a bundle taught from them, made once for the whole run."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from benchmarks.rig.station import FRAME_SIZE
from edge.bundle.bundle import MANIFEST, Manifest, compute_identity, identity_of
from edge.bundle.ir import Geometry
from edge.files.pictures import write_picture
from edge.files.schema import hash_bytes, read_json
from edge.records import Frame, FrameIdentity, UInt8Array
from edge.sources.simulated.source import SimulatedPart, draw_part
from export.conversion.convert import convert
from export.conversion.options import ConvertOptions, WeightsChoice
from export.teaching.teach import TeachOptions, teach

GOOD_PARTS = 30
DEFECTIVE_PARTS = 8
LINE_SEED = 11
# Far beyond the numbers of the parts that were taught.
UNSEEN = 1000


@pytest.fixture(scope="session")
def ir_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """EfficientNet-Lite0 with its published weights, at a small geometry."""
    options = ConvertOptions(
        backbone="efficientnet_lite0",
        geometry=Geometry(input_height=128, input_width=128),
        weights=WeightsChoice(),
    )
    return make_once(tmp_path_factory, "efficientnet_lite0", lambda out: convert(options, out))


@pytest.fixture(scope="session")
def good_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of good parts."""
    directory = tmp_path_factory.mktemp("good")
    for number in range(GOOD_PARTS):
        write_picture(directory / f"good-{number}.png", draw_good(number).image)
    return directory


@pytest.fixture(scope="session")
def defective_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of defective parts."""
    directory = tmp_path_factory.mktemp("defective")
    for number in range(DEFECTIVE_PARTS):
        write_picture(directory / f"defective-{number}.png", draw_defective(number).image)
    return directory


@pytest.fixture(scope="session")
def bundle_dir(tmp_path_factory: pytest.TempPathFactory, ir_dir: Path, good_pictures: Path) -> Path:
    """Taught from `good_pictures`."""
    return make_once(
        tmp_path_factory, "plate", lambda out: teach(TeachOptions(ir=ir_dir, images=good_pictures, out=out))
    )


def make_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The directory that `make` writes, made by the first process of a parallel run that asks for it."""
    base = tmp_path_factory.getbasetemp()
    out = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{out}.lock"):
        if not out.exists():
            make(out)
    return out


def draw_good(number: int) -> SimulatedPart:
    """A good part of the taught product."""
    return draw_part(LINE_SEED, number, FRAME_SIZE, defect_rate=0.0)


def draw_defective(number: int) -> SimulatedPart:
    """A defective part of the taught product, with the truth about it."""
    return draw_part(LINE_SEED, number, FRAME_SIZE, defect_rate=1.0)


def make_frame(image: UInt8Array, sequence: int = 0) -> Frame:
    """A frame captured now."""
    return Frame(FrameIdentity(sequence, time.time(), time.monotonic()), image)


def edit_and_seal(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Edit a bundle's manifest as somebody would who makes its identity right again, whatever it then says."""
    path = directory / MANIFEST
    contents = json.loads(path.read_bytes())
    change(contents)
    contents["identity"] = identity_of(contents)
    path.write_text(json.dumps(contents), encoding="utf-8")


def reseal(directory: Path, changes: Mapping[str, Any], files: Mapping[str, bytes] | None = None) -> None:
    """Change a bundle as somebody would who makes another valid one: contents, hashes and identity agree."""
    manifest = read_json(directory / MANIFEST, Manifest)
    records = dict(manifest.files)
    for name, contents in (files or {}).items():
        (directory / name).write_bytes(contents)
        records[name] = hash_bytes(contents)
    changed = manifest.model_copy(update={**changes, "files": records})
    sealed = changed.model_copy(update={"identity": compute_identity(changed)})
    (directory / MANIFEST).write_text(sealed.model_dump_json(), encoding="utf-8")
