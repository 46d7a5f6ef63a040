"""The usual deployment, the plain implementation and ours, in one run, in turns: `python -m benchmarks.compare`.

- `graph`: the whole PatchCore graph, bank included, as one IR (`benchmarks.graph`), f32 and bf16;
- `plain`: f32 IR, faiss's exhaustive search, a map of every frame;
- `ours`: Patchline's inspector with fast search and a map of failed frames, on int8, bf16 and f32 IRs.

Each works in a process of its own, a few frames at a time, round after round. What is measured on is made by
Patchline's own commands and kept below --out: the first run takes longer.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contest import Samples, Variant, compete, conclude
from benchmarks.figures import draw_latencies
from benchmarks.machine import best_peaks, describe_machine, measure_bandwidth, measure_matrix_peaks
from benchmarks.materials import (
    LARGE_BANK,
    PRETRAINED,
    ROOT,
    SMALL_BANK,
    Arithmetic,
    Case,
    IrPrecision,
    Materials,
)
from benchmarks.multiply_adds import count_multiply_adds
from benchmarks.parts import (
    PICKS,
    POINTS,
    measure_coreset,
    measure_preprocess,
    measure_search,
)
from benchmarks.records import CaseResult, CompareResults, Limits, MatrixPeak, VariantResult, write_results
from benchmarks.start import measure_start
from benchmarks.table import compare_tables
from benchmarks.worker import Engine, Spec
from edge.bundle.bundle import MANIFEST, Manifest, read_bundle
from edge.engine.core import has_bf16
from edge.files.schema import read_json
from export.report.style import save

RESULTS = ROOT / "benchmarks" / "results"
WIDE = "wide_resnet50_2"


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    cases: tuple[Case, ...]
    rounds: int
    slow_every: int  # the slow ones take part in one round of so many
    starts: int
    throughput_s: float
    search_rounds: int
    points: int
    picks: int


FULL = Plan(
    cases=(Case(WIDE, LARGE_BANK), Case(WIDE, SMALL_BANK), Case(PRETRAINED, LARGE_BANK)),
    rounds=20,
    slow_every=4,
    starts=2,
    throughput_s=1.2,
    search_rounds=16,
    points=POINTS,
    picks=PICKS,
)
QUICK = Plan(
    cases=(Case(PRETRAINED, SMALL_BANK),),
    rounds=6,
    slow_every=2,
    starts=1,
    throughput_s=0.5,
    search_rounds=4,
    points=20_000,
    picks=2_000,
)


def main() -> None:
    """Measure, write JSON and picture, print the tables (or, with --json, the JSON)."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a small network, few frames: does everything work?")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "benchmarks", help="keeps what is measured on")
    parser.add_argument("--results", type=Path, default=None, help="JSON file to write (default: below --out)")
    parser.add_argument("--json", action="store_true", help="print the JSON instead of tables")
    arguments = parser.parse_args()
    plan = QUICK if arguments.quick else FULL
    results = measure(plan, Materials(arguments.out.resolve()), quick=arguments.quick)
    written = arguments.results or arguments.out / "compare.json"
    write_results(results, written)
    for case in results.cases:
        save(draw_latencies(case, f"latency-{case.name}"), written.parent)
    say(f"{written} and pictures beside it written")
    print(results.model_dump_json(indent=1) if arguments.json else "\n\n".join(compare_tables(results)))


def measure(plan: Plan, materials: Materials, *, quick: bool) -> CompareResults:
    """Everything."""
    say("preparing")
    prepared = [(case, variants_of(case, materials, plan.slow_every)) for case in plan.cases]
    say("parts by themselves")
    coreset = measure_coreset(materials, plan.points, plan.picks)  # before NumPy keeps to one thread
    search = measure_search(materials, plan.cases[0], rounds=plan.search_rounds)
    service_start = [
        measure_start(materials, case, starts=plan.starts, arithmetic=best_arithmetic()) for case in plan.cases
    ]
    cases, peaks = [], []
    for case, variants in prepared:
        say(f"{case.name}: {len(variants)} variants in turns")
        results, peaks_beside, difference = compare_case(variants, plan)
        described = describe_case(case, materials, results, peaks_beside)
        cases.append(with_shares(described).model_copy(update={"score_difference": difference}))
        peaks.append(peaks_beside)
    read, copied = measure_bandwidth()
    return CompareResults(
        quick=quick,
        machine=describe_machine("benchmarks.compare"),
        cases=tuple(cases),
        limits=Limits(matrix=best_peaks(peaks), read_gb_s=read, copy_gb_s=copied),
        search=search,
        coreset=coreset,
        service_start=tuple(service_start),
        preprocess_1080p_ms=measure_preprocess(),
    )


def compare_case(
    variants: Sequence[Variant], plan: Plan
) -> tuple[list[VariantResult], tuple[MatrixPeak, ...], float | None]:
    """Results, without shares; the best matrix peaks seen between the rounds; how far scores differ."""
    peaks = [measure_matrix_peaks()]
    samples = compete(
        variants,
        rounds=plan.rounds,
        starts=plan.starts,
        throughput_s=plan.throughput_s,
        between=lambda number: peaks.append(measure_matrix_peaks()) if number % plan.slow_every == 0 else None,
    )
    return [conclude(one, samples[one.name]) for one in variants], best_peaks(peaks), score_difference(samples)


def score_difference(samples: Mapping[str, Samples]) -> float | None:
    """The largest relative difference of an image score, ours from the graph's, both at f32; none without either."""
    graph, ours = samples.get("graph-f32"), samples.get("ours-f32-f32")
    if graph is None or ours is None or not graph.scores:
        return None
    return max(abs(got / expected - 1) for got, expected in zip(ours.scores, graph.scores, strict=True))


def variants_of(case: Case, materials: Materials, slow_every: int) -> list[Variant]:
    """What this machine can do; bf16 only where it has it."""
    arithmetics = available_arithmetics()

    def spec(engine: Engine, model: Path, arithmetic: Arithmetic) -> Spec:
        return Spec(
            engine=engine,
            model=str(model),
            arithmetic=arithmetic,
            good=str(materials.shown_good()),
            defective=str(materials.shown_defective()),
            cache=str(materials.cache),
        )

    def graph(arithmetic: Arithmetic) -> Variant:
        whole = spec("graph", materials.graph(case), arithmetic)
        return Variant(f"graph-{arithmetic}", f"graph, {arithmetic}", whole, arithmetic, slow_every)

    def ours(precision: IrPrecision, arithmetic: Arithmetic) -> Variant:
        bundle = spec("fast", materials.bundle(case, precision, arithmetic), arithmetic)
        peak = "int8" if precision == "int8" else arithmetic
        return Variant(f"ours-{precision}-{arithmetic}", f"ours, {precision} IR, {arithmetic}", bundle, peak)

    plain = spec("plain", materials.bundle(case, "f32", "f32"), "f32")
    return [
        *map(graph, arithmetics),
        Variant("plain", "plain, f32", plain, "f32", slow_every),
        *(ours(precision, arithmetic) for precision in ("f32", "int8") for arithmetic in arithmetics),
    ]


def available_arithmetics() -> tuple[Arithmetic, ...]:
    """Of what is not int8."""
    return ("f32", "bf16") if has_bf16() else ("f32",)


def best_arithmetic() -> Arithmetic:
    """What the default of this machine is measured with."""
    return available_arithmetics()[-1]


def describe_case(
    case: Case, materials: Materials, variants: Sequence[VariantResult], matrix: tuple[MatrixPeak, ...]
) -> CaseResult:
    """With what it was measured on."""
    bundle = materials.bundle(case, "f32", "f32")
    manifest = read_json(bundle / MANIFEST, Manifest)
    ir = manifest.ir
    return CaseResult(
        name=case.name,
        backbone=case.backbone,
        weights=f"{ir.weights.source} {ir.weights.name}",
        input_size=f"{ir.geometry.input_width}×{ir.geometry.input_height}",
        frame_size=f"{manifest.frame_width}×{manifest.frame_height}",
        patches=ir.grid[0] * ir.grid[1],
        bank_vectors=len(read_bundle(bundle).bank),
        dimension=ir.dimension,
        network_gmac=round(count_multiply_adds(materials.model(case.backbone)) / 1e9, 3),
        matrix=matrix,
        variants=tuple(variants),
        reweight_neighbours=manifest.scoring.reweight_neighbours,
    )


def with_shares(case: CaseResult) -> CaseResult:
    """The share of the matrix peak that each variant's embedding reaches."""
    peaks = {peak.arithmetic: peak.tmac_s for peak in case.matrix}

    def shared(variant: VariantResult) -> VariantResult:
        embed_ms = variant.stages_p50_ms.get("embed_ms")
        if embed_ms is None:
            return variant
        reached = case.network_gmac / embed_ms  # 10⁹ a millisecond are 10¹² a second
        return variant.model_copy(update={"network_share": round(reached / peaks[variant.arithmetic], 3)})

    return case.model_copy(update={"variants": tuple(map(shared, case.variants))})


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
