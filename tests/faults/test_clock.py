"""Fault 10: the wall clock jumps by an hour, either way.

Passed if no verdict is lost, repeated or out of order, and the epoch stays what it is, over a restart too.
"""

from __future__ import annotations

import time

from benchmarks.rig.broker import BrokerProcess
from benchmarks.rig.faulty import FaultyLibrary
from benchmarks.rig.ledger import audit, key_of
from tests.faults.conftest import MakeStation

HOUR_S = 3600


def test_a_clock_that_jumps_disturbs_neither_order_nor_numbering(
    oracle: BrokerProcess, make_station: MakeStation, faulty: FaultyLibrary
) -> None:
    station = make_station(oracle, environment=faulty.environment)
    station.start()
    station.wait_for_verdicts(10)
    for shift_s in (HOUR_S, -HOUR_S):
        faulty.shift_clock(shift_s)
        station.wait_for_verdicts(len(station.printed_now()) + 20)
    assert station.stop() == 0
    station.start()  # an hour before it began
    station.wait_for_verdicts(10)
    assert station.stop() == 0
    findings = audit(map(key_of, station.printed()), oracle.log)
    assert (findings.lost, findings.inverted, findings.repeats) == ((), (), ())
    assert len(findings.epochs) == 1
    hours = {round((verdict["time"] - time.time()) / HOUR_S) for verdict in station.printed()}
    assert hours == {0, 1, -1}
    assert all(0 <= verdict["latency_ms"] < HOUR_S * 1000 / 2 for verdict in station.printed())
