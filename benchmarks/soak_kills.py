"""Soak with kills: the fault tests' campaign, on the demo's line."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.rig.broker import BrokerProcess
from benchmarks.rig.campaign import Outcome, Plan, run_campaign
from benchmarks.rig.station import Station
from edge.bundle.bundle import read_bundle

WINDOW = 10  # the default of mqtt.window
LINE_FPS = 25
TELL_EVERY = 10  # kills

console = Console(highlight=False)


def line_settings(bundle: Path) -> dict[str, object]:
    """The demo's line, as its bundle was taught."""
    manifest = read_bundle(bundle).manifest
    return {
        "source.simulated_height": manifest.frame_height,
        "source.simulated_width": manifest.frame_width,
    }


def run_kills(bundle: Path, kills: int, broker_kills: int, seed: int) -> dict[str, Any]:
    """Kill the service and its broker so often; what was seen, with `passed`."""

    def tell(done: int, messages: int) -> None:
        if done % TELL_EVERY == 0:
            console.print(f"{done} of {kills + broker_kills} kills, {messages} messages")

    settings = {**line_settings(bundle), "source.fps": LINE_FPS, "service.drain_timeout_s": 60}
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="patchline-soak-") as scratch:
        directory = Path(scratch)
        with (
            BrokerProcess(directory / "broker.jsonl") as broker,
            Station(directory, bundle, (broker.host, broker.port), settings) as station,
        ):
            outcome = run_campaign(station, broker, Plan(kills, broker_kills, seed), tell)
            messages = len(broker.log.accepted(""))
    return _report(outcome, messages, time.monotonic() - started)


def _report(outcome: Outcome, messages: int, seconds: float) -> dict[str, Any]:
    findings = outcome.findings
    passed = (
        not findings.lost
        and not findings.inverted
        and not findings.crops_lost
        and outcome.most_repeats <= WINDOW + 1
        and outcome.exit_code == 0
    )
    return {
        "kills": outcome.kills,
        "broker_kills": outcome.broker_kills,
        "messages": messages,
        "verdicts_committed": findings.committed,
        "verdicts_received": findings.received,
        "lost": len(findings.lost),
        "inverted": len(findings.inverted),
        "crops_lost": len(findings.crops_lost),
        "repeated": len(findings.repeats),
        "most_repeats_after_one_kill": outcome.most_repeats,
        "seconds": round(seconds, 1),
        "exit_code": outcome.exit_code,
        "passed": passed,
    }
