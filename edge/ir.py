"""The IR directory: `model.xml`, `model.bin` and the `model.json` that says everything the runtime needs.

Files are hashed on the very bytes that are loaded. Reading is strict: unknown keys, another schema
version, a missing file or a wrong hash is a `BundleError` that names it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edge.atomic import write_file
from edge.errors import BundleError, PatchlineError

MODEL_XML = "model.xml"
MODEL_BIN = "model.bin"
MODEL_JSON = "model.json"
REFERENCE_NUMBERS = 64


class Strict(BaseModel):
    """Frozen, and refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FileRecord(Strict):
    """Size and hash of one file."""

    size: int = Field(ge=0, description="bytes")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


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
        "export.reference; none: it was made before there were references",
    )
    versions: dict[str, str]
    files: dict[str, FileRecord]


def hash_bytes(data: bytes) -> FileRecord:
    """Size and sha256 of `data`."""
    return FileRecord(size=len(data), sha256=hashlib.sha256(data).hexdigest())


def read_verified(directory: Path, name: str, expected: FileRecord) -> bytes:
    """The bytes of `directory/name`, verified against its record.

    Raises:
        BundleError: the file cannot be read, or its size or hash is not the recorded one.
    """
    path = directory / name
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"{path}: cannot be read ({error.strerror}); make the directory again or copy it whole"
        ) from error
    got = hash_bytes(data)
    if got != expected:
        raise BundleError(
            f"{path}: contents differ from the record: expected {expected.size} bytes, sha256 "
            f"{expected.sha256[:12]}…, got {got.size} bytes, sha256 {got.sha256[:12]}…; copy it again"
        )
    return data


Schema = TypeVar("Schema", bound=Strict)


def read_json(path: Path, schema: type[Schema]) -> Schema:
    """`path` as `schema`.

    Raises:
        BundleError: the file cannot be read or does not follow the schema.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{path}: cannot be read ({error}); is this the right directory?") from error
    try:
        return schema.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BundleError(
            f"{path}: {where}: {first['msg']} (of {error.error_count()} problems); "
            f"it was made by another version of Patchline or edited: make it again"
        ) from error


def write_json(value: Strict, path: Path, error: type[PatchlineError]) -> None:
    """Write `value`, whole or not at all; directories are made.

    Raises:
        error: the disk refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, (value.model_dump_json(indent=1) + "\n").encode())
    except OSError as problem:
        raise error(f"{path}: cannot be written ({problem.strerror})") from problem


def read_ir_description(directory: Path) -> IrDescription:
    """Read `directory/model.json`.

    Raises:
        BundleError: there is none, or it does not follow the schema.
    """
    return read_json(directory / MODEL_JSON, IrDescription)
