"""What an evaluation found, as it is kept: one JSON file per category, from which every table and plot is drawn.

Nothing that a report shows is computed from anything else, so a report can be rendered again without running again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from edge.bundle.bundle import Guarantee
from edge.errors import BundleError, ExportError, ResultsError
from edge.files.schema import Schema, Strict, read_json, write_json
from export.metrics.records import ImageMetrics, OperatingPoint, OperatingRow, PixelMetrics

RESULTS = "results.json"


class PictureResult(Strict):
    """One test picture."""

    path: str = Field(description="relative to the category")
    kind: str = Field(description="'good', or the kind of defect")
    score: float
    map_peak: float
    outcome: Literal["PASS", "FAIL"]


class GalleryEntry(Strict):
    """A picture that a person should look at."""

    group: Literal["best", "worst", "missed", "false_reject"]
    picture: int = Field(description="index into `pictures`")
    panel: str = Field(description="JPEG file beside the results: picture, map over it, and ground truth side by side")


class CategoryResults(Strict):
    """One category, inspected by the very bundle and runtime that the line uses."""

    schema_version: Literal[1] = 1
    key: str = Field(description="hash of settings, IR and dataset files: an evaluation with the same key is not rerun")
    category: str
    layout: str
    created_at: str
    backbone: str
    ir_precision: str
    arithmetic: str
    input_size: tuple[int, int] = Field(description="height, width")
    settings: dict[str, str]
    bundle: str
    bank_vectors: int
    dimension: int
    taught: int
    held_out: int
    image: ImageMetrics
    pixel: PixelMetrics | None
    operating: OperatingPoint
    operating_table: tuple[OperatingRow, ...] = Field(
        default=(), description="by stated false-reject rate, rising; none: evaluated before there were such tables"
    )
    guarantee: Guarantee | None = Field(default=None, description="of the threshold; none: as above, or not conformal")
    pictures: tuple[PictureResult, ...]
    gallery: tuple[GalleryEntry, ...]
    stage_ms: dict[str, float] = Field(description="median milliseconds of each stage and in all")
    teach_s: float
    versions: dict[str, str]
    machine: str


def read_results(path: Path) -> CategoryResults:
    """The results in `path`.

    Raises:
        ResultsError: the file cannot be read or is of another version.
    """
    return read_kept(path, CategoryResults)


def read_kept(path: Path, schema: type[Schema]) -> Schema:
    """What `path` keeps of a measurement.

    Raises:
        ResultsError: the file cannot be read or does not follow the schema.
    """
    try:
        return read_json(path, schema)
    except BundleError as error:
        raise ResultsError(str(error)) from error


def write_results(results: CategoryResults, path: Path) -> None:
    """Write `results`, whole or not at all.

    Raises:
        ExportError: the disk refuses.
    """
    write_json(results, path, ExportError)
