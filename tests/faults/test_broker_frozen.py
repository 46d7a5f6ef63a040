"""Fault 3: SIGSTOP of the broker.

Passed if verdicts go on being committed meanwhile, if the silence is noticed by the keep-alive, if the watchdog is
fed (a restart would mend nothing), and if everything is received in order once the broker goes on.
(`tests/edge/publishers/mqtt/test_publisher.py` freezes mosquitto under the publisher alone.)
"""

from __future__ import annotations

import socket
from pathlib import Path

from benchmarks.rig.broker import BrokerProcess
from benchmarks.rig.ledger import audit, key_of
from tests.faults.conftest import MakeStation


def test_a_frozen_broker_stops_neither_capture_nor_the_watchdog_and_gets_everything_later(
    oracle: BrokerProcess, make_station: MakeStation, tmp_path: Path
) -> None:
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(address))
        systemd.settimeout(60)
        station = make_station(oracle, environment={"NOTIFY_SOCKET": str(address)})
        station.start()
        station.wait_for_verdicts(5)
        oracle.freeze()
        frozen_at = len(station.printed_now())
        station.wait_for(lambda: "connection lost" in station.log(), "the silence is noticed")
        station.wait_for_verdicts(frozen_at + 100)
        while systemd.recv(100) != b"WATCHDOG=1":  # READY came first
            pass
        assert "no progress" not in station.log()
    oracle.thaw()
    goal = len(station.printed_now())
    oracle.wait_for(lambda log: len(log.accepted("/verdict")) >= goal, "what was committed arrives")
    assert station.stop() == 0
    findings = audit(map(key_of, station.printed()), oracle.log)
    assert (findings.lost, findings.inverted, findings.crops_lost) == ((), (), ())
