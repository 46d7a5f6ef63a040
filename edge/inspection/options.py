"""How frames are to be inspected: what the settings and the command line choose."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from edge.records import (
    Box,
    Mode,
    PrecisionWish,
    SearchWish,
    UInt8Array,
)


@dataclass(frozen=True, slots=True, eq=False)
class InspectorOptions:
    """How a station departs from what the bundle says."""

    recipe: str = ""  # as verdicts name it; "": by the bundle's own name
    device: str = "CPU"
    precision: PrecisionWish = "as_taught"
    search: SearchWish = "as_taught"
    mode: Mode = "latency"
    workers: int = 0  # throughput: frames at a time; 0: one more than OpenVINO finds best
    embed_threads: int = 0
    search_threads: int = 0
    cache_dir: Path | None = None
    region: Box | None = None  # the part of the taught region that is judged
    mask: UInt8Array | None = field(default=None, repr=False)  # (frame height, frame width), non-zero: ignore, too
    threshold: float | None = None
    minimum_area: int = 0
    max_crops: int = 3
    crop_margin: float = 0.25
    crop_max_bytes: int = 96 * 1024
