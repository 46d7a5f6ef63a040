"""Faults 1 and 2: SIGKILL of the service and of the broker, at random moments.

Passed if every committed verdict is received or explained by a tombstone, if first arrivals are in order, and if
after each kill no more is repeated than the window and the one whose acknowledgement was on its way.
`make soak` does it longer.
"""

from __future__ import annotations

from benchmarks.rig.books import read_books
from benchmarks.rig.broker import BrokerProcess
from benchmarks.rig.campaign import Outcome, Plan, run_campaign
from tests.faults.conftest import MakeStation

WINDOW = 10  # the default of mqtt.window
LINE = {"source.fps": 50, "mqtt.publish_last": False}


def check(outcome: Outcome) -> None:
    assert outcome.findings.lost == ()
    assert outcome.findings.inverted == ()
    assert outcome.findings.crops_lost == ()
    assert outcome.most_repeats <= WINDOW + 1
    assert len(outcome.findings.epochs) == 1
    assert outcome.exit_code == 0


def test_kills_of_the_service_lose_no_committed_verdict_and_no_order(
    oracle: BrokerProcess, make_station: MakeStation
) -> None:
    station = make_station(oracle, LINE)
    outcome = run_campaign(station, oracle, Plan(kills=10, broker_kills=0))
    check(outcome)
    assert outcome.findings.received > 100
    assert read_books(station.outbox).waiting == frozenset()


def test_kills_of_the_broker_lose_no_committed_verdict_and_no_order(
    oracle: BrokerProcess, make_station: MakeStation
) -> None:
    outcome = run_campaign(make_station(oracle, LINE), oracle, Plan(kills=0, broker_kills=3))
    check(outcome)
    assert outcome.findings.received > 50
