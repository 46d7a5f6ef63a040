"""Fault 6: the broker refuses: crops that are too large, reason codes, the connection itself.

Passed if every verdict is received, whatever becomes of its crops; if what is refused for good is kept as a dead
letter and what is refused for now is sent again; if refusals make no endless reconnecting, and a refused connection
is never online. (`tests/edge/publishers/mqtt/test_publisher.py` looks at each under the publisher alone.)
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.rig.books import read_books
from benchmarks.rig.broker import BrokerProcess, EntryKind, Manners, Refusal
from benchmarks.rig.broker_log import Log
from benchmarks.rig.ledger import audit, key_of
from tests.faults.conftest import MakeStation

QUOTA_EXCEEDED, NOT_AUTHORIZED, PACKET_TOO_LARGE, PAYLOAD_FORMAT_INVALID = 0x97, 0x87, 0x95, 0x99


def test_verdicts_arrive_without_the_crops_that_are_refused_for_good(tmp_path: Path, make_station: MakeStation) -> None:
    refusals = Refusal("/crop/0", NOT_AUTHORIZED), Refusal("/crop/1", PAYLOAD_FORMAT_INVALID)
    log = deliver_defects(tmp_path, make_station, Manners(refusals=refusals), {NOT_AUTHORIZED, PAYLOAD_FORMAT_INVALID})
    assert not log.accepted("/crop/0")


def test_verdicts_arrive_with_the_crops_that_the_broker_takes_and_announce_no_others(
    tmp_path: Path, make_station: MakeStation
) -> None:
    manners = Manners(max_packet_bytes=1500)
    log = deliver_defects(tmp_path, make_station, manners, {PACKET_TOO_LARGE})
    verdicts = [json.loads(entry.text) for entry in log.accepted("/verdict") if entry.text]
    announced = {verdict["crop_sha256"] for verdict in verdicts} - {""}
    assert announced == {crop.sha256 for crop in log.accepted("/crop/0")}
    assert all(crop.size < manners.max_packet_bytes for crop in log.accepted("/crop/0"))


def deliver_defects(tmp_path: Path, make_station: MakeStation, manners: Manners, codes: set[int]) -> Log:
    """What the broker saw of 40 defective parts, whose crops it refused with `codes`, and only those."""
    with BrokerProcess(tmp_path / "broker.jsonl", manners) as broker:
        station = make_station(broker, {"source.defect_rate": 1.0, "source.frames": 40})
        station.start()
        assert station.wait() == 0
        log = broker.log
    findings = audit(map(key_of, station.printed()), log)
    assert (findings.received, findings.lost, findings.inverted) == (40, (), ())
    books = read_books(station.outbox)
    assert books.waiting == frozenset()
    assert {code for _, code in books.dead} == codes
    assert all("/crop/" in topic for topic, _ in books.dead)
    assert log.count(EntryKind.CONNECT) == 1
    return log


def test_what_is_refused_for_now_is_received_later_and_in_order(tmp_path: Path, make_station: MakeStation) -> None:
    manners = Manners(receive_maximum=1, refusals=(Refusal("/verdict", QUOTA_EXCEEDED, times=3),))
    with BrokerProcess(tmp_path / "broker.jsonl", manners) as broker:
        station = make_station(broker, {"source.frames": 20})
        station.start()
        assert station.wait() == 0
        log = broker.log
    findings = audit(map(key_of, station.printed()), log)
    assert (findings.received, findings.lost, findings.inverted) == (20, (), ())
    assert len(log.arrived("/verdict")) == 23


def test_verdicts_that_are_refused_for_good_are_explained_and_sent_again_by_a_command_while_the_station_runs(
    tmp_path: Path, make_station: MakeStation
) -> None:
    with BrokerProcess(
        tmp_path / "broker.jsonl", Manners(refusals=(Refusal("/verdict", NOT_AUTHORIZED, 3),))
    ) as broker:
        station = make_station(broker)
        station.start()
        broker.wait_for(lambda log: bool(log.accepted("/tombstone")), "the gap is explained")
        station.wait_for_verdicts(5)
        listed = [json.loads(line) for line in outbox_command(station.outbox, "list", "--json")]
        assert [dead["reason_code"] for dead in listed] == [NOT_AUTHORIZED] * 3
        outbox_command(station.outbox, "resend", "--all")
        seqs = {dead["seq"] for dead in listed}
        log = broker.wait_for(lambda log: seqs <= {each["seq"] for each in late(log)}, "they are received")
        assert station.stop() == 0
        findings = audit(map(key_of, station.printed()), broker.log)
    assert (findings.lost, findings.explained) == ((), 0)
    stones = [json.loads(entry.text) for entry in log.accepted("/tombstone") if entry.text]
    assert {stone["reason"] for stone in stones} == {"refused"}
    assert sum(stone["count"] for stone in stones) == 3


def outbox_command(directory: Path, *arguments: str) -> list[str]:
    program = Path(sys.executable).parent / "patchline-edge"
    command = [str(program), "outbox", *arguments, "--directory", str(directory)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def late(log: Log) -> list[dict[str, Any]]:
    """Verdicts that came as backlog."""
    verdicts = [json.loads(entry.text) for entry in log.accepted("/verdict") if entry.text]
    return [verdict for verdict in verdicts if verdict["backlog"]]


def test_a_station_that_is_refused_is_not_online_and_delivers_when_it_is_let_in(
    tmp_path: Path, make_station: MakeStation
) -> None:
    with BrokerProcess(tmp_path / "broker.jsonl", Manners(connect_code=NOT_AUTHORIZED)) as broker:
        station = make_station(broker)
        station.start()
        refused = broker.wait_for(lambda log: log.count(EntryKind.CONNECT) >= 3, "it tries again")
        assert refused.retained("/status") == []
        assert station.log().count("refuses us: Not authorized (0x87)") == 1
        broker.restart(Manners())
        broker.wait_for(lambda log: len(log.accepted("/verdict")) >= 20, "it delivers")
        assert station.stop() == 0
        findings = audit(map(key_of, station.printed()), broker.log)
        assert (findings.lost, findings.inverted) == ((), ())
        assert broker.log.retained("/status")[0] == "online"
