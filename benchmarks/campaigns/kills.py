"""Kills: of the service and its broker at random moments, and of a real mosquitto whenever a verdict arrives.

The last is the hardest for whoever sends: the broker dies of that very message, as far as anybody can see, five times
in a row, and comes back. Passed if nothing is lost, inverted or given up.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.campaigns import CampaignError, Rows
from benchmarks.campaigns._plate import make_bundle
from benchmarks.rig.books import read_books
from benchmarks.rig.broker import BrokerProcess
from benchmarks.rig.brokers import Doorkeeper, Mosquitto, Subscriber
from benchmarks.rig.campaign import Plan, run_campaign
from benchmarks.rig.station import Station

COUNT = 24

_DEATHS_OF_ONE_VERDICT = 5  # three were enough for a message to be given up, the first loss of all apart
_PATIENCE_S = 120.0
_LONGEST_KILL_S = 20.0  # the station tries again after 15 s at the latest
_SETTINGS: dict[str, object] = {"source.fps": 5, "service.drain_timeout_s": 60, "mqtt.publish_last": False}


def run(count: int, seed: int) -> Rows:
    """Kill `count` times: half of them the service and a broker that records, half of them mosquitto."""
    with tempfile.TemporaryDirectory(prefix="patchline-kills-") as scratch:
        bundle = make_bundle(Path(scratch))
        random = _kill_at_random(Path(scratch, "random"), bundle, count // 2, seed)
        return [*random, *kill_on_arrival(Path(scratch, "arrival"), bundle, count - count // 2)]


def _kill_at_random(directory: Path, bundle: Path, kills: int, seed: int) -> Rows:
    directory.mkdir()
    broker_kills = kills // 4
    with (
        BrokerProcess(directory / "broker.jsonl") as broker,
        Station(directory, bundle, (broker.host, broker.port), _SETTINGS) as station,
    ):
        outcome = run_campaign(station, broker, Plan(kills - broker_kills, broker_kills, seed))
        dead = read_books(station.outbox).dead
    findings = outcome.findings
    judge("random kills", len(findings.lost), len(findings.inverted), len(dead))
    return [
        ("kills of the service, of its broker", f"{outcome.kills}, {outcome.broker_kills}"),
        ("verdicts committed", str(findings.committed)),
        ("lost, inverted, dead letters", "0, 0, 0"),
        ("repeated, most after one kill", f"{len(findings.repeats)}, {outcome.most_repeats}"),
    ]


def kill_on_arrival(directory: Path, bundle: Path, kills: int) -> Rows:
    """Kill a mosquitto as verdicts arrive; the station works in `directory`, which is made."""
    directory.mkdir()
    with Mosquitto(directory) as mosquitto, Subscriber(mosquitto, "+/+/+/+/verdict") as subscriber:
        executioner = _Executioner(mosquitto, lambda: len(set(_ids(subscriber))), kills)
        with (
            Doorkeeper(mosquitto.port, executioner.admit) as door,
            # A window of one, so that the broker has handed on what it acknowledged before it dies.
            Station(directory, bundle, (door.host, door.port), {**_SETTINGS, "mqtt.window": 1}) as station,
        ):
            station.start()
            _wait(lambda: executioner.kills == kills, "mosquitto was killed so often", kills * _LONGEST_KILL_S)
            # Stopped while the broker is away, the station would leave them on disk for its next start.
            newest = str(station.printed_now()[-1]["id"])
            _wait(lambda: newest in _ids(subscriber), "the backlog has arrived")
            code = station.stop(_PATIENCE_S)
            printed = [str(verdict["id"]) for verdict in station.printed()]
            _wait(lambda: set(printed) <= set(_ids(subscriber)), "every verdict arrives")
            dead = read_books(station.outbox).dead
        order = list(dict.fromkeys(_ids(subscriber)))
    inverted = sum(before != after for before, after in zip(order, printed, strict=False))
    judge("mosquitto killed on arrival", len(set(printed) - set(order)), inverted, len(dead))
    if code:
        raise CampaignError(f"the service ended with {code}")
    return [
        ("kills of mosquitto as a verdict arrives", str(executioner.kills)),
        ("verdicts that it died of", str(len(executioner.deaths))),
        ("verdicts received", str(len(order))),
        ("lost, inverted, dead letters, then", "0, 0, 0"),
    ]


@dataclass(slots=True)
class _Executioner:
    """Kills mosquitto as a verdict arrives, and brings it back; each verdict so often, then lets it in."""

    mosquitto: Mosquitto
    heard: Callable[[], int]  # different verdicts that a subscriber has
    most: int
    kills: int = 0
    deaths: dict[bytes, int] = field(default_factory=dict)  # by the verdict's id
    admitted: set[bytes] = field(default_factory=set)

    def admit(self, data: bytes) -> bool:
        """See `Doorkeeper`."""
        found = re.search(rb'"id":"([^"]+)"', data)
        if found is None:
            return True
        name = found.group(1)
        if self.kills == self.most or self.deaths.get(name, 0) == _DEATHS_OF_ONE_VERDICT:
            self.admitted.add(name)
            return True
        _wait(lambda: self.heard() >= len(self.admitted), "the subscriber has what was acknowledged")
        self.kills += 1
        self.deaths[name] = self.deaths.get(name, 0) + 1
        self.mosquitto.kill()
        self.mosquitto.start()
        return False


def _ids(subscriber: Subscriber) -> list[str]:
    return [str(json.loads(payload)["id"]) for payload in subscriber.payloads("/verdict")]


def judge(what: str, lost: int, inverted: int, dead: int) -> None:
    """Raise CampaignError unless all is well."""
    if lost or inverted or dead:
        raise CampaignError(f"{what}: {lost} verdicts lost, {inverted} inverted, {dead} dead letters")


def _wait(condition: Callable[[], bool], what: str, patience_s: float = _PATIENCE_S) -> None:
    give_up_at_s = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > give_up_at_s:
            raise CampaignError(f"waited {patience_s:g} s until {what}")
        time.sleep(0.05)
