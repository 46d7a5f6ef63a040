"""Fault 9: SIGTERM under load. Every frame that was captured is answered and received, `/status` says `stopped`, and
the exit code is 0. (`tests/edge/line/test_service.py` does the same against the brokers that the project promises.)
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.rig.broker import BrokerProcess, EntryKind, Manners
from benchmarks.rig.ledger import audit, key_of
from tests.faults.conftest import MakeStation


def test_a_service_stopped_under_load_delivers_what_it_captured_and_takes_its_leave(
    tmp_path: Path, make_station: MakeStation
) -> None:
    slow = Manners(receive_maximum=2, answer_delay_s=0.02)  # so that verdicts wait when the signal comes
    with BrokerProcess(tmp_path / "broker.jsonl", slow) as broker:
        station = make_station(broker, {"source.fps": 200})
        station.start()
        broker.wait_for(lambda log: len(log.accepted("/verdict")) >= 10, "verdicts arrive")
        assert station.stop() == 0
        log = broker.log
    findings = audit(map(key_of, station.printed()), log)
    assert (findings.lost, findings.repeats, findings.inverted) == ((), (), ())
    assert findings.crops_lost == ()
    assert [verdict["frame"] for verdict in station.printed()] == list(range(findings.committed))
    assert log.retained("/status") == ["online", "stopped"]
    assert log.count(EntryKind.WILL) == 0
