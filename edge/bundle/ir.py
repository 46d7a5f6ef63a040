"""The IR directory: `model.xml`, `model.bin` and the `model.json` that says everything the runtime needs.

Files are hashed on the very bytes that are loaded. Reading is strict: unknown keys, another schema
version, a missing file or a wrong hash is a `BundleError` that names it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from edge.files.schema import FileRecord, Strict, read_json

MODEL_XML = "model.xml"
MODEL_BIN = "model.bin"
MODEL_JSON = "model.json"
REFERENCE_NUMBERS = 64


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
    name: str = Field(description="file, address or package; for random weights the seed")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="of the weights' file; for random, of the tensors")


class Parity(Strict):
    """Agreement of the f32 IR with torch."""

    max_relative_error: float = Field(description="largest |IR - torch| over the largest |torch|")
    tolerance: float
    pictures: int
    drawn: bool = Field(description="true: on drawn pictures; false: on pictures the user gave")


class Quantization(Strict):
    """How an int8 IR was calibrated."""

    pictures: int
    preset: str
    feature_error: float = Field(description="|int8 - f32| over |f32|, Euclidean norms, on calibration pictures")


class IrDescription(Strict):
    """`model.json`."""

    schema_version: Literal[1] = 1
    backbone: str
    layers: tuple[str, ...]
    embedding: Literal["concat", "pooled"]
    neighbourhood: int = Field(description="side of the square neighbourhood each patch is averaged over")
    geometry: Geometry
    colour_order: Literal["BGR"] = "BGR"
    grid: tuple[int, int] = Field(description="patches: rows, columns")
    dimension: int = Field(description="of one patch embedding")
    precision: Literal["f32", "int8"]
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
    versions: dict[str, str]
    files: dict[str, FileRecord]


def read_ir_description(directory: Path) -> IrDescription:
    """Read `directory/model.json`.

    Raises:
        BundleError: there is none, or it does not follow the schema.
    """
    return read_json(directory / MODEL_JSON, IrDescription)
