"""Results made by hand, as an evaluation and an experiment would have written them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from export.evaluation.measure import measure_rates
from export.evaluation.results import RESULTS, CategoryResults, GalleryEntry, PictureResult, write_results
from export.experiments.results import CategoryMeasurement, ExperimentResults, ExperimentRow
from export.metrics.detection import image_metrics
from export.metrics.operating import operating_point
from export.metrics.records import Curve, PixelMetrics
from export.teaching.calibrate import conformal_guarantee

THRESHOLD = 2.0
SCORES: Mapping[str, Sequence[float]] = {
    "good": (1.0, 1.2, 1.3, 1.5, 2.1),  # one falsely rejected
    "scratch": (1.8, 2.5, 3.0),  # one missed
    "dent": (3.5, 4.0),
}
HELD_OUT = tuple(1 + number / 60 for number in range(59))
SETTINGS = {
    "false_reject_rate": "0.01",
    "coreset": "greedy",
    "coreset_ratio": "0.1",
    "resize_shorter": "256",
    "frame_size": "900×900",
}


def make_results(
    category: str = "bottle", scores: Mapping[str, Sequence[float]] = SCORES, **changes: Any
) -> CategoryResults:
    """One category's results; `changes` replace fields."""
    pictures = tuple(
        PictureResult(
            path=f"test/{kind}/{number:03d}.png",
            kind=kind,
            score=score,
            map_peak=score,
            outcome="FAIL" if score > THRESHOLD else "PASS",
        )
        for kind, values in scores.items()
        for number, score in enumerate(values)
    )
    bad = {kind: values for kind, values in scores.items() if kind != "good"}
    fields: dict[str, Any] = {
        "key": "k",
        "category": category,
        "layout": "mvtec",
        "created_at": "2026-01-02T03:04:05+00:00",
        "backbone": "wide_resnet50_2",
        "ir_precision": "f32",
        "arithmetic": "f32",
        "input_size": (224, 224),
        "settings": SETTINGS,
        "bundle": "0123456789ab",
        "bank_vectors": 16385,
        "dimension": 1536,
        "taught": 150,
        "held_out": 59,
        "image": image_metrics(scores["good"], [score for values in bad.values() for score in values]),
        "pixel": _pixel(),
        "operating": operating_point(scores["good"], bad, THRESHOLD),
        "operating_table": measure_rates(pictures, HELD_OUT),
        "guarantee": conformal_guarantee(len(HELD_OUT), 0.01),
        "pictures": pictures,
        "gallery": (),
        "stage_ms": {"preprocess": 0.8, "embed": 20.0, "search": 35.0, "score": 0.9, "total": 57.0},
        "teach_s": 12.5,
        "versions": {"patchline": "0.1.0", "openvino": "2026.4.0"},
        "machine": "a CPU, 2 cores",
    }
    return CategoryResults(**(fields | changes))


def write_category(out: Path, results: CategoryResults, panels: Sequence[tuple[str, int]] = ()) -> Path:
    """`results` below `out`, with a gallery of real JPEG files: (group, index into the pictures) each."""
    directory = out / results.category
    directory.mkdir(parents=True)
    entries = []
    for number, (group, picture) in enumerate(panels):
        panel = np.full((40, 120, 3), 20 * (number + 1), np.uint8)
        cv2.imwrite(str(directory / f"panel-{number}.jpg"), panel)
        entries.append(
            GalleryEntry.model_validate({"group": group, "picture": picture, "panel": f"panel-{number}.jpg"})
        )
    write_results(results.model_copy(update={"gallery": tuple(entries)}), directory / RESULTS)
    return directory


def make_measurement(category: str = "bottle", **changes: Any) -> CategoryMeasurement:
    """One category at one setting."""
    fields: dict[str, Any] = {
        "category": category,
        "image_auroc": 0.99,
        "pixel_auroc": 0.98,
        "aupro": 0.93,
        "false_reject": 0.05,
        "miss": 0.02,
        "embed_ms": 20.0,
        "search_ms": 35.0,
        "total_ms": 57.0,
        "bank_vectors": 8192,
    }
    return CategoryMeasurement(**(fields | changes))


def make_experiment(rows: Sequence[ExperimentRow] | None = None, **changes: Any) -> ExperimentResults:
    """A sweep of two ratios by two methods; `rows` and `changes` replace that."""
    made = [
        ExperimentRow(
            label=f"{100 * ratio:g} %",
            value=ratio,
            series=series,
            categories=(make_measurement(image_auroc=quality, total_ms=100 * ratio + 20),),
        )
        for series, worse in (("greedy", 0.0), ("random", 0.03))
        for ratio, quality in ((0.1, 0.995), (0.01, 0.985 - worse))
    ]
    fields: dict[str, Any] = {
        "name": "coreset",
        "title": "Size of the memory bank",
        "question": "How small may the bank be?",
        "parameter": "coreset ratio",
        "rows": tuple(made if rows is None else rows),
        "conclusion": ("Greedy selection wins.",),
        "created_at": "2026-01-02T03:04:05+00:00",
        "settings": {"backbone": "resnet18"},
    }
    return ExperimentResults(**(fields | changes))


def _pixel() -> PixelMetrics:
    pro = Curve(x=(0.0, 0.02, 0.1, 0.4, 1.0), y=(0.0, 0.6, 0.9, 0.98, 1.0))
    return PixelMetrics(auroc=0.985, aupro=0.931, aupro_strict=0.65, pro=pro, regions=7, pixels=10000)
