from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import openvino as ov
import pytest

from edge.bundle.ir import MODEL_BIN, MODEL_XML, Geometry, IrDescription, read_ir_description
from edge.errors import BundleError, ExportError
from edge.files.schema import read_verified
from edge.records import UInt8Array
from export.conversion.convert import convert
from export.conversion.drawn_pictures import draw_pictures
from export.conversion.options import ConvertOptions, WeightsChoice
from export.conversion.quantize import MINIMUM_PICTURES, Preset, _check_int8, quantize
from export.conversion.reference import make_reference
from tests.places import SHARED

RESNET18_FILE = SHARED / "weights" / "resnet18_imagenet_layers1-3.pth"
BOTTLE = SHARED / "data" / "mvtec_bottle"
PAPER = Geometry(input_height=224, input_width=224, resize_shorter=256)

SMALL = Geometry(input_height=64, input_width=96)
PICTURES = draw_pictures(12, 64, 96, seed=3)


@pytest.fixture(scope="module")
def f32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An f32 IR directory: ResNet-18's stem, layer1 and layer2, seeded random weights."""
    return small_ir(tmp_path_factory.mktemp("f32") / "ir", seed=0)


@pytest.fixture(scope="module")
def int8(f32: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The int8 IR made of `f32`."""
    out = tmp_path_factory.mktemp("int8") / "ir"
    quantize(f32, PICTURES, out)
    return out


def small_ir(out: Path, seed: int) -> Path:
    weights = WeightsChoice(random_seed=seed)
    convert(ConvertOptions("resnet18", layers=("layer1", "layer2"), geometry=SMALL, weights=weights), out)
    return out


def files(directory: Path) -> dict[str, bytes]:
    return {name: (directory / name).read_bytes() for name in (MODEL_XML, MODEL_BIN)}


def convolution_precisions(directory: Path) -> set[str]:
    """What OpenVINO says it really computes the convolutions in."""
    config = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = ov.Core().compile_model(directory / MODEL_XML, "CPU", config)
    infos = [operation.get_rt_info() for operation in compiled.get_runtime_model().get_ops()]
    return {info["runtimePrecision"].astype(str) for info in infos if info["layerType"].astype(str) == "Convolution"}


def test_the_int8_ir_executes_its_convolutions_in_int8(f32: Path, int8: Path) -> None:
    assert convolution_precisions(f32) == {"f32"}
    assert convolution_precisions(int8) <= {"u8", "i8"}


def test_int8_weights_take_about_a_quarter(f32: Path, int8: Path) -> None:
    assert (int8 / MODEL_BIN).stat().st_size < (f32 / MODEL_BIN).stat().st_size / 3


def test_the_description_changes_only_what_quantisation_changes(f32: Path, int8: Path) -> None:
    before, after = read_ir_description(f32), read_ir_description(int8)

    assert (after.precision, before.precision) == ("int8", "f32")
    assert after.quantization is not None
    assert (after.quantization.pictures, after.quantization.preset) == (12, "performance")
    assert set(after.versions) == {*before.versions, "nncf"}
    same = set(IrDescription.model_fields) - {"precision", "quantization", "reference", "versions", "files"}
    assert after.model_dump(include=same) == before.model_dump(include=same)


def test_the_reference_is_what_the_int8_ir_gives_and_not_the_f32_one(f32: Path, int8: Path) -> None:
    before, after = read_ir_description(f32).reference, read_ir_description(int8).reference

    assert before is not None
    assert after == make_reference(ov.Core().read_model(int8 / MODEL_XML), SMALL)
    assert 0 < np.linalg.norm(np.subtract(after, before)) < np.linalg.norm(before)


def test_the_files_are_those_described(int8: Path) -> None:
    description = read_ir_description(int8)

    assert sorted(path.name for path in int8.iterdir()) == ["model.bin", "model.json", "model.xml"]
    for name in (MODEL_XML, MODEL_BIN):
        assert read_verified(int8, name, description.files[name])


@pytest.fixture(scope="module")
def signed_int8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """EfficientNet-Lite0 in int8, pretrained: its layers are signed, unlike ResNet's behind their ReLU."""
    directory = tmp_path_factory.mktemp("signed")
    convert(ConvertOptions("efficientnet_lite0", geometry=Geometry(input_height=96, input_width=96)), directory / "f32")
    quantize(directory / "f32", draw_pictures(12, 96, 96, seed=3), directory / "int8")
    return directory / "int8"


RELATIVE_ERROR = """
import sys
from pathlib import Path
import numpy as np, openvino as ov
from edge.bundle.ir import read_ir_description
from export.conversion.reference import make_reference
directory = Path(sys.argv[1])
description = read_ir_description(directory)
got = make_reference(ov.Core().read_model(directory / "model.xml"), description.geometry)
print(np.linalg.norm(np.subtract(got, description.reference)) / np.linalg.norm(description.reference))
"""


@pytest.mark.parametrize("level", ["AVX512_CORE_VNNI", "AVX2"])
def test_signed_features_are_the_same_on_every_instruction_set(signed_int8: Path, level: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RELATIVE_ERROR, str(signed_int8)],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": level},
        check=True,
        capture_output=True,
        text=True,
    )
    assert float(done.stdout) < 0.05  # pools on signed int8, or weights in the whole range: .3 and more


def test_input_and_output_keep_their_names_and_types(int8: Path) -> None:
    model = ov.Core().read_model(int8 / MODEL_XML)

    assert (model.input(0).get_any_name(), model.output(0).get_any_name()) == ("image", "patches")
    assert (model.input(0).element_type, model.output(0).element_type) == (ov.Type.u8, ov.Type.f32)
    assert tuple(model.input(0).shape) == (1, 64, 96, 3)


def test_no_more_pictures_are_taken_than_the_subset(f32: Path, tmp_path: Path) -> None:
    pictures = iter(PICTURES)

    description = quantize(f32, pictures, tmp_path / "ir", subset_size=9, preset="mixed")

    assert description.quantization is not None
    assert (description.quantization.pictures, description.quantization.preset) == (9, "mixed")
    assert len(list(pictures)) == 3


def test_it_is_silent_but_for_its_report(f32: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []

    quantize(f32, PICTURES, tmp_path / "ir", report=lines.append)

    assert capfd.readouterr() == ("", "")
    assert lines[0].endswith("quantising on 12 pictures")
    assert "int8 features differ from f32 by" in lines[1]


def test_asked_to_nncf_talks_on_standard_error(f32: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    quantize(f32, PICTURES, tmp_path / "ir", verbose=True)

    out, err = capfd.readouterr()
    assert out == ""
    assert "Statistics collection" in err


def test_too_few_pictures_are_refused_with_what_is_needed(f32: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=rf"expected at least {MINIMUM_PICTURES} pictures .*, got 7"):
        quantize(f32, PICTURES[:7], tmp_path / "ir")

    assert list(tmp_path.iterdir()) == []


def test_a_picture_of_another_size_is_refused(f32: Path, tmp_path: Path) -> None:
    pictures = [*PICTURES, *draw_pictures(1, 96, 64)]

    with pytest.raises(
        ExportError, match=r"calibration picture 12: expected \(64, 96, 3\) uint8, got \(96, 64, 3\) uint8"
    ):
        quantize(f32, pictures, tmp_path / "ir")


def test_an_int8_ir_is_not_quantised_again(int8: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="expected an f32 IR, got int8"):
        quantize(int8, PICTURES, tmp_path / "ir")


def test_an_existing_directory_is_refused_and_kept(f32: Path, tmp_path: Path) -> None:
    (tmp_path / "ir").mkdir()
    (tmp_path / "ir" / "notes.txt").write_text("precious")

    with pytest.raises(ExportError, match="exists already"):
        quantize(f32, PICTURES, tmp_path / "ir")
    with pytest.raises(ExportError, match="only an IR directory"):
        quantize(f32, PICTURES, tmp_path / "ir", overwrite=True)

    assert (tmp_path / "ir" / "notes.txt").read_text() == "precious"


def test_an_ir_may_be_replaced_by_its_own_int8(tmp_path: Path) -> None:
    out = small_ir(tmp_path / "ir", seed=0)

    description = quantize(out, PICTURES, out, overwrite=True)

    assert read_ir_description(out) == description
    assert description.precision == "int8"


def test_a_directory_that_is_no_ir_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"model\.json: cannot be read"):
        quantize(tmp_path / "nowhere", PICTURES, tmp_path / "ir")


def test_an_ir_changed_by_one_byte_is_refused(tmp_path: Path) -> None:
    source = small_ir(tmp_path / "f32", seed=0)
    data = bytearray((source / MODEL_BIN).read_bytes())
    data[1000] ^= 1
    (source / MODEL_BIN).write_bytes(data)

    with pytest.raises(BundleError, match=r"model\.bin: contents differ from the record"):
        quantize(source, PICTURES, tmp_path / "ir")


def test_a_model_with_nothing_quantised_is_refused(f32: Path) -> None:
    with pytest.raises(ExportError, match="quantised no operation"):
        _check_int8(files(f32), files(f32), [PICTURES[0][None]])


def test_an_int8_model_that_lost_its_features_is_refused(int8: Path, tmp_path: Path) -> None:
    other = small_ir(tmp_path / "other", seed=1)

    with pytest.raises(ExportError, match=r"int8 features differ from f32 by \d+% on 1 pictures: expected at most"):
        _check_int8(files(other), files(int8), [PICTURES[0][None]])


def test_it_works_where_torch_is_not_installed(f32: Path, tmp_path: Path) -> None:
    program = f"""
import sys
sys.modules["torch"] = None  # import torch raises ImportError, as where it is missing
from pathlib import Path
from export.conversion.drawn_pictures import draw_pictures
from export.conversion.quantize import quantize
quantize(Path({str(f32)!r}), draw_pictures(12, 64, 96, seed=3), Path({str(tmp_path / "ir")!r}))
"""

    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)

    assert (done.stdout, done.stderr) == ("", "")
    assert read_ir_description(tmp_path / "ir").precision == "int8"


@pytest.mark.long
@pytest.mark.shared
@pytest.mark.skipif(not RESNET18_FILE.exists(), reason="the weights do not lie beside the checkout")
@pytest.mark.parametrize("preset", ["performance", "mixed"])
def test_real_features_stay_close_to_f32(preset: Preset, tmp_path: Path) -> None:
    options = ConvertOptions("resnet18", geometry=PAPER, weights=WeightsChoice(file=RESNET18_FILE))
    convert(options, tmp_path / "f32")
    lines: list[str] = []

    quantize(tmp_path / "f32", bottles(10), tmp_path / "int8", preset=preset, report=lines.append)

    error_percent = float(lines[-1].partition(" by ")[2].partition("%")[0])
    assert 0.5 < error_percent < 10  # measured: 5


def bottles(count: int) -> list[UInt8Array]:
    paths = sorted((BOTTLE / "train" / "good").iterdir())[:count]
    pictures = [cv2.imread(str(path)) for path in paths]
    return [
        np.asarray(cv2.resize(picture, (224, 224), interpolation=cv2.INTER_AREA), np.uint8)
        for picture in pictures
        if picture is not None
    ]
