"""Older processors: the engines are told which instructions they may use, in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge.bundle.ir import Geometry
from edge.files.pictures import list_pictures, read_picture
from export.conversion.convert import convert
from export.conversion.options import ConvertOptions, WeightsChoice
from export.conversion.quantize import quantize
from export.teaching.teach import TeachOptions, teach

EDGE = Path(sys.executable).parent / "patchline-edge"
GEOMETRY = Geometry(input_height=128, input_width=128)

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def int8_bundle(good_pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ResNet-18, random weights, taught through its int8 IR."""
    directory = tmp_path_factory.mktemp("int8")
    options = ConvertOptions(
        "resnet18", layers=("layer1", "layer2"), geometry=GEOMETRY, weights=WeightsChoice(random_seed=0)
    )
    convert(options, directory / "f32")
    parts = [read_picture(path)[:128, :128] for path in list_pictures(str(good_pictures))[:8]]
    quantize(directory / "f32", parts, directory / "ir")
    out = directory / "bundle"
    teach(TeachOptions(ir=directory / "ir", images=good_pictures, out=out, allow_random=True))
    return out


@pytest.mark.parametrize("precision", ["f32", "int8"])
@pytest.mark.parametrize("level", ["AVX2", "AVX512_CORE"])
def test_an_older_processor_reproduces_the_golden_scores_of_this_one(
    bundle_dir: Path, request: pytest.FixtureRequest, tmp_path: Path, precision: str, level: str
) -> None:
    bundle = bundle_dir if precision == "f32" else request.getfixturevalue("int8_bundle")
    older = {"ONEDNN_MAX_CPU_ISA": level, "FAISS_SIMD_LEVEL": "AVX2", "OPENBLAS_CORETYPE": "Haswell"}
    done = subprocess.run(
        [str(EDGE), "check", "--bundle", str(bundle)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **older, "XDG_CACHE_HOME": str(tmp_path), "CACHE_DIRECTORY": ""},
    )
    assert done.returncode == 0, done.stderr
    assert "golden self-test passed" in done.stdout
    assert done.stdout.count("golden/") == 3
