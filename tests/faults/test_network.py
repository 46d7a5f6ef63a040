"""Fault 4: the network between station and broker.

Passed if after every kind of weather publishing resumes by itself, nothing committed is lost and first arrivals are
in order. (`test_tools.py` shows that the weather is what it is called.)
"""

from __future__ import annotations

import random
from pathlib import Path

from benchmarks.rig.broker import BrokerProcess
from benchmarks.rig.ledger import audit, key_of
from benchmarks.rig.network import Cable
from benchmarks.rig.proxy import ChaosProxy, Weather
from benchmarks.rig.station import Station
from tests.faults.conftest import MakeStation


def wait_for_more(oracle: BrokerProcess, count: int = 20) -> None:
    """Until `count` more verdicts arrive."""
    before = len(oracle.log.accepted("/verdict"))
    oracle.wait_for(lambda log: len(log.accepted("/verdict")) >= before + count, "verdicts arrive again", 120)


def wait_for_loss(station: Station, losses: int) -> None:
    """Until the service has noticed more than `losses` losses of the connection."""
    station.wait_for(lambda: station.log().count("connection lost") > losses, "the loss is noticed")


def wait_for_return(station: Station, proxy: ChaosProxy, connections: int) -> None:
    """Until there were more than `connections`."""
    station.wait_for(lambda: proxy.connections > connections, "it connects again")


def finish(station: Station, oracle: BrokerProcess) -> None:
    assert station.stop() == 0
    findings = audit(map(key_of, station.printed()), oracle.log)
    assert (findings.lost, findings.inverted, findings.crops_lost) == ((), (), ())
    assert oracle.log.retained("/status")[-1] == "stopped"


def test_a_poor_connection_delivers_all(oracle: BrokerProcess, proxy: ChaosProxy, make_station: MakeStation) -> None:
    station = make_station(proxy, {"defects.crop_max_bytes": 4096})
    station.start()
    for weather in (Weather(delay_s=0.05), Weather(bytes_per_s=60_000), Weather(piece_bytes=1)):
        proxy.weather = weather
        wait_for_more(oracle)
    finish(station, oracle)
    assert proxy.connections == 1


def test_connections_that_break_refuse_or_swallow_lose_nothing(
    oracle: BrokerProcess, proxy: ChaosProxy, make_station: MakeStation
) -> None:
    dice = random.Random(4)
    station = make_station(proxy, {"source.fps": 100})
    station.start()
    wait_for_more(oracle)
    for _ in range(2):  # the back-off doubles with each
        proxy.cut_after(dice.randrange(20_000))  # wherever that is in a packet
        before = proxy.connections
        wait_for_return(station, proxy, before)
        wait_for_more(oracle)
    proxy.refuse()
    proxy.cut()
    station.wait_for(lambda: "Connection refused" in station.log(), "it is refused")
    proxy.accept()
    wait_for_more(oracle)
    losses = station.log().count("connection lost")
    proxy.weather = Weather(black_hole=True)
    wait_for_loss(station, losses)
    proxy.weather = Weather()
    wait_for_more(oracle)
    finish(station, oracle)
    assert "offline" in oracle.log.retained("/status")  # the broker has noticed, too


def test_a_pulled_cable_and_a_black_hole_lose_nothing(
    bundle_dir: Path, tmp_path: Path, make_station: MakeStation, cable: Cable
) -> None:
    with BrokerProcess(tmp_path / "broker.jsonl", host=cable.host) as broker:
        station = make_station(broker, {"mqtt.allow_plaintext": True}, prefix=cable.prefix)
        station.start()
        wait_for_more(broker)
        cable.pull_out()
        station.wait_for_verdicts(len(station.printed_now()) + 40)
        cable.plug_in()
        wait_for_more(broker)
        losses = station.log().count("connection lost")
        cable.swallow()
        wait_for_loss(station, losses)
        cable.clear()
        wait_for_more(broker)
        finish(station, broker)
