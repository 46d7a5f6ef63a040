"""Soak without a broker: verdicts wait on disk, are delivered after a kill, and memory stays.

The line is a folder in a loop: one defective part, which has crops, among pictures that cannot be judged and are
answered quickly. So 100,000 verdicts take minutes instead of hours, while outbox and pump do what they always do.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.rig.books import read_books
from benchmarks.rig.broker import BrokerProcess, Entry
from benchmarks.rig.ledger import Findings, audit, key_of
from benchmarks.rig.station import Station
from benchmarks.soak_kills import line_settings
from edge.bundle.bundle import read_bundle
from edge.files.pictures import write_picture
from edge.sources.simulated.source import draw_part

UNUSABLE_PICTURES = 19  # to each part that is judged
SETTLED = 1000  # verdicts after which memory is compared
MEMORY_GROWTH_MB = 20.0
RATIO = 5.0  # delivery against the line's own rate
LOOK_S = 1.0
SLOWEST_FPS = 20.0  # an offline run or delivery that is slower than this has hung

console = Console(highlight=False)


def run_offline(bundle: Path, verdicts: int, line_fps: float) -> dict[str, Any]:
    """Store so many verdicts, then deliver them while the line goes on at `line_fps`; what was seen, with `passed`."""
    with tempfile.TemporaryDirectory(prefix="patchline-soak-") as scratch:
        directory = Path(scratch)
        settings = {**line_settings(bundle), **_folder(bundle, directory / "frames")}
        with (
            BrokerProcess(directory / "broker.jsonl") as broker,
            Station(directory, bundle, (broker.host, broker.port), settings) as station,
        ):
            broker.kill()
            stored = _store(station, verdicts)
            delivered = _deliver(station, broker, int(stored["stored"]), line_fps)
    delivered["passed"] = (
        delivered["lost"] == delivered["inverted"] == delivered["exit_code"] == 0
        and delivered["delivery_to_line"] >= RATIO
        and max(stored["memory_growth_mb"], delivered["delivery_memory_growth_mb"]) < MEMORY_GROWTH_MB
    )
    return stored | delivered


def _folder(bundle: Path, frames: Path) -> dict[str, object]:
    manifest = read_bundle(bundle).manifest
    frames.mkdir()
    part = draw_part(1, 0, (manifest.frame_height, manifest.frame_width), 1.0)
    write_picture(frames / "defective.png", part.image)
    for number in range(UNUSABLE_PICTURES):
        write_picture(frames / f"foreign-{number}.png", np.zeros((16, 16, 3), np.uint8))
    return {"source.kind": "folder", "source.path": frames, "source.loop": True}


def _store(station: Station, verdicts: int) -> dict[str, Any]:
    """Without a broker; ends by SIGKILL."""
    memory_mb: list[float] = []

    def look(count: int) -> bool:
        if count >= min(SETTLED, verdicts // 2):
            memory_mb.append(station.process.memory_info().rss / 1e6)
        return count >= verdicts

    station.start({"source.fps": 1000})
    station.wait_ready()
    started = time.monotonic()
    _wait(lambda: look(_count_lines(station)), verdicts, lambda: f"{_count_lines(station)} of {verdicts} stored")
    seconds = time.monotonic() - started
    station.kill()
    books = read_books(station.outbox)
    return {
        "stored": books.newest,
        "waiting": len(books.waiting),
        "stored_per_s": round(books.newest / seconds, 1),
        "memory_growth_mb": round(max(memory_mb) - memory_mb[0], 1),
        "outbox_mb": round(sum(path.stat().st_size for path in station.outbox.rglob("*") if path.is_file()) / 1e6, 1),
    }


def _deliver(station: Station, broker: BrokerProcess, stored: int, line_fps: float) -> dict[str, Any]:
    memory_mb: list[float] = []

    def look() -> bool:
        arrived = len(broker.log.accepted("/verdict"))
        if arrived >= min(SETTLED, stored // 2):
            memory_mb.append(station.process.memory_info().rss / 1e6)
        return arrived >= stored

    broker.start()
    station.start({"source.fps": line_fps})
    _wait(look, stored, lambda: f"{len(broker.log.accepted('/verdict'))} of {stored} delivered")
    code = station.stop()
    arrivals = broker.log.accepted("/verdict")
    rate = _rate(arrivals[:stored])
    findings = audit(map(key_of, station.printed()), broker.log)
    return {
        **_books(findings),
        "delivered_per_s": round(rate, 1),
        "line_fps": line_fps,
        "delivery_to_line": round(rate / line_fps, 1),
        "delivery_memory_growth_mb": round(max(memory_mb) - memory_mb[0], 1),
        "exit_code": code,
    }


def _books(findings: Findings) -> dict[str, Any]:
    return {
        "committed": findings.committed,
        "received": findings.received,
        "lost": len(findings.lost),
        "inverted": len(findings.inverted),
        "repeated": len(findings.repeats),
    }


def _rate(arrivals: tuple[Entry, ...]) -> float:
    """Verdicts per second."""
    return len(arrivals) / max(arrivals[-1].at_s - arrivals[0].at_s, 1e-9)


def _count_lines(station: Station) -> int:
    with station.output.open("rb") as stream:
        return sum(block.count(b"\n") for block in iter(lambda: stream.read(2**20), b""))


def _wait(reached: Callable[[], bool], verdicts: int, progress: Callable[[], str]) -> None:
    deadline = time.monotonic() + 60 + verdicts / SLOWEST_FPS
    looks = 0
    while not reached():
        if time.monotonic() > deadline:
            raise SystemExit(f"too slow: {progress()}")
        time.sleep(LOOK_S)
        looks += 1
        if looks % 30 == 0:
            console.print(progress())
