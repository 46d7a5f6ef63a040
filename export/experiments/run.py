"""One parameter varied, everything else held still: each experiment is one command and one page.

Every value is a full evaluation (`evaluation.evaluate`) by the bundle and runtime that the line uses; what did not
change since an earlier run is not run again. Conclusions are computed from the rows, never written beforehand.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from edge.bundle.ir import MODEL_JSON, IrPrecision
from edge.errors import ExportError
from edge.files.atomic import refuse_unwritable
from edge.files.names import shown
from edge.health.usage import cpu_model
from edge.terminal import say
from export.conversion.make_ir import make_ir
from export.conversion.options import ConvertOptions, WeightsChoice
from export.datasets.category import Category
from export.evaluation.evaluate import EvaluateOptions, evaluate
from export.evaluation.results import CategoryResults
from export.experiments.conclusion import RANDOM, conclude
from export.experiments.results import (
    EXPERIMENT,
    CategoryMeasurement,
    ExperimentResults,
    ExperimentRow,
    write_experiment,
)
from export.experiments.settings import Base, Experiment, Setting
from export.teaching.teach import versions_here


def run_experiment(experiment: Experiment, base: Base, categories: Sequence[Category], out: Path) -> ExperimentResults:
    """Run every setting on every category and write `OUT/<name>/experiment.json`.

    Raises:
        PatchlineError: a network cannot be made, or a category cannot be taught or measured.
    """
    place = out / experiment.name
    refuse_unwritable(place, ExportError)
    settings = experiment.settings(base)
    rows = []
    for number, setting in enumerate(settings, start=1):
        say(f"{experiment.name}, {number} of {len(settings)}: {setting.series} {setting.label}".replace(":  ", ": "))
        rows.append(_run_setting(setting, base, categories, place, out / "ir"))
    results = ExperimentResults(
        name=experiment.name,
        title=experiment.title,
        question=experiment.question,
        parameter=experiment.parameter,
        rows=tuple(rows),
        conclusion=conclude(rows),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        settings=_describe(base),
        versions={**versions_here(), "python": platform.python_version()},
        machine=cpu_model(),
    )
    write_experiment(results, place / EXPERIMENT)
    return results


def _run_setting(
    setting: Setting, base: Base, categories: Sequence[Category], place: Path, ir_root: Path
) -> ExperimentRow:
    network = replace(base.network, **setting.network)
    run = f"{setting.series}_{setting.label}".strip("_").translate(_FILE_NAME)
    measured = []
    for category in categories:
        ir = _ir_for(network, setting.precision, category, ir_root)
        teaching = replace(
            base.teaching, ir=ir, allow_random=network.weights.random_seed is not None, **setting.teaching
        )
        changed = category if setting.category is None else setting.category(category, base.teaching.seed)
        measured.append(_measurement(evaluate(changed, EvaluateOptions(teaching, place / run, gallery=0))))
    weights = {"weights": RANDOM} if network.weights.random_seed is not None else {}
    return ExperimentRow(
        label=setting.label,
        value=setting.value,
        series=setting.series,
        categories=tuple(measured),
        extra={**setting.extra, **weights},
    )


def _ir_for(network: ConvertOptions, precision: IrPrecision, category: Category, root: Path) -> Path:
    """The network's IR, made once; an int8 one for each category, on whose good parts it is calibrated."""
    described = {name: str(value) for name, value in asdict(network).items()} | {"precision": precision}
    if precision == "int8":
        described["category"] = str(category.path.resolve())
    digest = hashlib.sha256(repr(sorted(described.items())).encode()).hexdigest()[:10]
    out = root / f"{network.backbone}-{precision}-{digest}"
    if not (out / MODEL_JSON).is_file():
        make_ir(network, out, precision=precision, calibration=category.train, report=say)
    return out


def _measurement(results: CategoryResults) -> CategoryMeasurement:
    pixel, operating, stages = results.pixel, results.operating, results.stage_ms
    return CategoryMeasurement(
        category=results.category,
        image_auroc=results.image.auroc,
        pixel_auroc=None if pixel is None else pixel.auroc,
        aupro=None if pixel is None else pixel.aupro,
        false_reject=operating.false_rejects.rate,
        miss=operating.misses.rate,
        embed_ms=stages["embed"],
        search_ms=stages["search"],
        total_ms=stages["total"],
        bank_vectors=results.bank_vectors,
    )


def _describe(base: Base) -> dict[str, str]:
    network, teaching = base.network, base.teaching
    geometry = network.geometry
    return {
        "backbone": network.backbone,
        "weights": _describe_weights(network.weights),
        "layers": ", ".join(network.layers),
        "embedding": network.embedding,
        "input": f"{geometry.input_width}×{geometry.input_height}",
        "coreset ratio": f"{teaching.coreset_ratio:g}",
        "false-reject rate asked for": f"{teaching.false_reject_rate:g}",
        "seed": str(teaching.seed),
    }


def _describe_weights(choice: WeightsChoice) -> str:
    if choice.file is not None:
        return shown(choice.file.name)
    return "published" if choice.random_seed is None else "random"


_FILE_NAME = str.maketrans(dict.fromkeys(" /\\:%,=()²·", "_"))
