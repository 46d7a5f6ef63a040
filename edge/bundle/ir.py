"""The IR directory: `model.xml`, `model.bin` and the `model.json` that says everything the runtime needs.

Files are hashed on the very bytes that are loaded. Reading is strict: unknown keys, another schema
version, a missing file or a wrong hash is a `BundleError` that names it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from edge.errors import BundleError
from edge.files.schema import Count, FileRecord, Strict, Words, read_json

MODEL_XML = "model.xml"
MODEL_BIN = "model.bin"
MODEL_JSON = "model.json"
_MANIFEST = "manifest.json"  # of a bundle: `edge.bundle.bundle.MANIFEST`, which builds on this module
REFERENCE_NUMBERS = 64
MOST_DIMENSIONS = 65_536

Side = Annotated[int, Field(ge=1, le=2048)]  # of a grid of patches

# How layers become one embedding, and the arithmetic of weights and activations.
EmbeddingName = Literal["concat", "pooled"]
IrPrecision = Literal["f32", "int8"]


class Geometry(Strict):
    """How a region of interest becomes the model's input."""

    input_height: int = Field(ge=32, le=2048)
    input_width: int = Field(ge=32, le=2048)
    resize_shorter: int | None = Field(
        default=None,
        ge=32,
        le=4096,
        description="shorter side is resized to this and the centre is cropped (the paper: 256, then 224); "
        "none: the whole region is resized to the input size and nothing is cropped away",
    )

    @model_validator(mode="after")
    def _crop_fits(self) -> Geometry:
        largest = max(self.input_height, self.input_width)
        if self.resize_shorter is not None and self.resize_shorter < largest:
            raise ValueError(f"resize_shorter is {self.resize_shorter}, less than the crop of {largest}")
        return self


# The whole region, nothing cropped away: a defect at the border is seen. On MVTec AD bottle (ResNet-18) it also is
# better than the paper's 256 cropped to 224: pixel AUROC 98.3 for 97.9, AUPRO 94.1 for 92.3 (by patchline-export
# evaluate), for 1024 patches instead of 784.
DEFAULT_GEOMETRY = Geometry(input_height=256, input_width=256)


class Weights(Strict):
    """Where the backbone's weights came from."""

    source: Literal["file", "download", "package", "random"]
    name: Words = Field(description="file, address or package; for random weights the seed")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="of the weights' file; for random, of the tensors")


class Parity(Strict):
    """Agreement of the f32 IR with torch."""

    max_relative_error: float = Field(ge=0, description="largest |IR - torch| over the largest |torch|")
    tolerance: float = Field(ge=0)
    pictures: Count
    drawn: bool = Field(description="true: on drawn pictures; false: on pictures the user gave")


class Quantization(Strict):
    """How an int8 IR was calibrated."""

    pictures: Count
    preset: Words
    feature_error: float = Field(ge=0, description="|int8 - f32| over |f32|, Euclidean norms, on calibration pictures")


class IrDescription(Strict):
    """`model.json`."""

    schema_version: Literal[1] = 1
    backbone: Words
    layers: tuple[Words, ...] = Field(min_length=1, max_length=64)
    embedding: EmbeddingName
    neighbourhood: int = Field(ge=1, le=255, description="side of the square neighbourhood each patch is averaged over")
    geometry: Geometry
    colour_order: Literal["BGR"] = "BGR"
    grid: tuple[Side, Side] = Field(description="patches: rows, columns")
    dimension: int = Field(ge=1, le=MOST_DIMENSIONS, description="of one patch embedding")
    precision: IrPrecision
    weights: Weights
    parity: Parity
    quantization: Quantization | None = None
    reference: tuple[float, ...] | None = Field(
        default=None,
        min_length=REFERENCE_NUMBERS,
        max_length=REFERENCE_NUMBERS,
        description="what this IR gave, where it was made and checked, for a drawn picture, in few numbers: see "
        "export.conversion.reference; none: it was made before there were references",
    )
    versions: dict[Words, Words] = Field(max_length=64)
    files: dict[Words, FileRecord] = Field(max_length=64)


def read_ir_description(directory: Path) -> IrDescription:
    """Read `directory/model.json`.

    Raises:
        BundleError: there is none, or it does not follow the schema.
    """
    if not (directory / MODEL_JSON).exists() and (directory / _MANIFEST).exists():
        raise BundleError(
            f"{directory}: is a bundle, not a converted network (IR); give the directory that convert or quantize made"
        )
    return read_json(directory / MODEL_JSON, IrDescription)
