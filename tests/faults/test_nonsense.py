"""Fault 13: an exception in a callback, made by a peer that talks nonsense.

Passed if the network thread lives, the service connects anew and nothing is lost. (The receiver of receipts fails in
`tests/edge/publishers/mqtt/test_publisher.py`.)
"""

from __future__ import annotations

from benchmarks.rig.broker import BrokerProcess
from benchmarks.rig.ledger import audit, key_of
from benchmarks.rig.proxy import ChaosProxy
from tests.faults.conftest import MakeStation

NONSENSE = [
    b"\x40\x04\x00\x01\x00\xff\x90\x00",  # PUBACK with properties that end too late
    b"\x40\x03\x00\x01\x03",  # PUBACK with an unknown reason
    b"\x20\x03\x00\x00\x00",  # a second CONNACK
    b"\x30\xff\xff\xff\x7f\x00",  # a message of 256 MB
    b"\xff\xff\xff\xff\xff\xff",  # no packet at all
]


def wait_for_more(oracle: BrokerProcess, count: int = 20) -> None:
    """Until `count` more verdicts arrive."""
    before = len(oracle.log.accepted("/verdict"))
    oracle.wait_for(lambda log: len(log.accepted("/verdict")) >= before + count, "verdicts arrive again", 120)


def test_nonsense_from_the_broker_loses_nothing(
    oracle: BrokerProcess, proxy: ChaosProxy, make_station: MakeStation
) -> None:
    station = make_station(proxy, {"source.fps": 100})
    station.start()
    for nonsense in NONSENSE:
        wait_for_more(oracle)
        proxy.inject(nonsense)
    wait_for_more(oracle)
    assert "no progress" not in station.log()
    assert station.stop() == 0
    findings = audit(map(key_of, station.printed()), oracle.log)
    assert (findings.lost, findings.inverted) == ((), ())
