"""Fault 12: a hang in capture, inference or network.

Passed if systemd's watchdog is withheld, which makes it restart the service. (`tests/edge/line/test_service.py` hangs
the publishing.)
"""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from benchmarks.rig.broker import BrokerProcess
from benchmarks.rig.faulty import FaultyLibrary, standing_still
from edge.files.pictures import write_picture
from tests.bundles import draw_good
from tests.edge.line.test_service import is_silent
from tests.faults.conftest import MakeStation

SILENCE_S = 3.5  # the watchdog is otherwise fed every second


@pytest.fixture
def systemd(tmp_path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(str(tmp_path / "notify"))
    listening.settimeout(60)
    return listening


def wait_for_watchdog(systemd: socket.socket) -> None:
    while systemd.recv(100) != b"WATCHDOG=1":
        pass


def test_the_watchdog_is_withheld_while_capture_hangs_in_a_read_and_fed_when_it_ends(
    oracle: BrokerProcess, make_station: MakeStation, systemd: socket.socket, library: Path, tmp_path: Path
) -> None:
    frames = tmp_path / "frames"
    with systemd, FaultyLibrary(library, tmp_path, watched=frames) as faulty:
        write_picture(frames / "1.png", draw_good(1).image)
        folder = {"source.kind": "folder", "source.path": frames, "source.loop": True, "service.stall_timeout_s": 2}
        notify = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        station = make_station(oracle, folder, environment=faulty.environment | notify)
        station.start()
        station.wait_for_verdicts(3)
        faulty.hang_reads(hang=True)
        station.wait_for(lambda: "stalled=capture" in station.log(), "the hang is noticed")
        assert faulty.hanging == 1
        assert is_silent(systemd, SILENCE_S)
        faulty.hang_reads(hang=False)
        wait_for_watchdog(systemd)
        assert station.stop() == 0


def test_the_watchdog_is_withheld_while_inference_and_network_stand_still_and_fed_when_they_go_on(
    oracle: BrokerProcess, make_station: MakeStation, systemd: socket.socket, tmp_path: Path
) -> None:
    with systemd:
        station = make_station(
            oracle, {"service.stall_timeout_s": 2}, environment={"NOTIFY_SOCKET": str(tmp_path / "notify")}
        )
        station.start()
        station.wait_for_verdicts(5)
        wait_for_watchdog(systemd)
        with standing_still(station.process.pid):
            # Until the limit has passed it may still be fed.
            assert any(is_silent(systemd, SILENCE_S) for _ in range(3))
        wait_for_watchdog(systemd)
        assert station.stop() == 0
