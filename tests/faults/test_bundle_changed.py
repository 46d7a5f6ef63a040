"""Fault 15: a bundle changed by one byte.

Passed if the service refuses to start, names the file, exits with 3 and says nothing to the broker.
(`tests/edge/bundle/test_bundle.py` changes a byte in every file.)
"""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.rig.broker import BrokerProcess, EntryKind
from tests.faults.conftest import MakeStation


def test_a_service_with_a_changed_bundle_does_not_start(
    bundle_dir: Path, tmp_path: Path, oracle: BrokerProcess, make_station: MakeStation
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(bundle_dir, changed)
    bank = bytearray((changed / "bank.npy").read_bytes())
    bank[len(bank) // 2] ^= 1
    (changed / "bank.npy").write_bytes(bank)
    station = make_station(oracle, {"bundle": changed})
    station.start()
    assert station.wait() == 3
    assert "bank.npy" in station.log()
    assert station.printed() == []
    assert oracle.log.count(EntryKind.CONNECT) == 0
