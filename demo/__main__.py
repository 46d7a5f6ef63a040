"""The main job, end to end, on embedded defaults: `make demo`.

Converts a pretrained backbone, teaches a simulated product, starts an embedded MQTT broker, runs the service on the
simulated line, and listens as any client would. Every step is a command of Patchline's own, run as a user runs it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from rich.console import Console
from rich.table import Table

from demo.broker import EmbeddedBroker
from edge.bundle.bundle import read_bundle
from edge.errors import BundleError, SettingsError
from edge.settings.file import load_settings
from edge.settings.source import SimulatedSettings
from edge.settings.tree import Settings
from edge.sources.simulated.source import draw_part, part_id, truth

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs" / "demo.toml"
OUT = ROOT / "demo" / "out"
GOOD_PARTS = 200  # 99 of them are held out, which is what a false-reject rate of 1 % needs
SERVICE_TIMEOUT_S = 600

console = Console(highlight=False)


class Listener:
    """An MQTT client as a SCADA system would have one: subscribes, and keeps what it receives."""

    def __init__(self, host: str, port: int, base: str) -> None:
        self.verdicts: list[dict[str, Any]] = []
        self.received_s: list[float] = []
        self.crops: dict[str, bytes] = {}
        self.statuses: list[str] = []
        self._base = base
        self._subscribed = threading.Event()
        self.stopped = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id="demo-listener", protocol=MQTTv5)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._on_message
        self._client.connect(host, port)
        self._client.loop_start()
        if not self._subscribed.wait(10):
            raise SystemExit("the demo's listener could not subscribe to the embedded broker")

    def close(self) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(
        self, client: Client, userdata: object, flags: object, reason: ReasonCode, properties: Properties | None
    ) -> None:
        del userdata, flags, reason, properties
        client.subscribe([(f"{self._base}/{suffix}", 1) for suffix in ("verdict", "crop/+", "status")])

    def _on_message(self, client: Client, userdata: object, message: MQTTMessage) -> None:
        del client, userdata
        kind = message.topic.removeprefix(f"{self._base}/").split("/")
        if kind[0] == "status":
            self.statuses.append(message.payload.decode())
            if self.statuses[-1] == "stopped":
                self.stopped.set()
        elif kind[0] == "crop":
            properties = dict(getattr(message.properties, "UserProperty", []))
            self.crops[f"{properties.get('id', 'unknown')}-{kind[1]}"] = bytes(message.payload)
        else:
            verdict = json.loads(message.payload)
            self.received_s.append(time.time())
            self.verdicts.append(verdict)
            _print_verdict(verdict)


def main() -> int:
    """Run the demo and print what came of it."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--frames", type=int, default=None, help="parts to inspect (default: as configs/demo.toml)")
    parser.add_argument("--out", type=Path, default=OUT, help="where bundle, pictures and results go")
    arguments = parser.parse_args()
    out: Path = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    _prepare(out)
    with EmbeddedBroker() as broker:
        environment = {
            "PATCHLINE_BUNDLE": str(out / "bundle"),
            "PATCHLINE_MQTT__HOST": broker.host,
            "PATCHLINE_MQTT__PORT": str(broker.port),
        }
        if arguments.frames:
            environment["PATCHLINE_SOURCE__FRAMES"] = str(arguments.frames)
        os.environ.update(environment)
        settings = load_settings(CONFIG)
        station = settings.station
        base = f"{station.root}/{station.site}/{station.line}/{station.name}"
        console.print(f"\n[bold]Listening[/] to {base}/# at {broker.host}:{broker.port}\n")
        listener = Listener(broker.host, broker.port, base)
        try:
            _run("patchline-edge", "run", "--config", str(CONFIG), log=out / "service.log")
            listener.stopped.wait(10)
        finally:
            listener.close()
    missing = _summarise(listener, settings)
    _save_results(listener, settings, out)
    console.print(f"\nOverlays and crops: {out / 'results'}")
    console.print(f"Service log: {out / 'service.log'}")
    return 1 if missing else 0


def _prepare(out: Path) -> None:
    """IR, pictures of good parts and bundle; made once, taken as they are the next time."""
    if not (out / "ir" / "model.json").is_file():
        console.print("[bold]1[/] Convert EfficientNet-Lite0, pretrained, to OpenVINO IR")
        _run("patchline-export", "convert", "--backbone", "efficientnet_lite0", "--input-size", "224", "--replace",
             "--out", str(out / "ir"))  # fmt: skip
    if not _is_whole(out / "bundle") or not _shows_today_s_product(out / "good"):
        console.print(f"[bold]2[/] Take pictures of {GOOD_PARTS} good parts from the simulated line")
        shutil.rmtree(out / "good", ignore_errors=True)
        shutil.rmtree(out / "bundle", ignore_errors=True)
        _run("patchline-edge", "capture", "--count", str(GOOD_PARTS), "--out", str(out / "good"),
             environment={"PATCHLINE_SOURCE__DEFECT_RATE": "0"})  # fmt: skip
        console.print("[bold]3[/] Teach the product from them")
        _run("patchline-export", "teach", "--ir", str(out / "ir"), "--images", str(out / "good"), "--name", "plate",
             "--replace", "--out", str(out / "bundle"))  # fmt: skip


def _is_whole(bundle: Path) -> bool:
    """Whether this version of Patchline takes the bundle."""
    try:
        read_bundle(bundle)
    except BundleError:
        return False
    return True


def _shows_today_s_product(good: Path) -> bool:
    """Whether the pictures that the bundle was taught from are those that the simulated line draws now."""
    source = _simulated(Settings())
    size = source.simulated_height, source.simulated_width
    taught = cv2.imread(str(good / f"{part_id(source.seed, 0)}.png"))
    return taught is not None and np.array_equal(taught, draw_part(source.seed, 0, size, defect_rate=0.0).image)


def _run(program: str, *arguments: str, log: Path | None = None, environment: dict[str, str] | None = None) -> None:
    """A command of Patchline's, with its messages on this terminal or in `log`."""
    command = [str(Path(sys.executable).parent / program), *arguments]
    console.print(f"  [dim]$ {program} {' '.join(_relative(argument) for argument in arguments)}[/]")
    stream = None if log is None else log.open("w", encoding="utf-8")
    try:
        done = subprocess.run(
            command, env={**os.environ, **(environment or {})}, stderr=stream, check=False, timeout=SERVICE_TIMEOUT_S
        )
    finally:
        if stream is not None:
            stream.close()
    if done.returncode:
        tail = "" if log is None else "\n".join(log.read_text(encoding="utf-8").splitlines()[-5:])
        raise SystemExit(f"{program} {arguments[0]} ended with exit code {done.returncode}\n{tail}")


def _relative(argument: str) -> str:
    path = Path(argument)
    return str(path.relative_to(ROOT)) if path.is_absolute() and path.is_relative_to(ROOT) else argument


def _print_verdict(verdict: dict[str, Any]) -> None:
    colour = {"PASS": "green", "FAIL": "red"}.get(verdict["verdict"], "yellow")
    where = f"  worst at x {verdict['d0_x']}, y {verdict['d0_y']}" if verdict["defects"] else ""
    console.print(
        f"{verdict['part_id']:<12} [{colour}]{verdict['verdict']:<9}[/] score {verdict['score']:6.2f} "
        f"of {verdict['threshold']:.2f}  {verdict['latency_ms']:5.1f} ms{where}"
    )


def _summarise(listener: Listener, settings: Settings) -> int:
    """Print what was found, and return how many verdicts are missing."""
    truths = [_is_defective(verdict, settings) for verdict in listener.verdicts]
    failed = [verdict["verdict"] == "FAIL" for verdict in listener.verdicts]
    defective = sum(truths)
    good = len(truths) - defective
    found = sum(fail and bad for fail, bad in zip(failed, truths, strict=True))
    rejected = sum(fail and not bad for fail, bad in zip(failed, truths, strict=True))
    expected = settings.source.frames or 0
    missing = expected - len({verdict["frame"] for verdict in listener.verdicts})
    table = Table(title="\nSummary", show_header=False, title_style="bold")
    table.add_row("parts / verdicts received", f"{expected} / {len(listener.verdicts)}")
    table.add_row("defective parts found", f"{found} of {defective}")
    table.add_row("false rejects", f"{rejected} of {good} good parts")
    table.add_row("defect crops received", str(len(listener.crops)))
    table.add_row("latency, capture to verdict", _percentiles([v["latency_ms"] for v in listener.verdicts]))
    receipt = [1e3 * (at - v["time"]) for at, v in zip(listener.received_s, listener.verdicts, strict=True)]
    table.add_row("latency, capture to receipt", _percentiles(receipt))
    table.add_row("status messages", " → ".join(listener.statuses))
    console.print(table)
    if missing:
        console.print(f"[red]{missing} verdicts are missing[/]")
    return missing


def _percentiles(values_ms: Sequence[float]) -> str:
    if not values_ms:
        return "none"
    p50, p95, p99 = np.percentile(values_ms, (50, 95, 99))
    return f"p50 {p50:.1f}, p95 {p95:.1f}, p99 {p99:.1f}, max {max(values_ms):.1f} ms"


def _is_defective(verdict: dict[str, Any], settings: Settings) -> bool:
    source = _simulated(settings)
    return bool(truth(source.seed, _number(verdict), source.defect_rate))


def _simulated(settings: Settings) -> SimulatedSettings:
    if not isinstance(settings.source, SimulatedSettings):
        raise SettingsError("the demo inspects simulated parts: unset PATCHLINE_SOURCE__KIND")
    return settings.source


def _number(verdict: dict[str, Any]) -> int:
    return int(verdict["part_id"].rpartition("-")[2])


def _save_results(listener: Listener, settings: Settings, out: Path) -> None:
    """Crops as they were received; overlays of the failed parts, made by `patchline-edge inspect`."""
    results = out / "results"
    shutil.rmtree(results, ignore_errors=True)
    shutil.rmtree(out / "failed", ignore_errors=True)
    for folder in (results / "crops", results / "overlays", out / "failed"):
        folder.mkdir(parents=True)
    for name, jpeg in listener.crops.items():
        (results / "crops" / f"{name}.jpg").write_bytes(jpeg)
    (results / "verdicts.jsonl").write_text(
        "".join(json.dumps(verdict) + "\n" for verdict in listener.verdicts), encoding="utf-8"
    )
    failed = [verdict for verdict in listener.verdicts if verdict["verdict"] == "FAIL"]
    source = _simulated(settings)
    for verdict in failed:
        size = source.simulated_height, source.simulated_width
        part = draw_part(source.seed, _number(verdict), size, source.defect_rate)
        cv2.imwrite(str(out / "failed" / f"{verdict['part_id']}.png"), part.image)
    if failed:
        command = [str(Path(sys.executable).parent / "patchline-edge"), "inspect", "--bundle", str(out / "bundle"),
                   "--out", str(results / "overlays"), str(out / "failed")]  # fmt: skip
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


if __name__ == "__main__":
    sys.exit(main())
