"""Fault 17: a power cut, simulated.

Of the outbox only what was fsynced is left, under names that were, and everything else that the service wrote is
gone: what a disk with a volatile cache leaves. Passed if every verdict that was printed, which happens after its
commit, is received, in order, by the service that starts on what is left.
"""

from __future__ import annotations

from benchmarks.rig.books import read_books
from benchmarks.rig.broker import BrokerProcess
from benchmarks.rig.faulty import FaultyLibrary
from benchmarks.rig.ledger import audit, key_of
from tests.faults.conftest import MakeStation

CUTS = 2


def test_what_was_committed_survives_simulated_power_cuts(
    oracle: BrokerProcess, make_station: MakeStation, faulty: FaultyLibrary
) -> None:
    oracle.kill()  # so that everything has to wait on disk
    station = make_station(oracle, environment=faulty.environment)
    for cut in range(CUTS):
        station.start()
        station.wait_for_verdicts(30)
        station.kill()
        faulty.cut_power(station.directory / f"before-cut-{cut}")
        assert {verdict["seq"] for verdict in station.printed()} <= read_books(station.outbox).waiting
    oracle.start()
    station.start()
    goal = len(station.printed())
    oracle.wait_for(lambda log: len(log.accepted("/verdict")) >= goal, "what waited arrives")
    assert station.stop() == 0
    findings = audit(map(key_of, station.printed()), oracle.log)
    assert (findings.lost, findings.inverted, findings.crops_lost) == ((), (), ())
    assert len(findings.epochs) == 1
