"""Latency of one frame at a time for several networks and arithmetics: `python -m benchmarks.latency`.

Each row is made by Patchline's own commands: convert, teach on simulated parts, bench. Weights are random where none
come by pip, as speed does not depend on them. Prints the table that README.md shows.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
PRETRAINED = "efficientnet_lite0"
PARTS = 200  # of which teach holds 99 out, so that a 10 % bank has 101 · 784 / 10 = 7918 vectors


@dataclass(frozen=True, slots=True)
class Variant:
    """One row."""

    backbone: str
    ir_precision: str
    arithmetic: str

    @property
    def name(self) -> str:
        """For directories."""
        return f"{self.backbone}-{self.ir_precision}-{self.arithmetic}"


VARIANTS = tuple(
    Variant(backbone, ir_precision, arithmetic)
    for backbone in (PRETRAINED, "resnet18", "wide_resnet50_2")
    for ir_precision, arithmetic in (("f32", "f32"), ("f32", "bf16"), ("int8", "f32"), ("int8", "bf16"))
)


def main() -> None:
    """Measure every variant and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "latency")
    parser.add_argument("--count", type=int, default=150, help="frames measured per row")
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    good = out / "good"
    if not good.is_dir():
        run("patchline-edge", "capture", "--count", str(PARTS), "--out", str(good))
    reports = [(variant, measure(variant, out, good, arguments.count)) for variant in VARIANTS]
    environment = reports[0][1]["environment"]
    print(f"{environment['cpu']}, {environment['cores']} cores, OpenVINO {environment['openvino']}, "
          f"faiss {environment['faiss']}, {environment['date']}; frame {environment['frame']}, "
          f"input {environment['input']}, {environment['patches']} patches\n")  # fmt: skip
    print("| network | IR, arithmetic | bank | preprocess | embed | search | score | total p50 | p99 | frames/s |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for variant, report in reports:
        print(row(variant, report))


def measure(variant: Variant, out: Path, good: Path, count: int) -> dict[str, Any]:
    """Convert, teach (both only once) and bench."""
    ir = out / f"ir-{variant.backbone}-{variant.ir_precision}"
    weights = [] if variant.backbone == PRETRAINED else ["--random-weights", "0"]
    if not ir.is_dir():
        run("patchline-export", "convert", "--backbone", variant.backbone, *weights, "--input-size", "224",
            "--precision", variant.ir_precision, "--calibration", str(good), "--out", str(ir))  # fmt: skip
    bundle, figures = out / variant.name, out / f"{variant.name}.json"
    if not bundle.is_dir():
        run("patchline-export", "teach", "--ir", str(ir), "--images", str(good), "--out", str(bundle),
            "--arithmetic", variant.arithmetic, "--allow-random")  # fmt: skip
    run("patchline-edge", "bench", "--bundle", str(bundle), "--frames", str(good), "--count", str(count),
        "--json", str(figures))  # fmt: skip
    report: dict[str, Any] = json.loads(figures.read_text(encoding="utf-8"))
    return report


def row(variant: Variant, report: dict[str, Any]) -> str:
    """One line of the table."""
    latency, fps = report["latency_ms"], report["throughput_fps"]
    medians = " | ".join(f"{latency[stage]['p50']:.1f}" for stage in ("preprocess", "embed", "search", "score"))
    return (
        f"| {variant.backbone} | {variant.ir_precision}, {variant.arithmetic} | {report['environment']['bank']} | "
        f"{medians} | **{latency['total']['p50']:.1f}** | {latency['total']['p99']:.1f} | {fps:.0f} |"
    )


def run(program: str, *arguments: str) -> None:
    """One of Patchline's commands; its table goes to our standard error."""
    environment = {**os.environ, "PATCHLINE_SOURCE__DEFECT_RATE": "0"}
    subprocess.run([str(BIN / program), *arguments], check=True, stdout=sys.stderr, env=environment)


if __name__ == "__main__":
    main()
