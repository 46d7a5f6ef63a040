"""How long a station takes from process start to its first verdict, on what, and against a bare graph.

`python -m benchmarks.start` measures `patchline-edge run`, the bare graph (`benchmarks.graph`) and, in a third process,
the phases of the service one after the other; in turns, with OpenVINO's cache filled by the first one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.contest import Worker
from benchmarks.materials import BIN, LARGE_BANK, PRETRAINED, ROOT, Arithmetic, Case, Materials
from benchmarks.records import ServiceStart
from benchmarks.worker import Spec

_SERVICE = 'bundle = "{bundle}"\npublish = ["jsonl"]\n[source]\nkind = "folder"\npath = "{frames}"\n'


def main() -> None:
    """Measure one case and print it."""
    from benchmarks.compare import best_arithmetic  # noqa: PLC0415 — which measures starts as well
    from benchmarks.table import start_lines  # noqa: PLC0415

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.start", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default=PRETRAINED, help="(%(default)s)")
    parser.add_argument("--bank", type=int, default=LARGE_BANK, help="vectors (%(default)s)")
    parser.add_argument("--starts", type=int, default=5, help="of each, after one that fills caches (%(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "benchmarks", help="keeps what is measured on")
    arguments = parser.parse_args()
    case, materials = Case(arguments.backbone, arguments.bank), Materials(arguments.out.resolve())
    started = measure_start(materials, case, starts=arguments.starts + 1, arithmetic=best_arithmetic())
    print("\n".join(start_lines([started])))


def measure_start(materials: Materials, case: Case, *, starts: int, arithmetic: Arithmetic) -> ServiceStart:
    """Service, bare graph and phases in turns; the first turn may have to fill caches, and is not in the phases."""
    bundle = materials.bundle(case, "int8", arithmetic)
    config = materials.directory / "service.toml"
    config.write_text(_SERVICE.format(bundle=bundle, frames=materials.shown_good()), encoding="utf-8")
    graph = Spec(
        engine="graph",
        model=str(materials.graph(case)),
        arithmetic=arithmetic,
        good=str(materials.shown_good()),
        defective=str(materials.shown_defective()),
        cache=str(materials.cache),
    )
    seconds, bare, phases = [], [], []
    for _ in range(starts):
        seconds.append(_start_service(materials, config))
        worker = Worker.start(graph)
        worker.close()
        bare.append(round(worker.start_s, 3))
        phases.append(_time_phases(bundle, materials))
    warm = phases[1:] or phases
    return ServiceStart(
        case=case.name,
        seconds=tuple(seconds),
        graph_s=tuple(bare),
        phases_s={name: round(float(np.median([one[name] for one in warm])), 3) for name in warm[0]},
    )


def _start_service(materials: Materials, config: Path) -> float:
    """Seconds from process start to the first verdict."""
    command = [str(BIN / "patchline-edge"), "run", "--config", str(config)]
    environment = {**os.environ, "CACHE_DIRECTORY": str(materials.cache), "STATE_DIRECTORY": str(materials.directory)}
    log = materials.directory / "service.log"
    with log.open("w", encoding="utf-8") as log_file:
        started = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log_file, env=environment, text=True) as service:
            assert service.stdout is not None
            line = service.stdout.readline()
            elapsed = time.perf_counter() - started
            service.terminate()
            service.communicate()
    if "verdict" not in line:
        raise RuntimeError(
            f"patchline-edge run: expected a verdict on standard output, got '{line.strip()}' and exit code "
            f"{service.returncode}; its log: {log}"
        )
    return round(elapsed, 3)


def _time_phases(bundle: Path, materials: Materials) -> dict[str, float]:
    started = time.time()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.start_phases", repr(started), str(bundle), str(materials.cache)],
        cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    phases: dict[str, float] = json.loads(done.stdout)
    return phases


if __name__ == "__main__":
    main()
