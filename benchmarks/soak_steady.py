"""Soak, undisturbed: thousands of simulated frames through the real service and a real broker.

A ledger on the subscriber's side says whether every frame had exactly one verdict; the service's memory, threads and
descriptors are sampled from outside.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil
from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from rich.console import Console

from benchmarks.rig.brokers import Mosquitto, find_mosquitto
from demo.broker import EmbeddedBroker

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs" / "demo.toml"
SAMPLE_S = 2.0
SETTLED_FRAMES = 1000  # memory is compared from here on
MEMORY_GROWTH = 0.05
FRAME_TIMEOUT_S = 0.5  # a soak that is slower than this per frame has hung

console = Console(highlight=False)


class Broker(Protocol):
    """A broker that runs."""

    host: str

    @property
    def port(self) -> int:
        """Where it listens."""
        ...


@dataclass(frozen=True, slots=True)
class Sample:
    """The service, seen from outside."""

    verdicts: int
    memory_mb: float
    threads: int
    descriptors: int


class Ledger:
    """Counts every verdict by (epoch, seq) and by frame."""

    def __init__(self, host: str, port: int) -> None:
        self.frames: Counter[int] = Counter()
        self.keys: Counter[tuple[int, int]] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.stopped = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id="soak-ledger", protocol=MQTTv5)
        subscribed = threading.Event()
        self._client.on_connect = lambda client, *_: client.subscribe("patchline/#", qos=1)
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.on_message = self._on_message
        self._client.connect(host, port)
        self._client.loop_start()
        if not subscribed.wait(10):
            raise SystemExit("the ledger could not subscribe")

    def close(self) -> None:
        """Leave the broker."""
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, client: Client, userdata: object, message: MQTTMessage) -> None:
        del client, userdata
        if message.topic.endswith("/status"):
            if message.payload == b"stopped":
                self.stopped.set()
        elif message.topic.endswith("/verdict"):
            verdict: dict[str, Any] = json.loads(message.payload)
            self.frames[verdict["frame"]] += 1
            self.keys[verdict["epoch"], verdict["seq"]] += 1
            self.outcomes[verdict["verdict"]] += 1


def run_steady(bundle: Path, frames: int, broker_kind: str) -> dict[str, Any]:
    """Inspect `frames` frames; what was seen, with `passed`."""
    with tempfile.TemporaryDirectory(prefix="patchline-soak-") as scratch, _start(broker_kind, scratch) as broker:
        ledger = Ledger(broker.host, broker.port)
        try:
            samples, seconds, code = _soak(broker, ledger, bundle, frames, Path(scratch))
        finally:
            ledger.close()
    return _report(ledger, samples, frames, seconds, code)


def _start(kind: str, scratch: str) -> AbstractContextManager[Broker]:
    if kind == "embedded":
        return EmbeddedBroker()
    if find_mosquitto() is None:
        raise SystemExit("mosquitto is not installed; give --broker embedded")
    return Mosquitto(Path(scratch), "max_queued_messages 0")


def _soak(broker: Broker, ledger: Ledger, bundle: Path, frames: int, scratch: Path) -> tuple[list[Sample], float, int]:
    """Run the service to its end, sampling it."""
    environment = {
        **os.environ,
        "PATCHLINE_BUNDLE": str(bundle.resolve()),
        "PATCHLINE_MQTT__HOST": broker.host,
        "PATCHLINE_MQTT__PORT": str(broker.port),
        "PATCHLINE_SOURCE__FRAMES": str(frames),
        "PATCHLINE_SOURCE__FPS": "1000",  # faster than any inspection: the buffers are always full
        "PATCHLINE_SERVICE__DRAIN_TIMEOUT_S": "60",
        "PATCHLINE_OUTBOX__DIRECTORY": str(scratch / "outbox"),
    }
    command = [str(Path(sys.executable).parent / "patchline-edge"), "run", "--config", str(CONFIG)]
    samples: list[Sample] = []
    log = scratch / "service.log"
    started = time.monotonic()
    with log.open("w") as stream, subprocess.Popen(command, env=environment, stderr=stream) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            time.sleep(SAMPLE_S)
            _sample(watched, ledger, samples)
            if time.monotonic() - started > 60 + frames * FRAME_TIMEOUT_S:
                process.kill()
    seconds = time.monotonic() - started
    ledger.stopped.wait(30)
    if process.returncode:
        console.print("\n".join(log.read_text().splitlines()[-5:]))
    return samples, seconds, process.returncode


def _sample(watched: psutil.Process, ledger: Ledger, samples: list[Sample]) -> None:
    try:
        sample = Sample(
            verdicts=sum(ledger.outcomes.values()),
            memory_mb=watched.memory_info().rss / 1e6,
            threads=watched.num_threads(),
            descriptors=watched.num_fds(),
        )
    except psutil.Error:
        return
    samples.append(sample)
    if len(samples) % 15 == 0:
        console.print(
            f"{sample.verdicts} verdicts, {sample.memory_mb:.0f} MB, {sample.threads} threads, "
            f"{sample.descriptors} descriptors"
        )


def _report(ledger: Ledger, samples: list[Sample], frames: int, seconds: float, code: int) -> dict[str, Any]:
    # The last samples are left out: a service that is shutting down has fewer threads and descriptors.
    settled = [sample for sample in samples if SETTLED_FRAMES <= sample.verdicts < frames]
    once = sum(1 for frame in range(frames) if ledger.frames[frame] == 1)
    report: dict[str, Any] = {
        "frames": frames,
        "exactly_one_verdict": once,
        "missing": sum(1 for frame in range(frames) if ledger.frames[frame] == 0),
        "repeated_keys": sum(count - 1 for count in ledger.keys.values()),
        "outcomes": dict(ledger.outcomes),
        "seconds": round(seconds, 1),
        "fps": round(frames / seconds, 1),
        "exit_code": code,
        "samples": len(settled),
    }
    if settled:
        # Noise of single samples is taken out: the median of the first and of the last tenth.
        tenth = max(1, len(settled) // 10)
        first = sorted(sample.memory_mb for sample in settled[:tenth])[tenth // 2]
        last = sorted(sample.memory_mb for sample in settled[-tenth:])[tenth // 2]
        report |= {
            "memory_mb_first": round(first, 1),
            "memory_mb_last": round(last, 1),
            "memory_growth": round(last / first - 1, 4),
            "threads": sorted({sample.threads for sample in settled}),
            # The least of many samples: a crop's file is open for a moment.
            "descriptors_first": min(sample.descriptors for sample in settled[:tenth]),
            "descriptors_last": min(sample.descriptors for sample in settled[-tenth:]),
        }
    report["passed"] = bool(
        settled
        and once == frames
        and code == 0
        and report["memory_growth"] < MEMORY_GROWTH
        and len(report["threads"]) == 1
        and report["descriptors_last"] <= report["descriptors_first"]
    )
    return report
