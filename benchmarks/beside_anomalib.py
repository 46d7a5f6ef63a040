"""Patchline beside anomalib itself, in turns: `python -m benchmarks.beside_anomalib --python PYTHON`.

PYTHON is one that has anomalib and OpenVINO, such as of an environment made for that: `pip install anomalib==2.7.0
openvino==2026.4.0`. Its Patchcore (torch module, random weights, with the very bank that ours searches) is converted to
OpenVINO IR once, and then run bare: compiled here, no inferencer around it, pictures resized as ours are.
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

import numpy as np

from benchmarks.compare import WIDE, best_arithmetic, variants_of
from benchmarks.contest import Variant, compete
from benchmarks.materials import LARGE_BANK, ROOT, Case, Materials
from benchmarks.records import Latency, ratio
from benchmarks.worker import Spec

_SIDE = 256


def main() -> None:
    """Measure, and print a line for each."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.beside_anomalib",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--python", type=Path, required=True, help="one that has anomalib")
    parser.add_argument("--backbone", default=WIDE, help="a ResNet (%(default)s)")
    parser.add_argument("--bank", type=int, default=LARGE_BANK, help="vectors (%(default)s)")
    parser.add_argument("--rounds", type=int, default=12, help="(%(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "benchmarks", help="keeps what is measured on")
    arguments = parser.parse_args()
    case, materials = Case(arguments.backbone, arguments.bank), Materials(arguments.out.resolve())
    theirs = Variant("anomalib", "anomalib", anomalib_spec(materials, case, arguments.python), best_arithmetic())
    ours = [one for one in variants_of(case, materials, 1) if one.name.endswith(best_arithmetic())]
    print("\n".join(measure([theirs, *ours], arguments.rounds)))


def anomalib_spec(materials: Materials, case: Case, python: Path) -> Spec:
    """Its graph, exported by `python` when it is first asked for."""
    made = materials.directory / f"anomalib-{case.name}" / "model.xml"
    if not made.is_file():
        made.parent.mkdir(exist_ok=True)
        bank = made.with_name("bank.npy")
        np.save(bank, materials.bank(case))
        export = ROOT / "benchmarks" / "anomalib_export.py"
        subprocess.run([str(python), str(export), case.backbone, str(bank), str(_SIDE), str(made)], check=True)
    return Spec(
        engine="anomalib",
        model=str(made),
        arithmetic=best_arithmetic(),
        good=str(materials.shown_good()),
        defective=str(materials.shown_defective()),
        cache=str(materials.cache),
    )


def measure(variants: list[Variant], rounds: int) -> list[str]:
    """Median milliseconds of good parts, and how many times as long anomalib takes, round by round."""
    samples = compete(variants, rounds=rounds, starts=1, throughput_s=0)
    passes = {variant.name: Latency.of(samples[variant.name].passes) for variant in variants}
    lines = []
    for variant in variants:
        found = ratio(passes["anomalib"], passes[variant.name])
        times = "–" if found is None else f"{found.median:.1f} ({found.low:.1f}–{found.high:.1f})"
        lines.append(f"{variant.title:24} {passes[variant.name].p50:8.1f} ms   anomalib takes {times} times as long")
    return lines


if __name__ == "__main__":
    main()
