"""Fault: pages of the compiled model on disk are zeroed between two runs.

Passed if the service starts all the same, names the file once, and every frame gets the score it got before.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.rig.broker import BrokerProcess
from tests.faults.conftest import MakeStation

FRAMES = 12


def test_a_damaged_compiled_model_is_compiled_again_and_judges_as_before(
    tmp_path: Path, oracle: BrokerProcess, make_station: MakeStation
) -> None:
    station = make_station(oracle, {"source.seed": 3, "source.frames": FRAMES})

    def run() -> list[float]:
        station.start()
        assert station.wait() == 0, station.log()
        return [verdict["score"] for verdict in station.printed_now()]

    before = run()
    assert len(before) == FRAMES
    (blob,) = (tmp_path / "cache").glob("*/*.blob")
    contents = bytearray(blob.read_bytes())
    place = len(contents) * 3 // 4
    contents[place : place + 65_536] = bytes(65_536)
    blob.write_bytes(contents)
    assert run() == before
    assert f"compiled model damaged on disk, compiled again: {blob}" in station.log()
    assert run() == before
    assert "damaged" not in station.log()
