"""Fault 14: out of memory. (The kernel's own answer to it is SIGKILL: fault 1.)

Passed if frames that cannot be judged for want of memory are answered with NO_RESULT or end the service, never with
PASS; if nothing that was committed is lost; and if the service works again with memory, after a restart at the latest.
"""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np

from benchmarks.rig.books import read_books
from benchmarks.rig.broker import BrokerProcess
from benchmarks.rig.ledger import audit, key_of
from edge.files.pictures import NO_MEMORY, write_picture
from tests.bundles import draw_good
from tests.faults.conftest import MakeStation


def test_a_service_without_memory_loses_nothing_committed(
    oracle: BrokerProcess, make_station: MakeStation, tmp_path: Path
) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in (1, 2):
        write_picture(frames / f"{number}.png", draw_good(number).image)
    station = make_station(oracle, {"source.kind": "folder", "source.path": frames, "source.loop": True})
    station.start()
    station.wait_for_verdicts(20)
    process = station.process
    process.rlimit(resource.RLIMIT_AS, (process.memory_info().vms, resource.RLIM_INFINITY))  # not one mapping more
    noise = np.random.default_rng(0).integers(0, 256, (2800, 2900, 3), np.uint8)
    write_picture(frames / "2.png", noise)  # takes 24 MB to read and 24 MB to look at

    def refused() -> bool:
        return NO_MEMORY in station.log() or "Failed to allocate" in station.log()

    station.wait_while_running(refused)
    assert not station.running or refused()
    more = len(station.printed_now()) + 20
    station.wait_while_running(lambda: len(station.printed_now()) >= more)
    assert "NO_RESULT" in {verdict["verdict"] for verdict in station.printed()}
    station.kill()
    committed = read_books(station.outbox).keys()
    station.start()
    station.wait_for_verdicts(20)
    assert station.stop() == 0
    findings = audit({*committed, *map(key_of, station.printed())}, oracle.log)
    assert (findings.lost, findings.inverted) == ((), ())
