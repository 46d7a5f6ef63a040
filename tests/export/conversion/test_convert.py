from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import openvino as ov
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from edge.bundle.ir import MODEL_BIN, MODEL_XML, EmbeddingName, Geometry, read_ir_description
from edge.errors import ExportError
from edge.files.schema import read_verified
from edge.records import UInt8Array
from export.conversion.backbones import normalisation
from export.conversion.convert import (
    ConcatEmbedding,
    PooledEmbedding,
    build_extractor,
    convert,
    embed_with_torch,
    pooling_matrix,
)
from export.conversion.drawn_pictures import draw_pictures
from export.conversion.ir_files import load_model, run_model
from export.conversion.names import BACKBONES, BackboneName
from export.conversion.options import ConvertOptions, WeightsChoice
from export.conversion.reference import make_reference
from tests.places import SHARED

RESNET18_FILE = SHARED / "weights" / "resnet18_imagenet_layers1-3.pth"
BOTTLE = SHARED / "data" / "mvtec_bottle"
PAPER = Geometry(input_height=224, input_width=224, resize_shorter=256)

SMALL = Geometry(input_height=64, input_width=96, resize_shorter=112)
RANDOM = WeightsChoice(random_seed=0)
SHALLOW = ConvertOptions("resnet18", layers=("layer1",), geometry=SMALL, weights=RANDOM)


QUICK = ("resnet18", "efficientnet_lite0")


@pytest.mark.parametrize(
    "backbone",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.long) for name in BACKBONES],
)
def test_every_backbone_converts_and_agrees_with_torch(backbone: BackboneName, tmp_path: Path) -> None:
    options = ConvertOptions(backbone, geometry=SMALL, weights=RANDOM)

    description = convert(options, tmp_path / "ir")

    assert description.parity.max_relative_error < 1e-4
    assert description.grid == (8, 12)
    assert description.backbone == backbone


@pytest.mark.parametrize("backbone", ["resnet18", "wide_resnet50_2", "efficientnet_lite0"])
def test_the_pooled_embedding_converts_and_agrees_with_torch(backbone: BackboneName, tmp_path: Path) -> None:
    options = ConvertOptions(backbone, embedding="pooled", geometry=SMALL, weights=RANDOM)

    description = convert(options, tmp_path / "ir")

    assert description.parity.max_relative_error < 1e-4
    assert (description.embedding, description.dimension) == ("pooled", 1024)


@pytest.mark.parametrize("embedding", ["concat", "pooled"])
@pytest.mark.parametrize("layers", [("layer2",), ("layer1", "layer3"), ("layer1", "layer2", "layer3")])
def test_any_layers_convert_on_the_grid_of_the_first(
    layers: tuple[str, ...], embedding: EmbeddingName, tmp_path: Path
) -> None:
    options = ConvertOptions("efficientnet_lite0", layers=layers, embedding=embedding, neighbourhood=5, geometry=SMALL)

    description = convert(options, tmp_path / "ir")

    assert description.parity.max_relative_error < 1e-4
    assert description.grid == ((8, 12) if layers == ("layer2",) else (16, 24))
    assert description.dimension == (
        1024 if embedding == "pooled" else {1: 40, 2: 24 + 112, 3: 24 + 40 + 112}[len(layers)]
    )


def test_an_input_that_no_stride_divides_converts(tmp_path: Path) -> None:
    geometry = Geometry(input_height=75, input_width=50)

    for backbone in ("resnet18", "efficientnet_lite0"):
        options = ConvertOptions(backbone, geometry=geometry, weights=RANDOM)
        description = convert(options, tmp_path / backbone)

        assert description.grid == (10, 7)
        assert description.parity.max_relative_error < 1e-4


def authors_embedding(maps: list[Tensor], side: int, dimension: int = 1024) -> Tensor:
    """amazon-science/patchcore-inspection: PatchMaker.patchify, PatchCore._embed, MeanMapper and Aggregator."""
    patches, shapes = [], []
    for layer in maps:
        unfolded = functional.unfold(layer, side, padding=(side - 1) // 2)
        unfolded = unfolded.reshape(*layer.shape[:2], side, side, -1).permute(0, 4, 1, 2, 3)
        patches.append(unfolded)  # (1, positions, channels, side, side)
        shapes.append(layer.shape[-2:])
    for index in range(1, len(maps)):
        upsampled = patches[index].reshape(1, *shapes[index], *patches[index].shape[2:])
        upsampled = upsampled.permute(0, 3, 4, 5, 1, 2)
        kept = upsampled.shape[:-2]
        upsampled = upsampled.reshape(-1, 1, *shapes[index])
        upsampled = functional.interpolate(upsampled, size=shapes[0], mode="bilinear", align_corners=False)
        upsampled = upsampled.reshape(*kept, *shapes[0]).permute(0, 4, 5, 1, 2, 3)
        patches[index] = upsampled.reshape(1, -1, *upsampled.shape[-3:])
    mapped = [
        functional.adaptive_avg_pool1d(layer.reshape(layer.shape[1], 1, -1), dimension).squeeze(1) for layer in patches
    ]
    stacked = torch.stack(mapped, dim=1)
    return functional.adaptive_avg_pool1d(stacked.reshape(len(stacked), 1, -1), dimension).squeeze(1)


def random_maps(widths: tuple[int, ...], rows: int = 9, columns: int = 6) -> list[Tensor]:
    """One map for each width, each of half the grid of the one before, rounded up."""
    generator = torch.Generator().manual_seed(5)
    maps = []
    for index, width in enumerate(widths):
        size = -(-rows // 2**index), -(-columns // 2**index)
        maps.append(torch.randn(1, width, *size, generator=generator, dtype=torch.float64))
    return maps


@pytest.mark.parametrize("side", [1, 3, 5])
@pytest.mark.parametrize(
    "widths", [(512, 1024), (128, 256), (40, 112), (64, 128, 256), (24, 40, 112), (512,), (24,), (24, 40, 112, 7)]
)
def test_pooled_is_what_the_authors_code_computes(widths: tuple[int, ...], side: int) -> None:
    maps = random_maps(widths)
    ours = PooledEmbedding(widths, side, (9, 6)).double()

    with torch.inference_mode():
        got = ours(maps).flatten(2)[0].T
        expected = authors_embedding(maps, side)

    # The kernels are stored as float32.
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)


def test_pooled_wide_resnet50_is_the_closed_form() -> None:
    """Of two layers with 512 and 1024 channels: a depthwise kernel, and pairs of 3×3 means."""
    layer2, layer3 = random_maps((512, 1024), rows=8, columns=8)
    kernel = torch.tensor([[1, 1, 1], [1, 2, 1], [1, 1, 1]], dtype=torch.float64) / 10
    first = functional.conv2d(layer2, kernel.expand(512, 1, 3, 3), padding=1, groups=512)
    pairs = functional.avg_pool2d(layer3, 3, 1, 1).reshape(1, 512, 2, 4, 4).mean(2)
    second = functional.interpolate(pairs, size=(8, 8), mode="bilinear", align_corners=False)

    with torch.inference_mode():
        got = PooledEmbedding((512, 1024), 3, (8, 8)).double()([layer2, layer3])

    torch.testing.assert_close(got, torch.cat([first, second], 1), rtol=1e-6, atol=1e-6)


def test_pooled_costs_little() -> None:
    """Grouped, so that no kernel holds the zeros of a dense one."""
    for widths in ((512, 1024), (128, 256), (40, 112), (64, 128, 256)):
        weights = sum(p.numel() for p in PooledEmbedding(widths, 3, (8, 8)).parameters())

        assert weights < 100_000, widths


@pytest.mark.parametrize(("size_in", "size_out"), [(10, 4), (4, 10), (7, 7), (1152, 1024)])
def test_the_pooling_matrix_is_adaptive_average_pooling(size_in: int, size_out: int) -> None:
    values = torch.randn(1, 1, size_in, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    expected = functional.adaptive_avg_pool1d(values, size_out)[0, 0]

    torch.testing.assert_close(pooling_matrix(size_in, size_out) @ values[0, 0], expected)


def test_concat_is_anomalibs() -> None:
    maps = random_maps((12, 20))
    pool = torch.nn.AvgPool2d(3, 1, 1)
    expected = torch.cat([pool(maps[0]), functional.interpolate(pool(maps[1]), size=(9, 6), mode="bilinear")], dim=1)

    torch.testing.assert_close(ConcatEmbedding((12, 20), 3, (9, 6))(maps), expected)


def test_patches_are_row_major_over_the_grid() -> None:
    extractor, _ = build_extractor(SHALLOW)
    pictures = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))

    with torch.inference_mode():
        patches = extractor(pictures)
        layer = extractor.embedding(extractor.backbone(pictures))

    assert patches.shape == (16 * 24, 64)
    torch.testing.assert_close(patches[5 * 24 + 7], layer[0, :, 5, 7])


def test_the_ir_takes_pixels_and_gives_patches(tmp_path: Path) -> None:
    convert(SHALLOW, tmp_path / "ir")

    model = ov.Core().read_model(tmp_path / "ir" / MODEL_XML)

    assert [tuple(port.get_names()) for port in (*model.inputs, *model.outputs)] == [("image",), ("patches",)]
    assert model.input(0).element_type == ov.Type.u8
    assert tuple(model.input(0).shape) == (1, 64, 96, 3)
    assert model.output(0).element_type == ov.Type.f32
    assert tuple(model.output(0).shape) == (16 * 24, 64)


@pytest.mark.parametrize("backbone", ["resnet18", "efficientnet_lite0"])
def test_the_ir_normalises_bgr_as_the_network_was_trained(backbone: BackboneName, tmp_path: Path) -> None:
    options = ConvertOptions(backbone, layers=("layer1",), geometry=SMALL, weights=RANDOM)
    convert(options, tmp_path / "ir")
    (picture,) = draw_pictures(1, 64, 96, seed=9)
    rgb = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB).astype(np.float32)
    if backbone == "resnet18":
        normalised = (rgb / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    else:
        normalised = (rgb - 127) / 128
    extractor, _ = build_extractor(options)

    with torch.inference_mode():
        expected = extractor(torch.from_numpy(normalised.transpose(2, 0, 1)[None]).float()).numpy()
    (got,) = run_model(load_model(ir_files(tmp_path / "ir")), [picture[None]])

    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def ir_files(directory: Path) -> dict[str, bytes]:
    return {name: (directory / name).read_bytes() for name in (MODEL_XML, MODEL_BIN)}


def test_the_description_says_everything_and_is_read_back(tmp_path: Path) -> None:
    options = ConvertOptions("resnet18", layers=("layer2", "layer3"), geometry=SMALL, neighbourhood=5, weights=RANDOM)

    description = convert(options, tmp_path / "ir")

    assert read_ir_description(tmp_path / "ir") == description
    assert sorted(path.name for path in (tmp_path / "ir").iterdir()) == ["model.bin", "model.json", "model.xml"]
    for name in (MODEL_XML, MODEL_BIN):
        assert read_verified(tmp_path / "ir", name, description.files[name])
    assert description.model_dump(include={"layers", "embedding", "neighbourhood", "dimension", "precision"}) == {
        "layers": ("layer2", "layer3"),
        "embedding": "concat",
        "neighbourhood": 5,
        "dimension": 384,
        "precision": "f32",
    }
    assert description.geometry == SMALL
    assert description.weights.source == "random"
    assert description.quantization is None
    assert set(description.versions) == {"patchline", "python", "torch", "openvino"}


def test_the_reference_is_what_the_ir_gives_for_its_picture(tmp_path: Path) -> None:
    description = convert(SHALLOW, tmp_path / "ir")
    other = convert(replace(SHALLOW, weights=WeightsChoice(random_seed=1)), tmp_path / "other")

    model = ov.Core().read_model(tmp_path / "ir" / MODEL_XML)
    assert description.reference == make_reference(model, SMALL)
    assert other.reference != description.reference


def test_weights_are_stored_in_f32(tmp_path: Path) -> None:
    description = convert(SHALLOW, tmp_path / "ir")
    extractor, weights = build_extractor(SHALLOW)

    convolutions = sum(t.numel() for name, t in weights.state.items() if t.ndim == 4)
    assert description.files[MODEL_BIN].size >= 4 * convolutions
    assert extractor.dimension == 64


def test_given_pictures_are_compared_instead_of_drawn_ones(tmp_path: Path) -> None:
    given = convert(SHALLOW, tmp_path / "given", parity_pictures=draw_pictures(2, 64, 96, seed=1))
    drawn = convert(SHALLOW, tmp_path / "drawn")

    assert (given.parity.pictures, given.parity.drawn) == (2, False)
    assert (drawn.parity.pictures, drawn.parity.drawn) == (4, True)


def test_a_difference_above_the_tolerance_refuses_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"torch and IR disagree: expected .* at most 1\.0e-12 on 4 pictures"):
        convert(SHALLOW, tmp_path / "ir", tolerance=1e-12)

    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_not_finite_refuse_and_write_nothing(tmp_path: Path) -> None:
    _, weights = build_extractor(SHALLOW)
    weights.state["conv1.weight"][0, 0, 0, 0] = float("nan")
    torch.save(weights.state, tmp_path / "broken.pth")
    options = ConvertOptions(
        "resnet18", layers=("layer1",), geometry=SMALL, weights=WeightsChoice(file=tmp_path / "broken.pth")
    )

    with pytest.raises(ExportError, match=r"torch and IR disagree: .* got inf"):
        convert(options, tmp_path / "ir")

    assert not (tmp_path / "ir").exists()


def test_a_parity_picture_of_another_size_is_refused(tmp_path: Path) -> None:
    pictures = [*draw_pictures(1, 64, 96), *draw_pictures(1, 96, 64)]

    with pytest.raises(ExportError, match=r"parity picture 1: expected \(64, 96, 3\) uint8, got \(96, 64, 3\)"):
        convert(SHALLOW, tmp_path / "ir", parity_pictures=pictures)


@pytest.mark.parametrize("neighbourhood", [0, 2, -3])
def test_a_neighbourhood_without_centre_is_refused(neighbourhood: int, tmp_path: Path) -> None:
    options = ConvertOptions("resnet18", neighbourhood=neighbourhood, geometry=SMALL, weights=RANDOM)

    with pytest.raises(ExportError, match=f"neighbourhood {neighbourhood}: expected an odd side"):
        convert(options, tmp_path / "ir")


def test_an_existing_directory_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "ir").mkdir()
    missing = ConvertOptions("resnet18", weights=WeightsChoice(file=tmp_path / "never read.pth"))

    with pytest.raises(ExportError, match="ir: exists already"):
        convert(missing, tmp_path / "ir")


def test_an_ir_directory_is_replaced_when_that_is_allowed(tmp_path: Path) -> None:
    first = convert(SHALLOW, tmp_path / "ir")
    deeper = ConvertOptions("resnet18", layers=("layer2",), geometry=SMALL, weights=RANDOM)

    second = convert(deeper, tmp_path / "ir", overwrite=True)

    assert read_ir_description(tmp_path / "ir") == second != first
    assert [path.name for path in tmp_path.iterdir()] == ["ir"]


def test_a_failed_conversion_leaves_the_old_ir(tmp_path: Path) -> None:
    first = convert(SHALLOW, tmp_path / "ir")

    with pytest.raises(ExportError):
        convert(SHALLOW, tmp_path / "ir", overwrite=True, tolerance=1e-12)

    assert read_ir_description(tmp_path / "ir") == first


@pytest.mark.parametrize("names", [["notes.txt"], ["model.json", "notes.txt"], []])
def test_a_directory_that_is_no_ir_is_never_replaced(names: list[str], tmp_path: Path) -> None:
    (tmp_path / "ir").mkdir()
    for name in names:
        (tmp_path / "ir" / name).write_text("precious")

    with pytest.raises(ExportError, match="only an IR directory"):
        convert(SHALLOW, tmp_path / "ir", overwrite=True)

    assert sorted(path.name for path in (tmp_path / "ir").iterdir()) == sorted(names)


def test_each_step_is_reported(tmp_path: Path) -> None:
    lines: list[str] = []

    convert(SHALLOW, tmp_path / "ir", report=lines.append)

    assert lines[0] == "resnet18: weights from random seed 0"
    assert "agree to" in lines[-1]


def test_drawn_pictures_are_a_function_of_the_seed_and_more_than_noise() -> None:
    first, again, other = (draw_pictures(2, 64, 96, seed) for seed in (1, 1, 2))

    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
    assert not np.array_equal(first[0], first[1])
    for picture in first:
        blurred = cv2.blur(picture, (9, 9))
        assert blurred.std() > 0.5 * picture.std() > 10  # noise would be grey after blurring


@pytest.mark.shared
@pytest.mark.skipif(not RESNET18_FILE.exists(), reason="the weights do not lie beside the checkout")
@pytest.mark.parametrize("embedding", ["concat", "pooled"])
def test_the_published_resnet18_agrees_with_torch_on_real_pictures(embedding: EmbeddingName, tmp_path: Path) -> None:
    options = ConvertOptions("resnet18", embedding=embedding, geometry=PAPER, weights=WeightsChoice(file=RESNET18_FILE))
    pictures = [bottle("train/good/000.png"), bottle("test/broken_large/000.png")]

    description = convert(options, tmp_path / "ir", parity_pictures=pictures)

    assert description.parity.max_relative_error <= 1e-3
    assert description.grid == (28, 28)
    extractor, _ = build_extractor(options)
    patches = [embed_with_torch(extractor, picture, normalisation("resnet18")) for picture in pictures]
    assert np.abs(patches[0] - patches[1]).max() > 100 * description.parity.tolerance


def bottle(name: str) -> UInt8Array:
    picture = cv2.imread(str(BOTTLE / name))
    assert picture is not None
    return np.asarray(cv2.resize(picture, (224, 224), interpolation=cv2.INTER_AREA), np.uint8)
