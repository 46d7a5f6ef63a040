"""Soak: what the promises are worth over thousands of frames, hundreds of kills and a long outage: `make soak`.

1. Undisturbed: every frame has exactly one verdict, and memory, threads and descriptors stay.
2. Kills of the service and of its broker: nothing lost, order kept, few repeats.
3. No broker for many verdicts: they wait on disk, and are delivered faster than the line makes new ones.

Each part is left out by giving it 0. Exit code 1 if a promise is broken.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.soak_kills import run_kills
from benchmarks.soak_offline import run_offline
from benchmarks.soak_steady import run_steady

ROOT = Path(__file__).resolve().parents[1]

console = Console(highlight=False)


def main() -> int:
    """Run the parts and print what they saw."""
    arguments = _parser().parse_args()
    bundle: Path = arguments.bundle
    if not (bundle / "manifest.json").is_file():
        raise SystemExit(f"{bundle}: no bundle there; `make demo` makes one")
    report: dict[str, dict[str, Any]] = {}
    if arguments.frames:
        report["undisturbed"] = run_steady(bundle, arguments.frames, arguments.broker)
        _print("undisturbed", report)
    if arguments.kills or arguments.broker_kills:
        report["kills"] = run_kills(bundle, arguments.kills, arguments.broker_kills, arguments.seed)
        _print("kills", report)
    if arguments.offline:
        report["offline"] = run_offline(bundle, arguments.offline, arguments.line_fps)
        _print("offline", report)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0 if all(part["passed"] for part in report.values()) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--frames", type=int, default=10_000, help="frames of the undisturbed run (%(default)s)")
    add("--kills", type=int, default=200, help="kills of the service (%(default)s)")
    add("--broker-kills", type=int, default=50, help="kills of the broker (%(default)s)")
    add("--offline", type=int, default=100_000, help="verdicts without a broker (%(default)s)")
    add("--line-fps", type=float, default=12.0, help="frames/s of the line while it catches up (%(default)s)")
    add("--seed", type=int, default=0, help="of the kills' moments (%(default)s)")
    add("--bundle", type=Path, default=ROOT / "demo" / "out" / "bundle", help="(%(default)s)")
    add("--broker", choices=("mosquitto", "embedded"), default="mosquitto", help="of the undisturbed run")
    add("--json", type=Path, default=None, help="also write the report to this file")
    return parser


def _print(part: str, report: dict[str, dict[str, Any]]) -> None:
    table = Table(title=f"Soak: {part}", show_header=False)
    for key, value in report[part].items():
        table.add_row(key.replace("_", " "), str(value))
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
