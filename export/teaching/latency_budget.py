"""Teach within a latency budget: the arithmetic, bank size and search that meet it on this machine.

Every alternative is a whole bundle, taught as always and timed by the inspector that runs on the line, on the path that
takes longest: a failed part with its map, regions and crops. What it costs in separation is seen on good parts that
were held out, as they are and with drawn defects (`export.teaching.synthetic_defects`).
"""

from __future__ import annotations

import itertools
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import openvino as ov
from threadpoolctl import ThreadpoolController

from edge.bundle.bundle import MANIFEST, Bundle, Manifest, read_bundle, seal
from edge.bundle.ir import read_ir_description
from edge.errors import ExportError
from edge.files.atomic import write_directory, write_file
from edge.files.pictures import list_pictures, read_picture
from edge.files.schema import hash_bytes
from edge.health.usage import cpu_model
from edge.inspection.inspector import Inspector
from edge.inspection.options import InspectorOptions
from edge.records import Frame, FrameIdentity, Precision, Search, UInt8Array
from edge.terminal import phase, say
from export.conversion.make_ir import CALIBRATION_PICTURES, import_quantize, load_inputs
from export.conversion.reference import FeaturesError
from export.metrics.detection import auroc
from export.teaching.alternatives import Alternative, choose
from export.teaching.options import TeachOptions, recipe_of, refuse_early
from export.teaching.synthetic_defects import add_defect
from export.teaching.teach import teach

SHARES = (1.0, 0.3, 0.1, 0.03, 0.01)  # of the coreset ratio asked for, tried in this order
SEARCHES: tuple[Search, ...] = ("exact", "fast")
_WARM_UP = 10
FRAMES = 200  # timed of each kind; a 99th percentile of far fewer means little
_PARTS = 60  # held-out parts that are used at the most
_PERCENTILE = 99.0


@dataclass(frozen=True, slots=True)
class Fitted:
    """What was chosen, and what else was tried."""

    manifest: Manifest
    chosen: Alternative
    alternatives: tuple[Alternative, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Taught:
    directory: Path
    alternative: Alternative


def fit(options: TeachOptions, budget_ms: float) -> Fitted:
    """`teach_within`, with an int8 IR made of `options.ir` where that can be done."""
    refuse_early(options, read_ir_description(options.ir))
    with tempfile.TemporaryDirectory(prefix="patchline-") as scratch:
        int8 = quantised_ir(options, Path(scratch) / "int8")
        return teach_within(options, budget_ms, [options.ir, *([] if int8 is None else [int8])])


def teach_within(options: TeachOptions, budget_ms: float, irs: Sequence[Path], frames: int = FRAMES) -> Fitted:
    """Teach with every IR and arithmetic of this machine, from the largest bank down until `budget_ms` is met.

    `options.coreset_ratio` is the largest. Nothing is left behind but the chosen bundle.

    Args:
        options: of `teach`; `ir`, `precision` and `search` are what is chosen.
        budget_ms: 99th percentile of a frame's latency, milliseconds.
        irs: IR directories of the same network, such as f32 and int8.
        frames: how many are timed, of good parts and again of ones with drawn defects.

    Raises:
        ExportError: no setting meets the budget, or as `teach`.
        PatchlineError: as `teach`.
    """
    refuse_early(options, read_ir_description(options.ir))
    name = recipe_of(options)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.out.parent, prefix=f".{options.out.name}.budget.") as scratch:
        taught: list[_Taught] = []
        for number, (ir, precision) in enumerate(itertools.product(irs, arithmetics(options.device))):
            setting = replace(options, ir=ir, precision=precision, name=name, replace=True)
            taught += _descend(setting, budget_ms, frames, Path(scratch) / str(number))
        chosen = choose([entry.alternative for entry in taught], budget_ms)
        directory = next(entry.directory for entry in taught if entry.alternative is chosen)
        manifest = _publish(read_bundle(directory), directory, chosen.search, options)
    return Fitted(manifest, chosen, tuple(entry.alternative for entry in taught))


def arithmetics(device: str) -> tuple[Precision, ...]:
    """What `device` computes natively, f32 first."""
    try:
        capabilities = set(ov.Core().get_property(device.partition(":")[0], "OPTIMIZATION_CAPABILITIES"))
    except RuntimeError:  # a device that does not say, or none: teaching says what is wrong with it
        capabilities = set()
    found: list[Precision] = ["f32"]
    if "BF16" in capabilities:
        found.append("bf16")
    elif "FP16" in capabilities and "GPU" in device:
        found.append("f16")
    return tuple(found)


def write_alternatives(fitted: Fitted, budget_ms: float, path: Path) -> None:
    """Everything that was tried, as JSON.

    Raises:
        ExportError: the disk refuses.
    """
    report = {
        "budget_ms": budget_ms,
        "machine": cpu_model(),
        "bundle": fitted.manifest.identity,
        "chosen": asdict(fitted.chosen),
        "alternatives": [asdict(entry) for entry in fitted.alternatives],
    }
    try:
        write_file(path, (json.dumps(report, indent=2) + "\n").encode())
    except OSError as error:
        raise ExportError(f"--budget-report {path}: cannot be written ({error.strerror})") from error


def quantised_ir(options: TeachOptions, out: Path) -> Path | None:
    """An int8 IR made of `options.ir` on its teaching pictures; None where that cannot be done, saying why."""
    ir = read_ir_description(options.ir)
    if ir.precision != "f32":
        return None
    pictures = list(options.pictures) or list_pictures(str(options.images))
    try:
        inputs = load_inputs(pictures, ir.geometry, CALIBRATION_PICTURES)
        import_quantize()(options.ir, inputs, out, report=say)
    except ExportError as error:
        say(f"note: int8 is not tried: {error}")
        return None
    return out


def _descend(options: TeachOptions, budget_ms: float, count: int, scratch: Path) -> Iterator[_Taught]:
    """From the largest bank to the first that meets the budget; none where this machine miscalculates the model."""
    pictures: tuple[list[UInt8Array], list[UInt8Array]] | None = None
    for share in SHARES:
        out = scratch / f"{share:g}"
        ratio = options.coreset_ratio * share
        say(f"trying {100 * ratio:g} % of the patches with {options.ir.name} in {options.precision}")
        try:
            teach(replace(options, out=out, coreset_ratio=ratio))
        except FeaturesError as error:
            say(f"note: {options.ir.name} in {options.precision} is not tried: {error}")
            return
        bundle = read_bundle(out)
        pictures = pictures or _good_and_defective(bundle, options)
        met = False
        for search in SEARCHES:
            inspector = Inspector(bundle, InspectorOptions(device=options.device, search=search))
            alternative = _measure(bundle, inspector, search, pictures, count)
            met = met or alternative.meets(budget_ms)
            yield _Taught(out, alternative)
        if met or bundle.manifest.bank.vectors == 1:
            return


def _good_and_defective(bundle: Bundle, options: TeachOptions) -> tuple[list[UInt8Array], list[UInt8Array]]:
    """Held-out good parts, and the same with drawn defects."""
    wanted = {record.sha256 for record in bundle.manifest.teaching.held_out_scores}
    good: list[UInt8Array] = []
    for path in (*(options.pictures or list_pictures(str(options.images))), *options.calibration):
        if len(good) < _PARTS and hash_bytes(path.read_bytes()).sha256 in wanted:
            good.append(read_picture(path))
    inspector = Inspector(bundle, InspectorOptions(device=options.device))
    ignored = None if bundle.mask is None else bundle.mask > 0
    generator = np.random.default_rng([options.seed, 6])
    return good, [add_defect(image, inspector.region, ignored, generator) for image in good]


def _measure(
    bundle: Bundle,
    inspector: Inspector,
    search: Search,
    pictures: tuple[list[UInt8Array], list[UInt8Array]],
    count: int,
) -> Alternative:
    good, bad = pictures
    as_the_line_does = ThreadpoolController().select(threading_layer="pthreads").limit(limits=1)
    with as_the_line_does, phase(f"timing {search} search", 2 * count) as done:
        passing, good_scores = _time(inspector, good, count, want_map=False)
        done(count)
        failing, bad_scores = _time(inspector, bad, count, want_map=True)
        done(2 * count)
    bank = bundle.manifest.bank
    return Alternative(
        ir_precision=bundle.manifest.ir.precision,
        arithmetic=bundle.manifest.inference_precision,
        coreset_ratio=bank.coreset_ratio,
        vectors=bank.vectors,
        search=search,
        pass_ms=float(np.median(passing)),
        fail_ms=float(np.percentile(failing, _PERCENTILE)),
        auroc=auroc(good_scores, bad_scores),
        found=float(np.mean([score > inspector.threshold for score in bad_scores])),
    )


def _time(
    inspector: Inspector, images: Sequence[UInt8Array], count: int, *, want_map: bool
) -> tuple[list[float], list[float]]:
    """Milliseconds of `count` frames, and the score of every picture."""
    times, scores = [], {}
    for number in range(_WARM_UP + max(count, len(images))):
        started = time.perf_counter()
        frame = Frame(FrameIdentity(number, time.time(), time.monotonic()), images[number % len(images)])
        verdict = inspector.inspect(frame, want_map=want_map).verdict
        times.append(1e3 * (time.perf_counter() - started))
        scores[number % len(images)] = verdict.score
    return times[_WARM_UP:], list(scores.values())


def _publish(bundle: Bundle, directory: Path, search: Search, options: TeachOptions) -> Manifest:
    """The chosen bundle at its place, with its search."""
    scoring = bundle.manifest.scoring.model_copy(update={"search": search})
    manifest = seal(bundle.manifest.model_copy(update={"scoring": scoring}))
    files = {name: (directory / name).read_bytes() for name in manifest.files}
    files[MANIFEST] = (manifest.model_dump_json(indent=2) + "\n").encode()
    write_directory(options.out, files, replace=options.replace, error=ExportError)
    return manifest
