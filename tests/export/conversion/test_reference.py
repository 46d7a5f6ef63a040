from __future__ import annotations

import hashlib
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from edge.bundle.bundle import read_bundle
from edge.bundle.ir import (
    MODEL_BIN,
    MODEL_JSON,
    MODEL_XML,
    REFERENCE_NUMBERS,
    Geometry,
    IrDescription,
    read_ir_description,
)
from edge.engine.embedder import Embedder
from edge.errors import ExportError
from edge.files.pictures import list_pictures
from edge.files.schema import write_json
from edge.records import Precision
from export.conversion.make_ir import load_inputs
from export.conversion.quantize import quantize
from export.conversion.reference import MAXIMUM_REFERENCE_ERROR, FeaturesError, check_features, draw_reference, project
from export.teaching.latency_budget import arithmetics
from export.teaching.teach import TeachOptions, teach

EXPORT = Path(sys.executable).parent / "patchline-export"
CPU_FLAGS = Path("/proc/cpuinfo")
HAS_AMX = CPU_FLAGS.exists() and "amx_int8" in CPU_FLAGS.read_text().split()


def open_embedder(ir_dir: Path, precision: Precision = "f32") -> Embedder:
    xml, weights = ((ir_dir / name).read_bytes() for name in (MODEL_XML, MODEL_BIN))
    return Embedder(read_ir_description(ir_dir), xml, weights, precision=precision)


def referenced(ir_dir: Path) -> tuple[IrDescription, tuple[float, ...]]:
    ir = read_ir_description(ir_dir)
    assert ir.reference is not None
    return ir, ir.reference


def with_reference(ir: IrDescription, reference: Sequence[float] | None) -> IrDescription:
    return ir.model_copy(update={"reference": None if reference is None else tuple(reference)})


def copy_with(ir_dir: Path, reference: Sequence[float] | None, out: Path) -> Path:
    """The IR directory with another reference."""
    shutil.copytree(ir_dir, out)
    write_json(with_reference(read_ir_description(out), reference), out / MODEL_JSON, ExportError)
    return out


def test_the_picture_is_the_same_wherever_and_whenever_it_is_drawn() -> None:
    picture = draw_reference(Geometry(input_height=64, input_width=96))
    assert picture.shape == (64, 96, 3)
    assert picture.dtype == np.uint8
    assert hashlib.sha256(picture.tobytes()).hexdigest()[:16] == "4643d781ffba2cc1"


def test_the_picture_is_more_than_noise() -> None:
    picture = draw_reference(Geometry(input_height=256, input_width=256)).astype(np.float64)
    areas = picture.reshape(4, 64, 4, 64, 3).mean((1, 3))
    assert picture.std() > 40
    assert areas.std() > 20  # of plain noise: below 2


def test_the_numbers_are_the_same_wherever_and_whenever_they_are_made() -> None:
    numbers = project(np.arange(1, 1001, dtype=np.float32).reshape(10, 100))
    assert len(numbers) == REFERENCE_NUMBERS
    assert numbers[:3] == (200.0, -1014.0, 142.0)


def test_the_numbers_keep_distances() -> None:
    random = np.random.default_rng(0)
    first, second = random.standard_normal((2, 256, 100), np.float32)
    kept = math.dist(project(first), project(second)) / float(np.linalg.norm(first - second))
    assert 0.6 < kept < 1.4


@pytest.mark.parametrize("precision", arithmetics("CPU"))
def test_features_of_the_machine_that_made_the_ir_are_accepted(ir_dir: Path, precision: Precision) -> None:
    ir, _ = referenced(ir_dir)
    check_features(ir_dir, ir, open_embedder(ir_dir, precision))


def test_features_within_the_bound_are_accepted_and_beyond_it_refused(ir_dir: Path) -> None:
    ir, reference = referenced(ir_dir)
    embedder = open_embedder(ir_dir)
    within, beyond = (1 / (1 + factor * MAXIMUM_REFERENCE_ERROR) for factor in (0.95, 1.05))
    check_features(ir_dir, with_reference(ir, [within * number for number in reference]), embedder)
    with pytest.raises(FeaturesError, match=r"expected a relative difference of at most 20%, got 21%"):
        check_features(ir_dir, with_reference(ir, [beyond * number for number in reference]), embedder)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 0.0])
def test_a_reference_that_nothing_can_agree_with_is_refused(ir_dir: Path, number: float) -> None:
    ir, _ = referenced(ir_dir)
    with pytest.raises(FeaturesError, match="gives other features here"):
        check_features(ir_dir, with_reference(ir, [number] * REFERENCE_NUMBERS), open_embedder(ir_dir))


def test_the_refusal_says_where_on_what_and_what_to_do(ir_dir: Path) -> None:
    ir, reference = referenced(ir_dir)
    other = with_reference(ir, [-number for number in reference])
    with pytest.raises(FeaturesError, match=r"this f32 IR .* here \(CPU, f32\) .* got 200%.*convert again") as refusal:
        check_features(ir_dir, other, open_embedder(ir_dir))
    assert str(refusal.value).startswith(str(ir_dir))
    assert refusal.value.exit_code == 7
    with pytest.raises(FeaturesError, match=r"this int8 IR .*Use the f32 IR it came from"):
        check_features(ir_dir, other.model_copy(update={"precision": "int8"}), open_embedder(ir_dir))


def test_a_product_is_not_taught_with_features_that_are_not_those_recorded(
    ir_dir: Path, good_pictures: Path, tmp_path: Path
) -> None:
    _, reference = referenced(ir_dir)
    wrong = copy_with(ir_dir, [-number for number in reference], tmp_path / "wrong")
    with pytest.raises(FeaturesError, match="gives other features here"):
        teach(TeachOptions(ir=wrong, images=good_pictures, out=tmp_path / "bundle"))
    assert [path.name for path in tmp_path.iterdir()] == ["wrong"]


def test_an_older_ir_without_a_reference_teaches_the_same_bank(
    ir_dir: Path, good_pictures: Path, bundle_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = TeachOptions(
        ir=copy_with(ir_dir, None, tmp_path / "older"), images=good_pictures, out=tmp_path / "bundle"
    )
    teach(options)
    assert "was not checked" not in capsys.readouterr().err
    assert (read_bundle(options.out).bank == read_bundle(bundle_dir).bank).all()


def test_of_an_older_int8_ir_it_is_said_that_it_was_not_checked(
    ir_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    older = with_reference(read_ir_description(ir_dir), None).model_copy(update={"precision": "int8"})
    check_features(ir_dir, older, open_embedder(ir_dir))
    assert "int8 was not checked on this machine" in capsys.readouterr().err


def teach_without_amx(options: TeachOptions) -> subprocess.CompletedProcess[str]:
    """`teach` as on a processor that has AVX2 and no more."""
    return subprocess.run(
        [str(EXPORT), "teach", "--ir", options.ir, "--images", str(options.images), "--out", options.out],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"},
    )


@pytest.mark.skipif(not HAS_AMX, reason="hardware: without AMX the int8 IR is refused when it is made")
def test_an_int8_ir_that_is_made_here_is_taught_on_an_older_processor_too(
    ir_dir: Path, good_pictures: Path, tmp_path: Path
) -> None:
    inputs = load_inputs(list_pictures(str(good_pictures)), read_ir_description(ir_dir).geometry, 30)
    quantize(ir_dir, inputs, tmp_path / "int8")
    options = TeachOptions(ir=tmp_path / "int8", images=good_pictures, out=tmp_path / "bundle")
    check_features(options.ir, read_ir_description(options.ir), open_embedder(options.ir))

    taught = teach_without_amx(options)
    assert taught.returncode == 0, taught.stderr
    assert read_bundle(options.out).manifest.ir.precision == "int8"
