"""One way of inspecting, in a process that works only when it is told to: `python -m benchmarks.worker SPEC`.

A process for each keeps memory, threads and caches of one variant from helping or hindering another, and its start can
be timed. It talks in lines of JSON: the first, unasked, says that it has answered its first frame; then one answer for
each request on standard input.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Protocol

Engine = Literal["graph", "anomalib", "plain", "fast"]
Kind = Literal["good", "defective"]


@dataclass(frozen=True, slots=True)
class Spec:
    """What a worker shall be."""

    engine: Engine
    model: str  # graph: its model.xml; otherwise a bundle
    arithmetic: str
    good: str  # directories of pictures
    defective: str
    cache: str
    cpus: int = 0  # work on the first so many processors; 0: all


@dataclass(frozen=True, slots=True)
class Timed:
    """One frame."""

    ms: float
    score: float
    failed: bool  # the verdict; the graph has none and says False
    stages: dict[str, float]  # milliseconds; empty for the graph


class Line(Protocol):
    """A way of inspecting."""

    def inspect(self, picture: Any) -> Timed:
        """Time one picture (height, width, 3) BGR in memory to its verdict."""
        ...

    def measure_throughput(self, pictures: Sequence[Any], seconds: float) -> tuple[float, int]:
        """Frames a second with several at a time, and how many; pictures are taken in turn for some seconds."""
        ...


class GraphLine:
    """The whole PatchCore graph as one IR: score and map of every frame."""

    def __init__(self, spec: Spec) -> None:
        from benchmarks.graph import CompiledGraph  # noqa: PLC0415 — a start is timed: each engine loads its own
        from edge.inspection.preprocess import make_scratch, prepare  # noqa: PLC0415
        from edge.records import Box  # noqa: PLC0415

        self._prepare, self._box = prepare, Box
        self._graph = CompiledGraph(Path(spec.model), spec.arithmetic, Path(spec.cache))
        self._scratch = make_scratch(self._graph.input[0])
        self._queue: Any = None  # made when it is first needed

    def inspect(self, picture: Any) -> Timed:
        """See `Line.inspect`."""
        started = time.perf_counter()
        self._fill(picture, self._graph.input[0])
        score, _ = self._graph.run()
        return Timed(1e3 * (time.perf_counter() - started), score, failed=False, stages={})

    def measure_throughput(self, pictures: Sequence[Any], seconds: float) -> tuple[float, int]:
        """See `Line.measure_throughput`."""
        queue = self._queue = self._queue or self._graph.queue()
        prepared = self._graph.input.copy()
        for _ in range(len(queue)):  # the first time is slower
            queue.start_async({0: prepared})
        queue.wait_all()
        started, number = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            self._fill(pictures[number % len(pictures)], prepared[0])
            queue.start_async({0: prepared})  # copies its input; waits for a free request
            number += 1
        queue.wait_all()
        return number / (time.perf_counter() - started), len(queue)

    def _fill(self, picture: Any, out: Any) -> None:
        self._prepare(picture, self._box(0, 0, picture.shape[1], picture.shape[0]), out, self._scratch)


class AnomalibLine:
    """anomalib's module as IR, bare: the picture resized as ours is, and normalised, in RGB planes."""

    def __init__(self, spec: Spec) -> None:
        import numpy as np  # noqa: PLC0415 — see GraphLine
        import openvino as ov  # noqa: PLC0415

        from edge.inspection.preprocess import make_scratch, prepare  # noqa: PLC0415
        from edge.records import Box  # noqa: PLC0415

        config = {"INFERENCE_PRECISION_HINT": spec.arithmetic, "PERFORMANCE_HINT": "LATENCY", "CACHE_DIR": spec.cache}
        compiled = ov.Core().compile_model(spec.model, "CPU", config)
        _, planes, height, width = compiled.input(0).shape
        self._resized = np.zeros((height, width, planes), np.uint8)
        self._input = np.zeros((1, planes, height, width), np.float32)
        self._scratch = make_scratch(self._resized)
        self._prepare, self._box = prepare, Box
        # ImageNet's, on values of 0 to 255: x · scale + shift.
        mean, deviation = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], np.float32)[:, :, None, None]
        self._scale, self._shift = 1 / (255 * deviation), -mean / deviation
        self._request = compiled.create_infer_request()
        self._request.set_input_tensor(ov.Tensor(self._input, shared_memory=True))
        self._score = next(
            number for number, output in enumerate(compiled.outputs) if list(output.shape) in ([1], [1, 1], [])
        )

    def inspect(self, picture: Any) -> Timed:
        """See `Line.inspect`."""
        started = time.perf_counter()
        box = self._box(0, 0, picture.shape[1], picture.shape[0])
        self._prepare(picture, box, self._resized, self._scratch)
        planes = self._input[0]
        planes[:] = self._resized[:, :, ::-1].transpose(2, 0, 1)
        planes *= self._scale
        planes += self._shift
        self._request.infer(share_outputs=True)
        score = float(self._request.get_output_tensor(self._score).data.ravel()[0])
        return Timed(1e3 * (time.perf_counter() - started), score, failed=False, stages={})

    def measure_throughput(self, pictures: Sequence[Any], seconds: float) -> tuple[float, int]:
        """See `Line.measure_throughput`: one at a time, as it is compared so."""
        started, number = time.perf_counter(), 0
        while number == 0 or time.perf_counter() - started < seconds:
            self.inspect(pictures[number % len(pictures)])
            number += 1
        return number / (time.perf_counter() - started), 1


class PatchlineLine:
    """A bundle by Patchline's own inspector; `plain` searches exactly and makes a map of every frame."""

    def __init__(self, spec: Spec) -> None:
        from edge.bundle.bundle import read_bundle  # noqa: PLC0415
        from edge.engine.threads import use_one_blas_thread  # noqa: PLC0415
        from edge.inspection.inspector import Inspector  # noqa: PLC0415
        from edge.inspection.options import InspectorOptions  # noqa: PLC0415

        use_one_blas_thread()  # as the service does
        self._plain = spec.engine == "plain"
        self._options = InspectorOptions(search="exact" if self._plain else "fast", cache_dir=Path(spec.cache))
        self._bundle = read_bundle(Path(spec.model))
        self._inspector = Inspector(self._bundle, self._options)
        self._team: tuple[Inspector, ...] = ()  # made when it is first needed
        self._number = 0

    def inspect(self, picture: Any) -> Timed:
        """See `Line.inspect`."""
        from edge.records import Frame, FrameIdentity  # noqa: PLC0415 — loaded already

        started = time.perf_counter()
        identity = FrameIdentity(self._number, time.time(), time.monotonic())
        verdict = self._inspector.inspect(Frame(identity, picture), want_map=self._plain).verdict
        ms = 1e3 * (time.perf_counter() - started)
        self._number += 1
        return Timed(ms, verdict.score, failed=verdict.outcome == "FAIL", stages=asdict(verdict.stages))

    def measure_throughput(self, pictures: Sequence[Any], seconds: float) -> tuple[float, int]:
        """See `Line.measure_throughput`: throughput mode, one frame more than are inspected at a time."""
        from benchmarks.flight import fly  # noqa: PLC0415 — not part of a start
        from edge.inspection.inspector import Inspector  # noqa: PLC0415

        team = self._team = self._team or Inspector(self._bundle, replace(self._options, mode="throughput")).team()
        fps, _ = fly(team, pictures, cameras=len(team) + 1, seconds=seconds, want_map=self._plain)
        return fps, len(team)


def main() -> None:
    """Answer the first frame, then every request until standard input ends."""
    spec = Spec(**json.loads(sys.argv[1]))
    if spec.cpus:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: spec.cpus])
    lines: dict[str, Callable[[Spec], Line]] = {"graph": GraphLine, "anomalib": AnomalibLine}
    line = lines.get(spec.engine, PatchlineLine)(spec)
    first = _read(spec.good, 1)
    answer({"first": asdict(line.inspect(first[0]))})
    pictures: dict[str, list[Any]] = {kind: _read(getattr(spec, kind)) for kind in ("good", "defective")}
    shown = dict.fromkeys(pictures, 0)

    def inspect_next(kind: str) -> dict[str, Any]:
        picture = pictures[kind][shown[kind] % len(pictures[kind])]
        shown[kind] += 1
        return asdict(line.inspect(picture))

    for request in map(json.loads, sys.stdin):
        kind = request.get("kind", "good")
        match request["do"]:
            case "inspect":
                warm = time.perf_counter() + request["warm_s"]
                first_of_turn = inspect_next(kind)
                while time.perf_counter() < warm:
                    inspect_next(kind)
                answer({"first": first_of_turn, "timed": [inspect_next(kind) for _ in range(request["count"])]})
            case "scores":
                shown_first = [picture for of_kind in pictures.values() for picture in of_kind[: request["count"]]]
                answer({"scores": [line.inspect(picture).score for picture in shown_first]})
            case "memory":
                answer({"peak_mb": _peak_memory_mb()})
            case "throughput":
                fps, in_flight = line.measure_throughput(pictures[kind], request["seconds"])
                answer({"fps": fps, "in_flight": in_flight})


def answer(message: dict[str, Any]) -> None:
    """One line to whoever started us."""
    print(json.dumps(message), flush=True)


def _peak_memory_mb() -> float:
    """Of this program alone: what getrusage says begins with the memory of the process that started us."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def _read(directory: str, limit: int | None = None) -> list[Any]:
    from edge.files.pictures import list_pictures, read_picture  # noqa: PLC0415 — see GraphLine

    return [read_picture(path) for path in islice(list_pictures(directory), limit)]


if __name__ == "__main__":
    main()
