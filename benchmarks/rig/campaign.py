"""A campaign of kills: the service and its broker are killed again and again while the line runs.

The short one is a test, the long one `python -m benchmarks.soak --kills 200 --broker-kills 50`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.rig.books import read_books
from benchmarks.rig.broker import BrokerProcess
from benchmarks.rig.ledger import Findings, Key, audit, key_of
from benchmarks.rig.station import Station

LONGEST_LIFE_S = 1.5  # from readiness to a kill
LONGEST_START_S = 1.5  # from the start to a kill before readiness
LONGEST_ABSENCE_S = 1.0  # of the broker
EARLY = 0.2  # share of the service's kills that come while it starts


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is done to a station."""

    kills: int
    broker_kills: int
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of it."""

    findings: Findings
    kills: int
    broker_kills: int
    repeats: tuple[int, ...]  # after each kill of whichever kind, up to the next
    exit_code: int  # of the last stop, which is SIGTERM

    @property
    def most_repeats(self) -> int:
        """After one kill."""
        return max(self.repeats, default=0)


def run_campaign(
    station: Station, broker: BrokerProcess, plan: Plan, tell: Callable[[int, int], None] = lambda *_: None
) -> Outcome:
    """Kill the service and the broker in random order at random moments; then let the station finish in peace.

    Args:
        station: not running.
        broker: running.
        plan: how often.
        tell: told after each kill how many there were, and how many messages the broker has.
    """
    dice = random.Random(plan.seed)
    committed: set[Key] = set()
    times: list[float] = []
    victims = ["service"] * plan.kills + ["broker"] * plan.broker_kills
    dice.shuffle(victims)
    for victim in victims:
        if victim == "service":
            times.append(_kill_service(station, dice))
            committed |= read_books(station.outbox).keys()
        else:
            times.append(_kill_broker(station, broker, dice))
        tell(len(times), len(broker.log.entries))
    _be_ready(station)
    _catch_up(station, broker)
    code = station.stop()
    findings = audit({*committed, *map(key_of, station.printed())}, broker.log)
    return Outcome(findings, plan.kills, plan.broker_kills, findings.repeats_after(times), code)


def _be_ready(station: Station) -> None:
    if not station.running:
        station.start()
    station.wait_ready()


def _catch_up(station: Station, broker: BrokerProcess) -> None:
    """Until the broker has what is committed now: a service that is stopped while it is away leaves it on disk."""
    station.wait_for_verdicts(1)
    newest = station.printed_now()[-1]["id"]
    broker.wait_for(lambda log: any(newest in (entry.text or "") for entry in log.accepted("/verdict")), newest, 300)


def _kill_service(station: Station, dice: random.Random) -> float:
    if dice.random() < EARLY:
        if not station.running:
            station.start()
        time.sleep(dice.uniform(0, LONGEST_START_S))
    else:
        _be_ready(station)
        time.sleep(dice.uniform(0, LONGEST_LIFE_S))
    moment = time.monotonic()
    station.kill()
    return moment


def _kill_broker(station: Station, broker: BrokerProcess, dice: random.Random) -> float:
    _be_ready(station)
    time.sleep(dice.uniform(0, LONGEST_LIFE_S))
    moment = time.monotonic()
    broker.kill()
    time.sleep(dice.uniform(0, LONGEST_ABSENCE_S))
    broker.start()
    return moment
