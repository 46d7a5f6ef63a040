"""How latency and rate grow with bank, resolution, cores and cameras: `python -m benchmarks.curves`.

What is measured on is what `benchmarks.compare` makes and keeps below --out. Lines of one plot are measured in turns at
each point (over cores: all points in turns), so that a disturbance of the machine does not favour one of them.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import openvino as ov

from benchmarks.compare import available_arithmetics, best_arithmetic, say, variants_of
from benchmarks.contest import Variant, compete
from benchmarks.figures import draw_curve
from benchmarks.flight import fly
from benchmarks.machine import describe_machine
from benchmarks.materials import LARGE_BANK, PRETRAINED, ROOT, SMALL_BANK, Arithmetic, Case, IrPrecision, Materials
from benchmarks.parts import QUERIES, SEARCH_DIMENSION, embed_pictures, enlarge, narrow, timed
from benchmarks.records import Curve, CurveLine, CurvePanel, CurvesResults, write_results
from benchmarks.table import curve_tables
from edge.bundle.bundle import read_bundle
from edge.bundle.ir import MODEL_BIN, MODEL_XML, Geometry, IrDescription, read_ir_description
from edge.engine.embedder import Embedder
from edge.engine.threads import use_one_blas_thread
from edge.files.pictures import list_pictures, read_picture
from edge.inspection.inspector import Inspector
from edge.inspection.options import InspectorOptions
from edge.inspection.preprocess import inspected_region
from edge.inspection.scorer import Scorer
from edge.normality.exact_bank import ExactBank
from edge.normality.fast_bank import FastBank
from edge.records import Float32Array, UInt8Array
from export.conversion.ir_files import model_files
from export.report.style import save

_WARM_UP = 2


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    case: Case
    banks: tuple[int, ...]
    searches: int  # of each kind and bank
    sides: tuple[int, ...]
    frames: int  # of each resolution and precision
    rounds: int  # of turns, for cores
    cameras: tuple[int, ...]
    camera_s: float  # of each number of cameras


FULL = Plan(
    case=Case("wide_resnet50_2", LARGE_BANK),
    banks=(1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000),
    searches=7,
    sides=(224, 256, 320, 384, 448, 512),
    frames=15,
    rounds=12,
    cameras=(1, 2, 3, 4, 6, 8),
    camera_s=3.0,
)
QUICK = Plan(
    case=Case(PRETRAINED, SMALL_BANK),
    banks=(1_000, 5_000, 20_000),
    searches=3,
    sides=(224, 320),
    frames=4,
    rounds=2,
    cameras=(1, 2, 4),
    camera_s=0.5,
)


def main() -> None:
    """Measure, write JSON and plots, print the tables (or, with --json, the JSON)."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.curves", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a small network, few points: does everything work?")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "benchmarks", help="keeps what is measured on")
    parser.add_argument("--results", type=Path, default=None, help="JSON file to write (default: below --out)")
    parser.add_argument("--json", action="store_true", help="print the JSON instead of tables")
    arguments = parser.parse_args()
    use_one_blas_thread()  # as the service does
    plan, materials = QUICK if arguments.quick else FULL, Materials(arguments.out.resolve())
    curves = measure_banks(plan, materials)
    for measure in (measure_sides, measure_cores, measure_cameras):
        say(measure.__name__.replace("_", " "))
        curves.append(measure(plan, materials))
    results = CurvesResults(quick=arguments.quick, machine=describe_machine("benchmarks.curves"), curves=tuple(curves))
    written = arguments.results or arguments.out / "curves.json"
    write_results(results, written)
    for curve in curves:
        save(draw_curve(curve), written.parent)
    say(f"{written} and plots beside it written")
    print(results.model_dump_json(indent=1) if arguments.json else "\n\n".join(curve_tables(results)))


def measure_banks(plan: Plan, materials: Materials) -> list[Curve]:
    """Search, and building the index, over the size of the bank."""
    frames = embed_pictures(materials, plan.case.backbone, materials.shown_good(), 4)
    vectors = materials.bank(plan.case)
    if vectors.shape[1] > SEARCH_DIMENSION:
        frames, vectors = narrow(frames), narrow(vectors)
    queries = np.ascontiguousarray(frames[:, :QUERIES])
    times = [_time_searches(enlarge(vectors, size), queries, plan.searches) for size in plan.banks]
    exact, searched, peak, built = (tuple(column) for column in zip(*times, strict=True))
    x = tuple(map(float, plan.banks))
    fast = (
        CurveLine(name="fast, score alone", x=x, y=peak),
        CurveLine(name="fast, every patch", x=x, y=searched),
    )
    every = (*fast, CurveLine(name="exact", x=x, y=exact))
    setting = (
        f"{vectors.shape[1]} dimensions, features of simulated parts ({plan.case.backbone}); beyond {len(vectors)} "
        "vectors slightly moved copies."
    )
    return [
        Curve(
            name="curve-bank",
            parameter="vectors in the bank",
            setting=f"Search of one frame, {QUERIES} patches. {setting} Medians of {plan.searches}.",
            panels=(
                CurvePanel(title="Search of one frame", y_label="ms", lines=every),
                CurvePanel(title="The fast ones alone", y_label="ms", lines=fast),
            ),
        ),
        Curve(
            name="curve-index",
            parameter="vectors in the bank",
            setting=f"The fast bank's index is built when the service starts. {setting}",
            panels=(
                CurvePanel(
                    title="Index, built at the start", y_label="s", lines=(CurveLine(name="fast", x=x, y=built),)
                ),
            ),
        ),
    ]


def _time_searches(bank: Float32Array, queries: Float32Array, count: int) -> tuple[float, float, float, float]:
    """Median milliseconds of exact search, fast search and fast peak, in turns; seconds to build the fast index."""
    exact = ExactBank(bank)
    built_ms, fast = timed(partial(FastBank, bank))
    rows = []
    for number in range(count + 1):
        patches = np.ascontiguousarray(queries[number % len(queries)])
        actions: tuple[Callable[[Float32Array], object], ...] = (exact.search, fast.search, fast.peak)
        rows.append([timed(partial(action, patches))[0] for action in actions])
    of_exact, of_search, of_peak = np.median(rows[1:], axis=0)
    return round(of_exact, 3), round(of_search, 3), round(of_peak, 3), round(built_ms / 1e3, 3)


def measure_sides(plan: Plan, materials: Materials) -> Curve:
    """Latency over the side of the square input."""
    precisions: list[tuple[IrPrecision, Arithmetic]] = [
        *(("f32", arithmetic) for arithmetic in available_arithmetics()),
        ("int8", best_arithmetic()),
    ]
    bank = FastBank(materials.bank(plan.case))
    pictures = [read_picture(path) for path in list_pictures(materials.shown_good())]
    times = []
    for side in plan.sides:
        scorers = [
            _scorer(materials.ir(plan.case.backbone, ir), side, arithmetic, bank, pictures[0])
            for ir, arithmetic in precisions
        ]
        times.append(_time_scorers(scorers, pictures, plan.frames))
    x = tuple(map(float, plan.sides))
    titles = [f"{ir} IR, {arithmetic}" for ir, arithmetic in precisions]
    return Curve(
        name="curve-resolution",
        parameter="side of the input, pixels",
        setting=f"{plan.case.backbone}, bank of {bank.size} vectors, fast search, PASS frames. "
        f"Medians of {plan.frames}.",
        panels=tuple(
            CurvePanel(
                title=title,
                y_label="ms",
                lines=tuple(
                    CurveLine(name=name, x=x, y=tuple(of_side[number][which] for of_side in times))
                    for number, name in enumerate(titles)
                ),
            )
            for which, title in enumerate(("Whole frame", "Embedding alone"))
        ),
    )


def _scorer(ir: Path, side: int, arithmetic: Arithmetic, bank: FastBank, picture: UInt8Array) -> Scorer:
    xml, weights = ((ir / name).read_bytes() for name in (MODEL_XML, MODEL_BIN))
    description, files = resize_ir(read_ir_description(ir), xml, weights, side)
    embedder = Embedder(description, files[MODEL_XML], files[MODEL_BIN], precision=arithmetic)
    return Scorer(embedder, bank, inspected_region(picture.shape[0], picture.shape[1], description.geometry, None))


def resize_ir(
    description: IrDescription, xml: bytes, weights: bytes, side: int
) -> tuple[IrDescription, dict[str, bytes]]:
    """The same network for square inputs of another size; the side is a multiple of the first layer's stride, 8."""
    model = ov.Core().read_model(model=xml, weights=weights)
    grid = side // 8, side // 8
    for operation in model.get_ops():
        if operation.get_type_name() == "Interpolate":  # deeper layers, to the grid of the first
            operation.input(1).replace_source_output(ov.opset13.constant(np.array(grid, np.int64)).output(0))
        for source in operation.inputs():  # mean and deviation of a row, three numbers again and again
            constant = source.get_source_output().get_node()
            if constant.get_type_name() == "Constant" and constant.shape == [3 * description.geometry.input_width]:
                row = np.resize(constant.data[:3], 3 * side)
                source.replace_source_output(ov.opset13.constant(row).output(0))
    model.get_parameters()[0].set_partial_shape(ov.PartialShape([1, side, side, 3]))
    model.validate_nodes_and_infer_types()
    geometry = Geometry(input_height=side, input_width=side)
    return description.model_copy(update={"geometry": geometry, "grid": grid}), model_files(model)


def _time_scorers(scorers: Sequence[Scorer], pictures: Sequence[UInt8Array], count: int) -> list[tuple[float, float]]:
    """Median milliseconds of whole frame and embedding of each scorer, in turns."""
    rows: list[list[tuple[float, float]]] = [[] for _ in scorers]
    for number in range(_WARM_UP + count):
        for row, scorer in zip(rows, scorers, strict=True):
            stages = scorer.score(pictures[number % len(pictures)]).stages
            row.append((stages.total_ms, stages.embed_ms))
    medians = [np.median(row[_WARM_UP:], axis=0) for row in rows]
    return [(round(float(whole), 3), round(float(embed), 3)) for whole, embed in medians]


def measure_cores(plan: Plan, materials: Materials) -> Curve:
    """Latency and rate over the number of processors, ours and the graph."""
    arithmetic = best_arithmetic()
    names = {f"ours-int8-{arithmetic}": "ours, int8", f"graph-{arithmetic}": f"graph, {arithmetic}"}
    chosen = [variant for variant in variants_of(plan.case, materials, 1) if variant.name in names]
    counts = _core_counts()
    variants = [on_cores(variant, count) for variant in chosen for count in counts]
    samples = compete(variants, rounds=plan.rounds, starts=1, throughput_s=plan.camera_s)
    x = tuple(map(float, counts))

    def lines(values: dict[str, float]) -> tuple[CurveLine, ...]:
        return tuple(
            CurveLine(name=names[variant.name], x=x, y=tuple(values[f"{variant.name}-{count}"] for count in counts))
            for variant in chosen
        )

    latencies = {name: round(float(np.median([ms for _, ms in one.passes])), 3) for name, one in samples.items()}
    rates = {name: round(float(np.mean(one.fps)), 2) for name, one in samples.items()}
    return Curve(
        name="curve-cores",
        parameter="cores",
        setting=f"{plan.case.backbone}, bank of {plan.case.bank} vectors, processes bound to so many cores. Medians.",
        panels=(
            CurvePanel(title="One frame at a time", y_label="ms", lines=lines(latencies)),
            CurvePanel(title="Several in flight", y_label="frames/s", lines=lines(rates)),
        ),
    )


def on_cores(variant: Variant, count: int) -> Variant:
    """The variant, bound to `count` processors."""
    return replace(variant, name=f"{variant.name}-{count}", spec=replace(variant.spec, cpus=count))


def _core_counts() -> list[int]:
    """1, 2, 4, … and all."""
    cores = len(os.sched_getaffinity(0))
    return sorted({*(1 << power for power in range(cores.bit_length()) if 1 << power <= cores), cores})


def measure_cameras(plan: Plan, materials: Materials) -> Curve:
    """Rate and latency over the number of cameras that share one model and one bank."""
    bundle = read_bundle(materials.bundle(plan.case, "int8", best_arithmetic()))
    options = InspectorOptions(search="fast", mode="throughput", cache_dir=materials.cache)
    team = Inspector(bundle, options).team()
    pictures = [read_picture(path) for path in list_pictures(materials.shown_good())]
    measured = [fly(team, pictures, cameras=cameras, seconds=plan.camera_s) for cameras in plan.cameras]
    x = tuple(map(float, plan.cameras))
    rates = tuple(round(rate, 2) for rate, _ in measured)
    medians = tuple(round(float(np.median(latencies)), 3) for _, latencies in measured)
    return Curve(
        name="curve-cameras",
        parameter="cameras",
        setting=f"{plan.case.backbone}, int8, bank of {plan.case.bank} vectors; throughput mode, {len(team)} frames at "
        "a time. Each camera gives its next picture when its last one is answered.",
        panels=(
            CurvePanel(title="All cameras together", y_label="frames/s", lines=(CurveLine(name="rate", x=x, y=rates),)),
            CurvePanel(
                title="Picture to verdict, median", y_label="ms", lines=(CurveLine(name="latency", x=x, y=medians),)
            ),
        ),
    )


if __name__ == "__main__":
    main()
