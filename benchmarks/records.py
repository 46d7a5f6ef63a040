"""What benchmarks write as JSON, and how timings become percentiles and ratios."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import Field

from edge.errors import ExportError
from edge.files.atomic import write_file
from edge.files.schema import Strict

_NUMBERS = re.compile(r"\[\s+([-+.,\deE\s]+?)\s+\]")
RATIO_LOW, RATIO_HIGH = 5.0, 95.0  # percentiles of the ratios of single rounds


class Machine(Strict):
    """What figures were measured on."""

    cpu: str
    cores: int
    virtual: bool = Field(description="cores of a virtual machine: two of them may be one physical core")
    isa: tuple[str, ...] = Field(description="vector and matrix extensions that the CPU reports")
    memory_gb: float
    system: str
    versions: dict[str, str]
    date: str = Field(description="UTC")
    command: str


class Latency(Strict):
    """Milliseconds of single frames, in the order they were measured."""

    p50: float
    p99: float
    ms: tuple[float, ...]
    rounds: tuple[int, ...] = Field(description="the round of each; in one round every variant had its turn")

    @classmethod
    def of(cls, samples: Sequence[tuple[int, float]]) -> Self:
        """From (round, milliseconds), at least one."""
        ms = [value for _, value in samples]
        p50, p99 = np.percentile(ms, (50, 99))
        return cls(
            p50=round(float(p50), 3),
            p99=round(float(p99), 3),
            ms=tuple(round(value, 3) for value in ms),
            rounds=tuple(number for number, _ in samples),
        )

    def medians(self) -> dict[int, float]:
        """Round → median of it."""
        grouped: dict[int, list[float]] = defaultdict(list)
        for number, value in zip(self.rounds, self.ms, strict=True):
            grouped[number].append(value)
        return {number: float(np.median(values)) for number, values in grouped.items()}


class Ratio(Strict):
    """How many times faster, from the rounds in which both were measured."""

    median: float
    low: float = Field(description="5th percentile of the rounds")
    high: float = Field(description="95th")
    rounds: int


class VariantResult(Strict):
    """One way of doing the same work."""

    name: str
    title: str
    passes: Latency = Field(description="frames without a map, or every good frame where each has one")
    fails: Latency | None = Field(description="frames with map, regions and crops; the graph: every defective one")
    after_pause_p50_ms: float | None = Field(description="of passed frames, the first after about a second of rest")
    stages_p50_ms: dict[str, float] = Field(description="of passed frames; empty for the graph, which is one piece")
    overhead_p99_ms: float | None = Field(description="of passed frames: total less embed and search")
    one_at_a_time_fps: float
    in_flight_fps: float
    in_flight: int = Field(description="frames in flight")
    start_s: tuple[float, ...] = Field(
        description="process start to first verdict; the first may have had to fill caches"
    )
    peak_memory_mb: float = Field(description="of the process that works on one frame at a time")
    network_share: float | None = Field(description="of the machine's matrix peak reached by the embedding alone")
    arithmetic: str = Field(description="whose peak that is")


class MatrixPeak(Strict):
    """The fastest matrix product that OpenVINO was seen to do here."""

    arithmetic: str
    tmac_s: float = Field(description="10¹² multiply-adds a second")
    kernel: str = Field(description="what OpenVINO says it executed")
    executed_in: str = Field(description="precision that OpenVINO says it executed in")


class CaseResult(Strict):
    """All variants on one network and one size of bank."""

    name: str
    backbone: str
    weights: str
    input_size: str
    frame_size: str
    patches: int
    bank_vectors: int
    dimension: int
    network_gmac: float = Field(description="multiply-adds of the network, counted from its IR, in 10⁹")
    matrix: tuple[MatrixPeak, ...] = Field(description="the best peaks seen between the rounds")
    variants: tuple[VariantResult, ...]
    reweight_neighbours: int = Field(default=0, description="of equation 7, in the image score of every variant")
    score_difference: float | None = Field(
        default=None, description="largest relative difference of an image score, ours at f32 from the graph at f32"
    )

    def variant(self, name: str) -> VariantResult | None:
        """The variant of that name, if this machine has it."""
        return next((variant for variant in self.variants if variant.name == name), None)


class Limits(Strict):
    """What the machine can do at the most, measured between the cases."""

    matrix: tuple[MatrixPeak, ...]
    read_gb_s: float = Field(description="reading a large array, every core on its own part")
    copy_gb_s: float = Field(description="copying one, read and written bytes counted once each")


class SearchResult(Strict):
    """The search alone."""

    queries: int
    vectors: int
    dimension: int
    exact_ms: Latency
    fast_map_ms: Latency
    fast_peak_ms: Latency
    frames: int
    score_error: float = Field(description="largest relative difference of the image score from the exact one")
    map_error: float = Field(description="mean relative difference of a patch score, over all frames")


class CoresetResult(Strict):
    """Greedy selection."""

    points: int
    dimension: int
    picks: int
    ours_s: float
    plain_s: float = Field(description="extrapolated from the picks that were timed: each costs the same")
    plain_timed: int = Field(description="picks of the plain loop that were timed")
    same_picks: bool = Field(description="those are the first ones of ours")


class ServiceStart(Strict):
    """`patchline-edge run`: process start to first verdict, self-test included; the first may have filled caches."""

    case: str
    seconds: tuple[float, ...]
    graph_s: tuple[float, ...] = Field(
        default=(), description="the bare graph's, to its first score, each directly after one of the service"
    )
    phases_s: dict[str, float] = Field(
        default_factory=dict, description="medians of what the service does one after the other, in a third process"
    )

    def times_graph(self) -> float | None:
        """How many times as long as the bare graph, as the median of turns with filled caches."""
        pairs = [ours / bare for ours, bare in zip(self.seconds, self.graph_s, strict=False)]
        return float(np.median(pairs[1:] or pairs)) if pairs else None


class CompareResults(Strict):
    """One run of `python -m benchmarks.compare`."""

    schema_version: Literal[1] = 1
    kind: Literal["compare"] = "compare"
    quick: bool
    machine: Machine
    cases: tuple[CaseResult, ...]
    limits: Limits
    search: SearchResult
    coreset: CoresetResult
    service_start: tuple[ServiceStart, ...]
    preprocess_1080p_ms: float = Field(description="median for a 1920×1080 frame")


class CurveLine(Strict):
    """One series."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]


class CurvePanel(Strict):
    """One plot of a curve."""

    title: str
    y_label: str
    lines: tuple[CurveLine, ...]


class Curve(Strict):
    """How figures grow with one parameter."""

    name: str
    parameter: str
    setting: str = Field(description="what was held still")
    panels: tuple[CurvePanel, ...]


class CurvesResults(Strict):
    """One run of `python -m benchmarks.curves`."""

    schema_version: Literal[1] = 1
    kind: Literal["curves"] = "curves"
    quick: bool
    machine: Machine
    curves: tuple[Curve, ...]


def write_results(results: Strict, path: Path) -> None:
    """As JSON, whole or not at all; a list of numbers takes one line.

    Raises:
        ExportError: the disk refuses.
    """
    text = _NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", results.model_dump_json(indent=1))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, f"{text}\n".encode())
    except OSError as error:
        raise ExportError(f"{path}: cannot be written ({error.strerror})") from error


def ratio(slower: Latency, faster: Latency) -> Ratio | None:
    """How many times `slower` takes as long as `faster`, round by round; none if no round has both."""
    of_slower, of_faster = slower.medians(), faster.medians()
    common = sorted(of_slower.keys() & of_faster.keys())
    if not common:
        return None
    ratios = [of_slower[number] / of_faster[number] for number in common]
    low, median, high = np.percentile(ratios, (RATIO_LOW, 50, RATIO_HIGH))
    return Ratio(median=float(median), low=float(low), high=float(high), rounds=len(common))
