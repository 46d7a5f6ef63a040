"""Fault 5: thousands of results while there is no broker.

Passed if all of them are stored in bounded memory and on disk, and received in order when there is a broker again,
after a restart of the service too. Pictures that cannot be judged are answered as well, and quickly: NO_RESULT.
`make soak` stores 100,000.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.rig.books import read_books
from benchmarks.rig.broker import BrokerProcess
from benchmarks.rig.ledger import audit, key_of
from edge.files.pictures import write_picture
from tests.faults.conftest import MakeStation

RESULTS = 2000
GROWTH_BYTES = 20_000_000  # the bound for 100,000


def test_thousands_of_results_wait_on_disk_not_in_memory_and_are_received_in_order(
    oracle: BrokerProcess, make_station: MakeStation, tmp_path: Path
) -> None:
    oracle.kill()
    (tmp_path / "frames").mkdir()
    write_picture(tmp_path / "frames" / "foreign.png", np.zeros((16, 16, 3), np.uint8))
    folder: dict[str, object] = {"source.kind": "folder", "source.path": tmp_path / "frames", "source.loop": True}
    station = make_station(oracle, {**folder, "source.fps": 1000})
    station.start()
    station.wait_for_verdicts(RESULTS // 10)
    memory = station.process.memory_info().rss
    station.wait_for_verdicts(RESULTS)
    assert station.process.memory_info().rss - memory < GROWTH_BYTES
    station.kill()
    stored = read_books(station.outbox)
    assert len(stored.waiting) == stored.newest >= RESULTS

    oracle.start()
    station.start({"source.fps": 5})
    oracle.wait_for(lambda log: len(log.accepted("/verdict")) >= stored.newest, "all of them arrive", 120)
    assert station.stop() == 0
    findings = audit({*stored.keys(), *map(key_of, station.printed())}, oracle.log)
    assert (findings.lost, findings.inverted, findings.repeats) == ((), (), ())
