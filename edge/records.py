"""The frozen records that pass between stages. Every one carries its frame's identity and time."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Literal

import numpy as np
import numpy.typing as npt

Float32Array = npt.NDArray[np.float32]
UInt8Array = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]
Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels; `x`, `y` is the upper left corner, inside the picture."""

    x: int
    y: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """First column to the right of the box."""
        return self.x + self.width

    @property
    def bottom(self) -> int:
        """First row below the box."""
        return self.y + self.height


@dataclass(frozen=True, slots=True)
class FrameIdentity:
    """Who a frame is: carried unchanged from capture to the last message about it."""

    sequence: int  # counts every frame the source delivered, from 0; a gap is a counted drop
    captured_at_s: float  # wall clock, seconds since 1970-01-01 UTC: for records
    captured_monotonic_s: float  # monotonic clock, seconds: for intervals
    name: str = ""  # file name, or the source's own name for the frame
    trigger_id: str = ""
    part_id: str = ""
    simulated: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture from a source."""

    identity: FrameIdentity
    image: UInt8Array  # (height, width, 3) BGR
    stale: bool = False  # the picture before it again, byte for byte: the camera is frozen; never judged
    unusable: str = ""  # for people: why there is nothing to judge; the image is then empty, (0, 0, 3)


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """Patch embeddings of one frame, row-major over the grid."""

    patches: Float32Array  # (rows · columns, dim)
    grid: tuple[int, int]  # (rows, columns)


@dataclass(frozen=True, slots=True, eq=False)
class AnomalyMap:
    """Anomaly of every pixel of the model's input: blurred, upsampled patch scores, real-valued."""

    values: Float32Array  # (height, width) of the model's input
    region: Box  # the part of the frame that the map covers, in the frame's pixels


class Outcome(StrEnum):
    """The answer to a frame. There is no fourth one."""

    PASS = "PASS"  # noqa: S105 — not a password
    FAIL = "FAIL"
    NO_RESULT = "NO_RESULT"


class Reason(StrEnum):
    """Why a frame could not be judged; empty for PASS and FAIL."""

    NONE = ""
    DEADLINE_MISSED = "deadline_missed"
    CAMERA_STALE = "camera_stale"
    IMAGE_UNUSABLE = "image_unusable"
    OVERRUN = "overrun"
    INTERNAL_ERROR = "internal_error"


@dataclass(frozen=True, slots=True)
class Defect:
    """One connected region of the anomaly map above the pixel threshold."""

    box: Box  # in the frame's pixels
    area: int  # in the frame's pixels
    peak_score: float  # largest map value inside


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """A defect's surroundings as a JPEG."""

    index: int  # k-th defect of the verdict, from 0
    box: Box  # what the picture shows, in the frame's pixels
    jpeg: bytes = field(repr=False)
    sha256: str


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Milliseconds that each stage of one inspection took."""

    preprocess_ms: float = 0.0
    embed_ms: float = 0.0
    search_ms: float = 0.0
    score_ms: float = 0.0

    @property
    def total_ms(self) -> float:
        """All stages together."""
        return sum(self.by_stage().values())

    def by_stage(self) -> dict[str, float]:
        """Milliseconds by the names of `STAGES`, in the order in which they run."""
        return {stage: getattr(self, f"{stage}_ms") for stage in STAGES}


STAGES = tuple(each.name.removesuffix("_ms") for each in fields(StageTimes))  # of one inspection


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """The one answer to one frame."""

    identity: FrameIdentity
    outcome: Outcome
    score: float  # anomaly score, higher is worse; 0 for NO_RESULT
    threshold: float  # image threshold; score > threshold is FAIL
    recipe: str  # as it was commanded, or the bundle's own name
    model: str  # first 12 hexadecimal digits of the bundle's identity
    reason: Reason = Reason.NONE
    detail: str = ""  # for people: what was expected and what came
    defects: tuple[Defect, ...] = ()  # worst first
    crops: tuple[Crop, ...] = ()
    stages: StageTimes = field(default_factory=StageTimes)
    latency_ms: float = 0.0  # from capture to this verdict


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """One MQTT message, ready to send."""

    topic: str
    payload: bytes
    qos: int
    retain: bool = False
    content_type: str = "application/json"
    user_properties: tuple[tuple[str, str], ...] = ()
    expiry_s: int | None = None  # the broker forgets it after so many seconds; None: never
    correlation: bytes = b""  # of the request that this answers


Scalar = int | float | str


class Severity(StrEnum):
    """How urgent an alarm is."""

    WARNING = "warning"
    CRITICAL = "critical"


# How the memory bank is searched, and what a station may be asked for.
Search = Literal["exact", "fast"]
SearchWish = Literal["as_taught", Search]
# Arithmetic of what is not int8.
Precision = Literal["f32", "bf16", "f16"]
PrecisionWish = Literal["as_taught", Precision]
Mode = Literal["latency", "throughput"]


# What OpenVINO calls the devices that this service is made for. HETERO, MULTI and BATCH split a model or a picture
# in ways that neither precision nor threads could be set for.
DEVICE_PATTERN = r"^(CPU|NPU|GPU(\.\d{1,2})?|AUTO(:(CPU|NPU|GPU(\.\d{1,2})?)(,(CPU|NPU|GPU(\.\d{1,2})?)){0,7})?)$"
DEVICES = "CPU, NPU, GPU, GPU.0, AUTO or AUTO:GPU,CPU"


Values = dict[str, Scalar]
