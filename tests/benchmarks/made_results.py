"""Results as a benchmark leaves them, with figures that can be reckoned by hand."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.records import (
    CaseResult,
    CompareResults,
    CoresetResult,
    Curve,
    CurveLine,
    CurvePanel,
    CurvesResults,
    Latency,
    Limits,
    Machine,
    MatrixPeak,
    SearchResult,
    ServiceStart,
    VariantResult,
)

MACHINE = Machine(
    cpu="A CPU",
    cores=2,
    virtual=True,
    isa=("avx2", "avx512f", "amx_int8"),
    memory_gb=24.0,
    system="Linux 6",
    versions={"openvino": "2026.4.0", "faiss-cpu": "1.15.1"},
    date="2026-11-22 06:00",
    command="python -m benchmarks.compare",
)


PEAK = MatrixPeak(arithmetic="int8", tmac_s=0.5, kernel="brgemm", executed_in="u8")


def latency(values: Sequence[float]) -> Latency:
    """One frame in each round."""
    return Latency.of(list(enumerate(values)))


def variant(name: str, title: str, ms: float, *, with_stages: bool = True) -> VariantResult:
    """A variant that takes `ms` for PASS and twice that for FAIL, in ten rounds."""
    return VariantResult(
        name=name,
        title=title,
        passes=latency([ms] * 10),
        fails=latency([2 * ms] * 10),
        after_pause_p50_ms=1.5 * ms,
        stages_p50_ms=(
            {"preprocess_ms": 1.0, "embed_ms": ms / 2, "search_ms": ms / 4, "score_ms": 0.0} if with_stages else {}
        ),
        overhead_p99_ms=1.5 if with_stages else None,
        one_at_a_time_fps=1000 / ms,
        in_flight_fps=1200 / ms,
        in_flight=2,
        start_s=(1.0, 2.0, 9.0),
        peak_memory_mb=500.0,
        network_share=0.5 if with_stages else None,
        arithmetic="int8",
    )


def make_case() -> CaseResult:
    """Two graphs and ours."""
    return CaseResult(
        name="net-100",
        backbone="net",
        weights="random seed 0",
        input_size="256×256",
        frame_size="480×480",
        patches=1024,
        bank_vectors=100,
        dimension=152,
        network_gmac=12.5,
        matrix=(PEAK,),
        variants=(
            variant("graph-f32", "graph, f32", 400.0, with_stages=False),
            variant("graph-bf16", "graph, bf16", 120.0, with_stages=False),
            variant("ours-int8-bf16", "ours, int8 IR, bf16", 20.0),
        ),
    )


def make_compare() -> CompareResults:
    """A whole comparison."""
    return CompareResults(
        quick=False,
        machine=MACHINE,
        cases=(make_case(),),
        limits=Limits(
            matrix=(PEAK,),
            read_gb_s=20.0,
            copy_gb_s=12.0,
        ),
        search=SearchResult(
            queries=784,
            vectors=16_385,
            dimension=1024,
            exact_ms=latency([90.0, 90.0]),
            fast_map_ms=latency([15.0, 15.0]),
            fast_peak_ms=latency([9.0, 9.0]),
            frames=2,
            score_error=1e-7,
            map_error=0.001,
        ),
        coreset=CoresetResult(
            points=1000, dimension=128, picks=100, ours_s=2.0, plain_s=20.0, plain_timed=10, same_picks=True
        ),
        service_start=(
            ServiceStart(
                case="net-100",
                seconds=(9.0, 1.5, 1.7),
                graph_s=(1.0, 0.5, 0.5),
                phases_s={"interpreter and imports": 0.7, "self-test": 0.2},
            ),
        ),
        preprocess_1080p_ms=0.9,
    )


def make_curves() -> CurvesResults:
    """One curve of two panels, the second showing a line of the first again."""
    fast = CurveLine(name="fast", x=(1000.0, 20_000.0), y=(2.0, 4.0))
    exact = CurveLine(name="exact", x=(1000.0, 20_000.0), y=(5.0, 100.0))
    return CurvesResults(
        quick=False,
        machine=MACHINE,
        curves=(
            Curve(
                name="curve-bank",
                parameter="vectors in the bank",
                setting="What was held still.",
                panels=(
                    CurvePanel(title="Both", y_label="ms", lines=(fast, exact)),
                    CurvePanel(title="Fast", y_label="ms", lines=(fast,)),
                ),
            ),
        ),
    )
