"""The bundle: one product's model, memory bank, thresholds and golden frames, in one directory.

Every file is hashed in the manifest and verified on the very bytes that are loaded. Nothing is unpickled. The
identity is the hash of the contents: two teachings from the same pictures and settings have the same one.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from pydantic import Field

from edge.bundle.ir import MODEL_BIN, MODEL_XML, IrDescription
from edge.errors import BundleError
from edge.files.schema import FileRecord, Strict, read_json, read_verified
from edge.records import Box, Float32Array, Search, UInt8Array

MANIFEST = "manifest.json"
BANK = "bank.npy"
MASK = "mask.png"
IDENTITY_DIGITS = 12  # shown in verdicts and logs
NAME_PATTERN = r"^[A-Za-z0-9_.-]{1,64}$"


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

    vectors: int = Field(ge=1)
    dimension: int = Field(ge=1)
    patches: int = Field(description="patches of all teaching pictures, from which the vectors were chosen")
    coreset_ratio: float = Field(gt=0, le=1)
    projection: int = Field(description="dimensions of the random projection in which they were chosen")
    seed: int


class ScoringRecord(Strict):
    """How patches become distances, and distances a score."""

    search: Search = Field(default="exact", description="of the bank; fast: the score is exact, the map nearly")
    reweight_neighbours: int = Field(ge=0, description="b of eq. 7; 0: no re-weighting")
    blur_sigma: float


class Guarantee(Strict):
    """What held-out good pictures say about false rejects; see `export.teaching.calibrate`."""

    held_out: int = Field(description="good pictures that the bank has not seen")
    target_rate: float = Field(description="false-reject rate that was asked for")
    expected_rate: float = Field(description="bound on the mean false-reject rate over all teachings")
    confidence: float
    rate_at_confidence: float = Field(description="with this confidence, the true rate is not above it")
    least_rate: float = Field(description="least rate that this many held-out pictures can support")
    supported: bool = Field(description="target_rate is not below least_rate")


class ThresholdRecord(Strict):
    """Where PASS ends."""

    image: float = Field(gt=0, description="an anomaly score above it is FAIL")
    pixel: float = Field(gt=0, description="a map value above it belongs to a defect")
    method: Literal["conformal", "mean_sigma", "best_f1"]
    parameters: dict[str, float] = Field(default_factory=dict)
    guarantee: Guarantee | None = Field(default=None, description="conformal only")


class GoldenRecord(Strict):
    """A frame whose score every device must reproduce."""

    file: str
    score: float
    map_peak: float


class HeldOutScore(Strict):
    """What a held-out good picture scored: lets bundles that held out the same ones be judged together."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="of the picture's file")
    score: float
    map_peak: float


class TeachingRecord(Strict):
    """What the product was taught from."""

    pictures: int
    held_out: int
    skipped: tuple[str, ...] = ()
    normal_score_quantiles: dict[str, float] = Field(description="of held-out good pictures")
    normal_scores_mean: float
    normal_scores_deviation: float
    held_out_scores: tuple[HeldOutScore, ...] = Field(description="in the order of the pictures")


class Manifest(Strict):
    """`manifest.json`."""

    schema_version: Literal[1] = 1
    identity: str = Field(pattern="^[0-9a-f]{64}$", description="hash of everything below but created_at")
    created_at: str = Field(description="RFC 3339, UTC")
    name: str = Field(pattern=NAME_PATTERN, description="the recipe")
    ir: IrDescription
    inference_precision: Literal["f32", "bf16", "f16"]
    frame_height: int
    frame_width: int
    region: Region | None
    bank: BankRecord
    scoring: ScoringRecord
    threshold: ThresholdRecord
    golden: tuple[GoldenRecord, ...]
    golden_tolerance: float = Field(description="largest relative difference of a golden score")
    teaching: TeachingRecord
    settings: dict[str, str] = Field(description="what teach was asked for")
    versions: dict[str, str]
    files: dict[str, FileRecord]


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
    contents = {name: read_verified(directory, name, record) for name, record in manifest.files.items()}
    missing = {MODEL_XML, MODEL_BIN, BANK} - contents.keys()
    if missing:
        raise BundleError(f"{directory / MANIFEST}: does not list {', '.join(sorted(missing))}; teach again")
    return Bundle(
        manifest=manifest,
        model_xml=contents[MODEL_XML],
        model_bin=contents[MODEL_BIN],
        bank=_bank(directory / BANK, contents[BANK], manifest),
        mask=_mask(directory, contents, manifest),
        golden=tuple(_golden(directory, contents, record, manifest) for record in manifest.golden),
    )


def read_manifest(directory: Path) -> Manifest:
    """What a bundle says of itself, its files unread.

    Raises:
        BundleError: it is missing, of another version, or was edited after it was made.
    """
    if not directory.is_dir():
        raise BundleError(f"{directory}: no such directory; make a bundle with patchline-export teach")
    manifest = read_json(directory / MANIFEST, Manifest)
    if manifest.identity != _written_identity(directory / MANIFEST):
        raise BundleError(f"{directory / MANIFEST}: edited after it was made; teach again or copy it again")
    return manifest


def compute_identity(manifest: Manifest) -> str:
    """Sha256 over the manifest's canonical JSON without `identity` and `created_at`, file hashes included."""
    return _hash_contents(manifest.model_dump(mode="json"))


def seal(manifest: Manifest) -> Manifest:
    """The manifest with its identity."""
    return manifest.model_copy(update={"identity": compute_identity(manifest)})


def encode_bank(vectors: Float32Array) -> bytes:
    """`bank.npy`: (vectors, dim) float32."""
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(vectors, np.float32), allow_pickle=False)
    return stream.getvalue()


def _written_identity(path: Path) -> str:
    """Of what the file says, not of what it is read as: newer versions know more fields, with defaults."""
    return _hash_contents(json.loads(path.read_bytes()))


def _hash_contents(contents: Mapping[str, Any]) -> str:
    kept = {key: value for key, value in contents.items() if key not in {"identity", "created_at"}}
    canonical = json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _bank(path: Path, contents: bytes, manifest: Manifest) -> Float32Array:
    try:
        # Not np.load: it would also open archives.
        vectors = np.lib.format.read_array(io.BytesIO(contents), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise BundleError(f"{path}: not a NumPy array ({error}); teach again") from error
    expected = (manifest.bank.vectors, manifest.bank.dimension)
    if vectors.shape != expected or vectors.dtype != np.float32 or manifest.bank.dimension != manifest.ir.dimension:
        raise BundleError(
            f"{path}: expected {expected} float32 and dimension {manifest.ir.dimension} of the model, "
            f"got {vectors.shape} {vectors.dtype}; teach again"
        )
    if not np.isfinite(vectors).all():
        raise BundleError(f"{path}: contains values that are not numbers; teach again")
    bank: Float32Array = vectors
    return bank


def _mask(directory: Path, contents: Mapping[str, bytes], manifest: Manifest) -> UInt8Array | None:
    if MASK not in contents:
        return None
    return _picture(directory / MASK, contents[MASK], cv2.IMREAD_GRAYSCALE, manifest)


def _golden(directory: Path, contents: Mapping[str, bytes], record: GoldenRecord, manifest: Manifest) -> Golden:
    if record.file not in contents:
        raise BundleError(f"{directory / MANIFEST}: does not list {record.file}; teach again")
    path = directory / record.file
    return Golden(image=_picture(path, contents[record.file], cv2.IMREAD_COLOR, manifest), record=record)


def _picture(path: Path, contents: bytes, flags: int, manifest: Manifest) -> UInt8Array:
    try:
        image = cv2.imdecode(np.frombuffer(contents, np.uint8), flags)
    except cv2.error as error:
        raise BundleError(f"{path}: refused by the picture decoder ({error.err}); teach again") from error
    if image is None or image.shape[:2] != (manifest.frame_height, manifest.frame_width):
        raise BundleError(
            f"{path}: not a picture of the frame's size, {manifest.frame_width}×{manifest.frame_height}; teach again"
        )
    return np.asarray(image, np.uint8)
