"""What is measured, as it is kept in `results.json` and shown by every table and plot."""

from __future__ import annotations

from pydantic import Field

from edge.files.schema import Strict

GOOD = "good"  # the kind of parts without a defect


class Curve(Strict):
    """A curve to plot, from (0, 0) to (1, 1), rising in both directions; at most about 1,000 points."""

    x: tuple[float, ...] = Field(description="false-positive rate")
    y: tuple[float, ...] = Field(description="ROC: true-positive rate; PRO: mean overlap of the defective regions")


class Rate(Strict):
    """A share of parts, with its exact (Clopper-Pearson) confidence interval."""

    count: int
    parts: int
    rate: float
    low: float
    high: float
    confidence: float


class KindCount(Strict):
    """The test parts of one kind: `good`, or a kind of defect."""

    kind: str
    parts: int
    failed: int


class ImageMetrics(Strict):
    """From one score per picture."""

    auroc: float
    average_precision: float
    best_f1: float
    best_f1_threshold: float
    roc: Curve


class PixelMetrics(Strict):
    """From every pixel of every anomaly map; only where masks exist."""

    auroc: float
    aupro: float = Field(description="to 30 % false positives, the dataset's own definition")
    aupro_strict: float = Field(description="to 5 %")
    pro: Curve
    regions: int = Field(description="connected defective regions, each with the same weight in the PRO")
    pixels: int


class OperatingPoint(Strict):
    """What one threshold does to the test parts; taught from good parts only, it is what the line would do."""

    threshold: float
    false_rejects: Rate = Field(description="good parts that fail")
    misses: Rate = Field(description="defective parts that pass")
    kinds: tuple[KindCount, ...] = Field(description="good parts first, then the kinds of defects by name")


class OperatingRow(Strict):
    """What the line would do if another false-reject rate had been stated."""

    rate: float = Field(description="stated")
    supported: bool = Field(description="by so many held-out parts; otherwise the threshold is their highest score")
    point: OperatingPoint
