"""README's and docs/performance.md's tables from committed results: `python -m benchmarks.table FILE.json …`.

Each table stands between its two markers; a test holds the documents to what the results say.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.materials import ROOT
from benchmarks.records import (
    CaseResult,
    CompareResults,
    Curve,
    CurveLine,
    CurvesResults,
    Latency,
    Machine,
    ServiceStart,
    VariantResult,
    ratio,
)
from edge.errors import ExportError
from edge.files.atomic import write_file
from edge.files.schema import read_json

README, PERFORMANCE = ROOT / "README.md", ROOT / "docs" / "performance.md"
_RIVALS = ("graph-f32", "graph-bf16")
_NONE = "–"


def main() -> None:
    """Put the tables of each file into the documents."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table", description=__doc__)
    parser.add_argument("results", nargs="+", type=Path)
    for path in parser.parse_args().results:
        for document, tables in document_tables(read_results(path)).items():
            text = document.read_text(encoding="utf-8")
            write_file(document, put_tables(text, tables, document).encode())


def read_results(path: Path) -> CompareResults | CurvesResults:
    """Either kind.

    Raises:
        BundleError: the file cannot be read, or is neither.
    """
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")).get("kind") == "curves":
        return read_json(path, CurvesResults)
    return read_json(path, CompareResults)


def document_tables(results: CompareResults | CurvesResults) -> dict[Path, dict[str, str]]:
    """Document → marker → what stands between."""
    if isinstance(results, CurvesResults):
        return {PERFORMANCE: {"benchmark:curves": "\n\n".join(curve_tables(results))}}
    readme = "\n\n".join([describe(results.machine), *map(summary_table, results.cases)])
    return {README: {"benchmark": readme}, PERFORMANCE: {"benchmark:compare": "\n\n".join(compare_tables(results))}}


def put_tables(text: str, tables: dict[str, str], document: Path) -> str:
    """`text` with every table between its markers.

    Raises:
        ExportError: a marker is missing.
    """
    for name, table in tables.items():
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        before, found, rest = text.partition(begin)
        _, ended, after = rest.partition(end)
        if not found or not ended:
            raise ExportError(f"{document}: expected '{begin}' and then '{end}', got none; put them back")
        text = f"{before}{begin}\n\n{table}\n\n{end}{after}"
    return text


def describe(machine: Machine) -> str:
    """What the figures were measured on, as a sentence."""
    cores = f"{machine.cores} {'virtual ' if machine.virtual else ''}cores"
    isa = "AMX" if "amx_int8" in machine.isa else "AVX-512" if "avx512f" in machine.isa else "AVX2"
    return (
        f"Measured on {machine.cpu}, {cores} ({isa}), {machine.memory_gb:.0f} GB, {machine.date} UTC; OpenVINO "
        f"{machine.versions['openvino']}, faiss {machine.versions['faiss-cpu']}; by `{machine.command}`."
    )


def summary_table(case: CaseResult) -> str:
    """README's: latency, rate, start, memory and how many times faster than the graphs, of PASS frames."""
    columns: list[tuple[str, Callable[[VariantResult], str]]] = [
        ("", lambda variant: variant.title),
        ("PASS p50", lambda variant: f"**{_ms(variant.passes.p50)}**"),
        ("p99", lambda variant: _ms(variant.passes.p99)),
        ("FAIL p50", lambda variant: _NONE if variant.fails is None else _ms(variant.fails.p50)),
        ("p99", lambda variant: _NONE if variant.fails is None else _ms(variant.fails.p99)),
        ("after a pause", lambda variant: _NONE if (ms := variant.after_pause_p50_ms) is None else _ms(ms)),
        ("frames/s", lambda variant: f"{variant.one_at_a_time_fps:.1f}"),
        ("in flight", lambda variant: f"{variant.in_flight_fps:.1f}"),
        ("start", lambda variant: f"{min(variant.start_s):.1f} s"),
        ("memory", lambda variant: f"{variant.peak_memory_mb:.0f} MB"),
        *((f"× {rival}", _times(case, rival)) for rival in _RIVALS if case.variant(rival)),
    ]
    rows = [[cell(variant) for _, cell in columns] for variant in case.variants]
    return f"{_title(case)}{_work(case)}\n\n{_table([title for title, _ in columns], rows)}"


def compare_tables(results: CompareResults) -> list[str]:
    """Everything, for docs/performance.md and the terminal."""
    return [
        describe(results.machine) + (" **A quick run: for trying only.**" if results.quick else ""),
        *(f"{summary_table(case)}\n\n{stage_table(case)}" for case in results.cases),
        limit_table(results),
        search_table(results),
        _coreset(results),
        _rest(results),
    ]


def stage_table(case: CaseResult) -> str:
    """Where the time goes, and how near the network comes to the machine's limit."""
    rows = [
        [
            variant.title,
            *(f"{variant.stages_p50_ms[f'{stage}_ms']:.2f}" for stage in ("preprocess", "embed", "search", "score")),
            _NONE if variant.overhead_p99_ms is None else f"{variant.overhead_p99_ms:.2f}",
            _NONE if variant.network_share is None else f"{variant.network_share:.0%} of {variant.arithmetic}",
            str(len(variant.passes.ms)),
            _NONE if variant.fails is None else str(len(variant.fails.ms)),
        ]
        for variant in case.variants
        if variant.stages_p50_ms
    ]
    head = ["p50 of PASS, ms", "preprocess", "embed", "search", "score", "all but embed and search, p99",
            "matrix peak reached", "PASS frames", "FAIL frames"]  # fmt: skip
    peaks = ", ".join(f"{peak.arithmetic} {peak.tmac_s:.2f}" for peak in case.matrix)
    return (
        f"Network: {case.network_gmac:.2f} G multiply-adds, counted from the IR. Best matrix peaks between its rounds, "
        f"in T multiply-adds/s: {peaks}.\n\n{_table(head, rows)}"
    )


def limit_table(results: CompareResults) -> str:
    """The machine's limits."""
    limits = results.limits
    rows = [
        [peak.arithmetic, f"{peak.tmac_s:.3f} T multiply-adds/s", f"`{peak.kernel}`, {peak.executed_in}"]
        for peak in limits.matrix
    ]
    rows.append(["memory, read", f"{limits.read_gb_s:.0f} GB/s", ""])
    rows.append(["memory, copied", f"{limits.copy_gb_s:.0f} GB/s", ""])
    return f"Limits of this machine: the best of the whole run\n\n{_table(['', 'measured', 'executed by'], rows)}"


def search_table(results: CompareResults) -> str:
    """The search alone."""
    search = results.search
    rows = []
    for title, latency in (
        ("exact, every patch", search.exact_ms),
        ("fast, every patch (map)", search.fast_map_ms),
        ("fast, score alone (PASS)", search.fast_peak_ms),
    ):
        rows.append([title, _ms(latency.p50), _ms(latency.p99), _ratio(search.exact_ms, latency)])
    return (
        f"Search alone: {search.queries} patches in {search.vectors}×{search.dimension}, {search.frames} frames; image "
        f"score {search.score_error:.1e} from the exact one at the most, patch scores {search.map_error:.2%} on average"
        f"\n\n{_table(['', 'p50 ms', 'p99 ms', '× exact'], rows)}"
    )


def curve_tables(results: CurvesResults) -> list[str]:
    """Every curve's values, and its picture."""
    return [describe(results.machine), *map(_curve, results.curves)]


def _curve(curve: Curve) -> str:
    columns: dict[CurveLine, str] = {}
    for panel in curve.panels:
        for line in panel.lines:  # a panel may show lines of another one again, larger
            columns.setdefault(line, f"{panel.title}: {line.name}, {panel.y_label}")
    found = [dict(zip(line.x, map(_ms, line.y), strict=True)) for line in columns]
    rows = [
        [f"{x:g}", *(column.get(x, _NONE) for column in found)] for x in sorted({x for line in columns for x in line.x})
    ]
    head = [curve.parameter, *columns.values()]
    picture = f"![{curve.name}](../benchmarks/results/{curve.name}.svg)"
    return f"### {curve.name.replace('-', ' ').capitalize()}\n\n{curve.setting}\n\n{picture}\n\n{_table(head, rows)}"


def _coreset(results: CompareResults) -> str:
    coreset = results.coreset
    agree = "the same picks" if coreset.same_picks else "OTHER PICKS"
    return (
        f"Coreset: {coreset.points}×{coreset.dimension} → {coreset.picks}: ours {coreset.ours_s:.1f} s, the plain loop "
        f"{coreset.plain_s:.0f} s (extrapolated from {coreset.plain_timed} picks; {agree}): "
        f"**{coreset.plain_s / coreset.ours_s:.0f} times** faster."
    )


def _rest(results: CompareResults) -> str:
    lines = [
        *start_lines(results.service_start),
        "",
        f"Preprocessing of a 1920×1080 frame: {results.preprocess_1080p_ms:.2f} ms.",
    ]
    return "\n".join(lines)


def start_lines(starts: Sequence[ServiceStart]) -> list[str]:
    """From process start to the first verdict: a sentence, and a table of phases where they were measured."""
    best = "; ".join(f"{start.case} {min(start.seconds):.2f} s (best of {len(start.seconds)})" for start in starts)
    lines = [f"`patchline-edge run`, process start to first verdict, self-test included, warm cache: {best}."]
    measured = [start for start in starts if start.phases_s]
    if measured:
        phases = list(measured[0].phases_s)
        head = ["process start to first verdict, s", "run", "bare graph", "× graph", *phases]
        rows = [
            [
                start.case,
                f"{min(start.seconds):.2f}",
                f"{min(start.graph_s):.2f}",
                f"**{start.times_graph():.1f}**",
                *(f"{start.phases_s[phase]:.2f}" for phase in phases),
            ]
            for start in measured
        ]
        lines += ["", _table(head, rows)]
    return lines


def _title(case: CaseResult) -> str:
    return (
        f"**{case.backbone}** ({case.weights}), {case.frame_size} frames, {case.input_size} input, {case.patches} "
        f"patches, bank {case.bank_vectors}×{case.dimension}; milliseconds"
    )


def _work(case: CaseResult) -> str:
    """Whether all do the same work, and that it was checked."""
    if case.score_difference is None:
        return ". The graph alone re-weights its image score (equation 7)" if not case.reweight_neighbours else ""
    return (
        f". Every variant re-weights its image score over {case.reweight_neighbours} neighbours; those of graph and "
        f"ours, both at f32, differ by {case.score_difference:.0e} of themselves at the most"
    )


def _times(case: CaseResult, rival: str) -> Callable[[VariantResult], str]:
    slower = case.variant(rival)
    return lambda variant: _NONE if slower is None else _ratio(slower.passes, variant.passes)


def _ratio(slower: Latency, faster: Latency) -> str:
    found = ratio(slower, faster)
    return _NONE if found is None else f"**{found.median:.1f}** ({found.low:.1f}–{found.high:.1f})"


def _ms(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(line)} |" for line in (head, *rows)]
    lines.insert(1, f"|---|{'---:|' * (len(head) - 1)}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
