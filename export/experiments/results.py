"""What an experiment found, as it is kept: one `experiment.json`, from which its page and plots are drawn.

A row is one measured setting: one value of the parameter, in one series (greedy and random selection are two series
of the same parameter), on every category.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, FiniteFloat, model_validator

from edge.errors import ExportError
from edge.files.schema import Strict, write_json
from export.evaluation.results import read_kept

EXPERIMENT = "experiment.json"


class CategoryMeasurement(Strict):
    """One category at one value of the parameter."""

    category: str
    image_auroc: FiniteFloat = Field(ge=0, le=1)
    pixel_auroc: FiniteFloat | None = Field(default=None, ge=0, le=1, description="none: the dataset has no masks")
    aupro: FiniteFloat | None = Field(default=None, ge=0, le=1, description="to 30 % false positives")
    false_reject: FiniteFloat = Field(ge=0, le=1, description="share of the good parts that fail")
    miss: FiniteFloat = Field(ge=0, le=1, description="share of the defective parts that pass")
    embed_ms: FiniteFloat = Field(ge=0, description="median, one picture")
    search_ms: FiniteFloat = Field(ge=0, description="median, one picture")
    total_ms: FiniteFloat = Field(ge=0, description="median of all stages together, one picture")
    bank_vectors: int = Field(ge=0)


class ExperimentRow(Strict):
    """One value of the parameter."""

    label: str = Field(description="what the table says, such as '10 %'")
    value: FiniteFloat | str = Field(description="where the plot puts it; one text among the values: evenly spaced")
    series: str = Field(default="", description="the line that it belongs to, where there are several")
    categories: tuple[CategoryMeasurement, ...] = Field(min_length=1)
    extra: dict[str, str] = Field(default={}, description="further columns of the table, name to text")


class ExperimentResults(Strict):
    """`experiment.json`."""

    schema_version: Literal[1] = 1
    name: str = Field(pattern="^[A-Za-z0-9_-]+$", description="as on the command line")
    title: str
    question: str = Field(description="what it answers, in one sentence")
    parameter: str = Field(description="what is varied, with its unit")
    rows: tuple[ExperimentRow, ...] = Field(min_length=1)
    conclusion: tuple[str, ...] = Field(default=(), description="paragraphs")
    created_at: str = Field(default="", description="RFC 3339, UTC")
    settings: dict[str, str] = Field(default={}, description="what was held still")
    versions: dict[str, str] = Field(default={})
    machine: str = ""

    @model_validator(mode="after")
    def _rows_are_comparable(self) -> ExperimentResults:
        measured = {tuple(sorted(item.category for item in row.categories)) for row in self.rows}
        if len(measured) > 1:
            raise ValueError(f"rows measure different categories, so their means differ for no reason: {measured}")
        places = [(row.series, row.value) for row in self.rows]
        repeated = sorted(
            {f"{series} {value}".strip() for series, value in places if places.count((series, value)) > 1}
        )
        if repeated:
            raise ValueError(f"measured twice: {', '.join(repeated)}")
        return self


def read_experiment(path: Path) -> ExperimentResults:
    """The experiment in `path`.

    Raises:
        ResultsError: the file cannot be read, is of another version, or its rows do not belong together.
    """
    return read_kept(path, ExperimentResults)


def write_experiment(results: ExperimentResults, path: Path) -> None:
    """Write `results`, whole or not at all.

    Raises:
        ExportError: the disk refuses.
    """
    write_json(results, path, ExportError)
