"""The bundle: one product's model, memory bank, thresholds and golden frames, in one directory.

Every file is hashed in the manifest and verified on the very bytes that are loaded. Nothing is unpickled. The
identity is the hash of the contents: two teachings from the same pictures and settings have the same one.

Who can write a bundle can make its hashes right, too. What no teaching writes is refused all the same: names that lead
elsewhere, numbers beyond all measure, a threshold that the held-out scores do not give, no golden frames.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
from pydantic import Field, field_validator, model_validator

from edge.bundle.contents import bank_fits, decode_bank, decode_picture
from edge.bundle.ir import MODEL_BIN, MODEL_JSON, MODEL_XML, MOST_DIMENSIONS, IrDescription
from edge.bundle.threshold import why_threshold_is_none
from edge.errors import BundleError
from edge.files.schema import (
    MOST_FILE_BYTES,
    Count,
    FileRecord,
    Share,
    Strict,
    Words,
    parse_json,
    read_json_bytes,
    read_verified,
)
from edge.records import Box, Float32Array, Search, UInt8Array

MANIFEST = "manifest.json"
BANK = "bank.npy"
MASK = "mask.png"
IDENTITY_DIGITS = 12  # shown in verdicts and logs
NAME_PATTERN = r"^[A-Za-z0-9_.-]{1,64}$"
MOST_PIXELS = 2**27  # of a frame: what OpenCV decodes here
MOST_GOLDEN_TOLERANCE = 0.1  # teaching writes 0.02

_MOST_PICTURE_BYTES = 2**29  # 134 megapixels that nothing compresses have 403 MB
_MOST_BYTES = {MODEL_XML: 2**26, MODEL_BIN: 2**31, BANK: MOST_FILE_BYTES}

FileName = Annotated[str, Field(pattern=r"^([A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}/)?[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}$")]
Score = Annotated[float, Field(ge=0, le=1e18)]  # a distance of features


class Region(Strict):
    """A rectangle in the frame's pixels."""

    x: int = Field(ge=0)
    y: int = Field(ge=0)
    width: int = Field(ge=1)
    height: int = Field(ge=1)

    def box(self) -> Box:
        """As a record."""
        return Box(self.x, self.y, self.width, self.height)


class BankRecord(Strict):
    """How the memory bank was selected."""

    vectors: int = Field(ge=1, le=10**9)
    dimension: int = Field(ge=1, le=MOST_DIMENSIONS)
    patches: Count = Field(description="patches of all teaching pictures, from which the vectors were chosen")
    coreset_ratio: float = Field(gt=0, le=1)
    projection: Count = Field(description="dimensions of the random projection in which they were chosen")
    seed: int


class ScoringRecord(Strict):
    """How patches become distances, and distances a score."""

    search: Search = Field(default="exact", description="of the bank; fast: the score is exact, the map nearly")
    reweight_neighbours: int = Field(ge=0, le=10**6, description="b of eq. 7; 0: no re-weighting")
    blur_sigma: float = Field(ge=0, le=100)

    @field_validator("reweight_neighbours")
    @classmethod
    def _some_neighbours(cls, count: int) -> int:
        if count == 1:
            raise ValueError("one neighbour makes every score 0; expected 0, or 2 or more")
        return count


class Guarantee(Strict):
    """What held-out good pictures say about false rejects; see `export.teaching.calibrate`."""

    held_out: Count = Field(description="good pictures that the bank has not seen")
    target_rate: Share = Field(description="false-reject rate that was asked for")
    expected_rate: Share = Field(description="bound on the mean false-reject rate over all teachings")
    confidence: Share
    rate_at_confidence: Share = Field(description="with this confidence, the true rate is not above it")
    least_rate: Share = Field(description="least rate that this many held-out pictures can support")
    supported: bool = Field(description="target_rate is not below least_rate")


class ThresholdRecord(Strict):
    """Where PASS ends."""

    image: Score = Field(gt=0, description="an anomaly score above it is FAIL")
    pixel: Score = Field(gt=0, description="a map value above it belongs to a defect")
    method: Literal["conformal", "mean_sigma", "best_f1"]
    parameters: dict[Words, float] = Field(default_factory=dict, max_length=64)
    guarantee: Guarantee | None = Field(default=None, description="conformal only")


class GoldenRecord(Strict):
    """A frame whose score every device must reproduce."""

    file: FileName
    score: Score
    map_peak: Score


class HeldOutScore(Strict):
    """What a held-out good picture scored: lets bundles that held out the same ones be judged together."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="of the picture's file")
    score: Score
    map_peak: Score


class TeachingRecord(Strict):
    """What the product was taught from."""

    pictures: Count
    held_out: Count
    skipped: tuple[str, ...] = ()
    normal_score_quantiles: dict[Words, Score] = Field(max_length=64, description="of held-out good pictures")
    normal_scores_mean: Score
    normal_scores_deviation: Score
    held_out_scores: tuple[HeldOutScore, ...] = Field(min_length=1, description="in the order of the pictures")


class Manifest(Strict):
    """`manifest.json`."""

    schema_version: Literal[1] = 1
    identity: str = Field(pattern="^[0-9a-f]{64}$", description="hash of everything below but created_at")
    created_at: Words = Field(description="RFC 3339, UTC")
    name: str = Field(pattern=NAME_PATTERN, description="the recipe")
    ir: IrDescription
    inference_precision: Literal["f32", "bf16", "f16"]
    frame_height: int = Field(ge=1, le=2**16)
    frame_width: int = Field(ge=1, le=2**16)
    region: Region | None
    bank: BankRecord
    scoring: ScoringRecord
    threshold: ThresholdRecord
    golden: tuple[GoldenRecord, ...] = Field(min_length=1, max_length=64)
    golden_tolerance: float = Field(
        gt=0, le=MOST_GOLDEN_TOLERANCE, description="largest relative difference of a golden score"
    )
    teaching: TeachingRecord
    settings: dict[Words, Words] = Field(max_length=64, description="what teach was asked for")
    versions: dict[Words, Words] = Field(max_length=64)
    files: dict[FileName, FileRecord] = Field(max_length=256)

    @model_validator(mode="after")
    def _agrees(self) -> Manifest:
        """What stands in two places says the same."""
        threshold = self.threshold
        held_out = [picture.score for picture in self.teaching.held_out_scores]
        refused = (
            self._why_frame_is_none()
            or why_threshold_is_none(threshold.method, threshold.image, threshold.parameters, held_out)
            or self._why_files_are_none()
        )
        if refused:
            raise ValueError(refused)
        return self

    def _why_frame_is_none(self) -> str:
        height, width, region = self.frame_height, self.frame_width, self.region
        if height * width > MOST_PIXELS:
            return f"a frame of {width}×{height} pixels; at most {MOST_PIXELS} are inspected"
        if region is not None and (region.x + region.width > width or region.y + region.height > height):
            return f"the region of interest reaches beyond the frame of {width}×{height}"
        return ""

    def _why_files_are_none(self) -> str:
        wanted = {MODEL_XML, MODEL_BIN, BANK, *(golden.file for golden in self.golden)}
        missing = wanted - self.files.keys()
        if missing:
            return f"the manifest does not list {', '.join(sorted(missing))}"
        differing = [name for name in (MODEL_XML, MODEL_BIN) if self.files[name] != self.ir.files.get(name)]
        if differing:
            return f"{differing[0]} is not the one that the network was converted to"
        vectors, dimension, size = self.bank.vectors, self.bank.dimension, self.files[BANK].size
        if dimension != self.ir.dimension:
            return f"the bank has {dimension} dimensions, the model {self.ir.dimension}"
        if not bank_fits(size, vectors, dimension):
            return f"{BANK} has {size} bytes; {vectors}×{dimension} have {4 * vectors * dimension} and a header"
        return ""


@dataclass(frozen=True, slots=True, eq=False)
class Golden:
    """A golden frame and what it must score."""

    image: UInt8Array  # (height, width, 3) BGR, the whole frame
    record: GoldenRecord


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A verified bundle in memory."""

    manifest: Manifest
    model_xml: bytes
    model_bin: bytes
    bank: Float32Array  # (vectors, dim)
    mask: UInt8Array | None  # (frame height, frame width), non-zero: ignore
    golden: tuple[Golden, ...]

    @property
    def model(self) -> str:
        """The identity as verdicts show it."""
        return self.manifest.identity[:IDENTITY_DIGITS]


def read_bundle(directory: Path) -> Bundle:
    """Read and verify a bundle.

    Raises:
        BundleError: something is missing, damaged, changed or of another version; the message names it.
    """
    manifest = read_manifest(directory)
    contents = {
        name: read_verified(directory, name, record, most=_MOST_BYTES.get(name, _MOST_PICTURE_BYTES))
        for name, record in manifest.files.items()
    }
    height, width = manifest.frame_height, manifest.frame_width
    golden = tuple(
        Golden(decode_picture(directory / record.file, contents[record.file], height, width, cv2.IMREAD_COLOR), record)
        for record in manifest.golden
    )
    mask = contents.get(MASK)
    return Bundle(
        manifest=manifest,
        model_xml=contents[MODEL_XML],
        model_bin=contents[MODEL_BIN],
        bank=decode_bank(directory / BANK, contents[BANK], manifest.bank.vectors, manifest.bank.dimension),
        mask=None if mask is None else decode_picture(directory / MASK, mask, height, width, cv2.IMREAD_GRAYSCALE),
        golden=golden,
    )


def read_manifest(directory: Path) -> Manifest:
    """What a bundle says of itself, its files unread.

    Raises:
        BundleError: it is missing, of another version, or was edited after it was made.
    """
    path = directory / MANIFEST
    if not directory.is_dir():
        raise BundleError(f"{directory}: no such directory; make a bundle with patchline-export teach")
    if not path.exists() and (directory / MODEL_JSON).exists():
        raise BundleError(
            f"{directory}: is a converted network (IR), not a bundle; teach a product with it: "
            f"patchline-export teach --ir {directory} --images GOOD_PARTS --out BUNDLE"
        )
    contents = read_json_bytes(path)
    manifest = parse_json(path, contents, Manifest)
    if manifest.identity != _written_identity(path, contents):
        raise BundleError(f"{path}: edited after it was made; teach again or copy it again")
    return manifest


def compute_identity(manifest: Manifest) -> str:
    """The identity of `manifest`, whatever it says of itself."""
    return identity_of(manifest.model_dump(mode="json"))


def identity_of(contents: Mapping[str, Any]) -> str:
    """Sha256 over a manifest's canonical JSON without `identity` and `created_at`, file hashes included."""
    kept = {key: value for key, value in contents.items() if key not in {"identity", "created_at"}}
    canonical = json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def seal(manifest: Manifest) -> Manifest:
    """The manifest with its identity."""
    return manifest.model_copy(update={"identity": compute_identity(manifest)})


def _written_identity(path: Path, contents: bytes) -> str:
    """Of what the file says, not of what it is read as: newer versions know more fields, with defaults."""
    try:
        return identity_of(json.loads(contents))
    except (ValueError, RecursionError) as error:  # whole numbers of thousands of digits, half characters
        raise BundleError(f"{path}: not as teach writes it ({error}); teach again or copy it again") from error
