"""A frozen backbone becomes an IR that takes the camera's pixels and gives patch embeddings.

The IR takes u8 (1, height, width, 3) BGR named `image`, normalises inside, and gives f32 (patches, dim)
named `patches`, row-major over the grid of the first layer. It is compared with torch before it is written.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import openvino as ov
import torch
from openvino import opset13 as op
from openvino.preprocess import ColorFormat, PrePostProcessor
from torch import Tensor, nn
from torch.nn import functional

import edge
from edge.bundle.ir import Geometry, IrDescription, Parity
from edge.errors import ExportError
from edge.records import Float32Array, UInt8Array
from export.conversion.backbones import (
    LAYERS,
    STRIDES,
    Backbone,
    Normalisation,
    build_backbone,
    channels,
    normalisation,
)
from export.conversion.drawn_pictures import draw_pictures
from export.conversion.ir_files import load_model, model_files, refuse_existing, run_model, write_ir
from export.conversion.options import ConvertOptions
from export.conversion.reference import make_reference
from export.conversion.weights import LoadedWeights, load_weights

# pretrain_embed_dimension and target_embed_dimension of the authors' published runs.
POOLED_DIMENSION = 1024
DRAWN_PICTURES = 4
TOLERANCE = 1e-3


def convert(
    options: ConvertOptions,
    out: Path,
    *,
    parity_pictures: Sequence[UInt8Array] = (),  # (input_height, input_width, 3) BGR
    tolerance: float = TOLERANCE,
    overwrite: bool = False,
    report: Callable[[str], None] = lambda _: None,
) -> IrDescription:
    """Write the IR directory `out`: `model.xml`, `model.bin`, `model.json`.

    Args:
        options: what shall be converted.
        out: the directory to be made.
        parity_pictures: pictures on which torch and IR are compared; none: seeded drawn ones.
        tolerance: largest relative difference between torch and IR.
        overwrite: replace `out` if it is an IR directory.
        report: told about each step, a line at a time.

    Raises:
        ExportError: an option, the weights or a picture is wrong, `out` exists, or torch and IR disagree.
    """
    refuse_existing(out, overwrite=overwrite)
    pictures = list(parity_pictures) or _drawn(options.geometry)
    _check_pictures(pictures, options.geometry)
    extractor, weights = build_extractor(options)
    report(f"{options.backbone}: weights from {weights.record.source} {weights.record.name}")
    files = model_files(to_openvino(extractor, options))
    report(f"IR made: {sum(map(len, files.values())) / 1e6:.1f} MB; comparing it with torch")
    model = load_model(files)
    error = _largest_difference(extractor, model, pictures, options)
    if error > tolerance:
        raise ExportError(
            f"{options.backbone}: torch and IR disagree: expected a relative difference of at most "
            f"{tolerance:.1e} on {len(pictures)} pictures, got {error:.1e}; nothing was written. "
            f"Are the weights those of this network, and is this OpenVINO version supported?"
        )
    report(f"torch and IR agree to {error:.1e} on {len(pictures)} pictures")
    description = IrDescription(
        backbone=options.backbone,
        layers=options.layers,
        embedding=options.embedding,
        neighbourhood=options.neighbourhood,
        geometry=options.geometry,
        grid=extractor.grid,
        dimension=extractor.dimension,
        precision="f32",
        weights=weights.record,
        parity=Parity(
            max_relative_error=error,
            tolerance=tolerance,
            pictures=len(pictures),
            drawn=not parity_pictures,
        ),
        reference=make_reference(model, options.geometry),
        versions=_versions(),
        files={},
    )
    return write_ir(out, description, files, overwrite=overwrite)


def build_extractor(options: ConvertOptions) -> tuple[FeatureExtractor, LoadedWeights]:
    """The torch network of `options` with its weights, in evaluation mode.

    Raises:
        ExportError: an unknown backbone or layer, an even neighbourhood, or unusable weights.
    """
    if options.neighbourhood < 1 or options.neighbourhood % 2 == 0:
        raise ExportError(
            f"neighbourhood {options.neighbourhood}: expected an odd side (1, 3, 5, …), so that it has a centre"
        )
    size = options.geometry.input_height, options.geometry.input_width
    backbone = build_backbone(options.backbone, options.layers, size)
    weights = load_weights(options.backbone, backbone.state_dict(), options.weights)
    backbone.load_state_dict(weights.state, strict=False)  # what is used was checked by load_weights
    stride = STRIDES[LAYERS.index(options.layers[0])]
    grid = -(-size[0] // stride), -(-size[1] // stride)
    return FeatureExtractor(backbone, options, grid).eval(), weights


class FeatureExtractor(nn.Module):
    """Backbone, neighbourhood, one grid, one embedding for each patch."""

    def __init__(self, backbone: Backbone, options: ConvertOptions, grid: tuple[int, int]) -> None:
        super().__init__()
        widths = [channels(options.backbone)[LAYERS.index(layer)] for layer in options.layers]
        self.backbone = backbone
        self.grid = grid
        self.embedding: ConcatEmbedding | PooledEmbedding
        if options.embedding == "pooled":
            self.embedding = PooledEmbedding(widths, options.neighbourhood, grid)
        else:
            self.embedding = ConcatEmbedding(widths, options.neighbourhood, grid)
        self.dimension = self.embedding.dimension

    def forward(self, pictures: Tensor) -> Tensor:
        """Normalised RGB (1, 3, height, width) → patch embeddings (rows · columns, dimension)."""
        embedded: Tensor = self.embedding(self.backbone(pictures))
        return embedded.permute(0, 2, 3, 1).reshape(-1, self.dimension)


class ConcatEmbedding(nn.Module):
    """anomalib's: average over the neighbourhood, zeros beyond the border counted; then concatenation."""

    def __init__(self, widths: Sequence[int], neighbourhood: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.neighbourhood = neighbourhood
        self.grid = grid
        self.dimension = sum(widths)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (1, channels, rows, columns), each of its own grid → (1, dimension, *grid)."""
        side = self.neighbourhood
        averaged = [functional.avg_pool2d(layer, side, 1, side // 2) for layer in maps]
        return _join(averaged, self.grid)


class PooledEmbedding(nn.Module):
    """The authors' 1024 dimensions, as convolutions.

    Their code unfolds each patch's neighbourhood into channels · side² features, pools those adaptively to
    1024, lays the layers' 1024 end to end and pools again to 1024. All of it is linear, so it is a
    convolution for each layer; and as every pooling window lies within a few channels, a grouped one.
    Both poolings are done before upsampling, with which they commute.
    """

    def __init__(self, widths: Sequence[int], neighbourhood: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.dimension = POOLED_DIMENSION
        # As many of the second pooling's neighbours as fall within one layer: both of two layers, none of three.
        merged = int(np.gcd(len(widths), POOLED_DIMENSION))
        self.left_to_merge = len(widths) // merged
        self.poolings = nn.ModuleList([_pooling(width, neighbourhood, merged) for width in widths])

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (1, channels, rows, columns), each of its own grid → (1, dimension, *grid)."""
        pooled = [pool(layer) for pool, layer in zip(self.poolings, maps, strict=True)]
        joined = _join(pooled, self.grid)
        if self.left_to_merge == 1:
            return joined
        return joined.reshape(1, self.dimension, self.left_to_merge, *self.grid).mean(2)


def _pooling(width: int, neighbourhood: int, merged: int) -> nn.Conv2d:
    """The convolution that pools one layer's unfolded features to 1024 / merged."""
    rows = pooling_matrix(width * neighbourhood**2, POOLED_DIMENSION)
    rows = rows.reshape(POOLED_DIMENSION // merged, merged, -1).mean(1)
    groups = int(np.gcd(len(rows), width))
    convolution = nn.Conv2d(width, len(rows), neighbourhood, padding=neighbourhood // 2, groups=groups, bias=False)
    # Window i begins at feature ⌊i · features / 1024⌋: with groups dividing both counts, no window crosses a group.
    blocks = rows.reshape(groups, len(rows) // groups, groups, width // groups, neighbourhood, neighbourhood)
    own = torch.arange(groups)
    convolution.weight = nn.Parameter(blocks[own, :, own].flatten(0, 1).float(), requires_grad=False)
    return convolution


def pooling_matrix(size_in: int, size_out: int) -> Tensor:
    """Adaptive average pooling of `size_in` values as a float64 matrix (size_out, size_in)."""
    matrix = torch.zeros(size_out, size_in, dtype=torch.float64)
    for index in range(size_out):
        begin, end = index * size_in // size_out, -(-(index + 1) * size_in // size_out)
        matrix[index, begin:end] = 1 / (end - begin)
    return matrix


def _join(layers: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
    """Channels of all layers on the `grid` of the first, whose values stay: OpenVINO would interpolate each of them."""
    first, *others = layers
    upsampled = [functional.interpolate(layer, size=grid, mode="bilinear", align_corners=False) for layer in others]
    return torch.cat([first, *upsampled], 1)


def to_openvino(extractor: FeatureExtractor, options: ConvertOptions) -> ov.Model:
    """The extractor as an OpenVINO model that takes pixels: see the module's docstring."""
    size = options.geometry.input_height, options.geometry.input_width
    example = torch.zeros(1, 3, *size)
    with torch.inference_mode():
        model = ov.convert_model(extractor, example_input=example, input=[1, 3, *size])
    numbers = normalisation(options.backbone)
    steps = PrePostProcessor(model)
    steps.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    steps.input().tensor().set_color_format(ColorFormat.BGR)
    steps.input().model().set_layout(ov.Layout("NCHW"))
    steps.input().preprocess().convert_element_type(ov.Type.f32)
    steps.input().preprocess().custom(lambda pixels: _normalise(pixels, numbers, size[1]))
    steps.input().preprocess().convert_color(ColorFormat.RGB)
    model = steps.build()
    model.input(0).get_tensor().set_names({"image"})
    model.output(0).get_tensor().set_names({"patches"})
    return model


def _normalise(pixels: ov.Output, numbers: Normalisation, width: int) -> ov.Output:
    """Normalise (1, height, width, 3) BGR by whole rows: three numbers at a time take OpenVINO twice as long."""
    mean, std = (np.tile(np.asarray(values, np.float32)[::-1], width) for values in (numbers.mean, numbers.std))
    rows = op.reshape(pixels, op.constant([0, 0, -1]), special_zero=True)
    normalised = op.divide(op.subtract(rows, op.constant(mean)), op.constant(std))
    return op.reshape(normalised, op.constant([0, 0, -1, 3]), special_zero=True).output(0)


def embed_with_torch(extractor: FeatureExtractor, picture: UInt8Array, numbers: Normalisation) -> Float32Array:
    """Patch embeddings (patches, dim) of one picture (height, width, 3) BGR."""
    pixels = torch.from_numpy(np.ascontiguousarray(picture[:, :, ::-1])).float()
    normalised = (pixels - torch.tensor(numbers.mean)) / torch.tensor(numbers.std)
    with torch.inference_mode():
        patches: Float32Array = extractor(normalised.permute(2, 0, 1)[None]).numpy()
    return patches


def _largest_difference(
    extractor: FeatureExtractor, model: ov.Model, pictures: Sequence[UInt8Array], options: ConvertOptions
) -> float:
    """The largest |IR - torch| over the largest |torch|, of the worst picture."""
    numbers = normalisation(options.backbone)
    got = run_model(model, [picture[np.newaxis] for picture in pictures])
    expected = [embed_with_torch(extractor, picture, numbers) for picture in pictures]
    return max(map(_relative_difference, got, expected))


def _relative_difference(got: Float32Array, expected: Float32Array) -> float:
    """Infinite where there is nothing to compare: features not finite, or all zero."""
    scale = float(np.abs(expected).max())
    if not (np.isfinite(got).all() and np.isfinite(expected).all() and scale > 0):
        return float("inf")
    return float(np.abs(got - expected).max()) / scale


def _check_pictures(pictures: Sequence[UInt8Array], geometry: Geometry) -> None:
    expected = (geometry.input_height, geometry.input_width, 3)
    for index, picture in enumerate(pictures):
        if picture.shape != expected or picture.dtype != np.uint8:
            raise ExportError(
                f"parity picture {index}: expected {expected} uint8, got {picture.shape} {picture.dtype}; "
                f"resize and crop it to the model's input"
            )


def _drawn(geometry: Geometry) -> list[UInt8Array]:
    return draw_pictures(DRAWN_PICTURES, geometry.input_height, geometry.input_width)


def _versions() -> dict[str, str]:
    return {
        "patchline": edge.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "openvino": str(ov.__version__),
    }
