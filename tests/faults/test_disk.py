"""Faults 7 and 8: a disk that is full, broken or read-only, and a database that is no longer one.

Passed if the service lives on, says so by an alarm, loses nothing that it had committed, and publishes again when
the disk is mended; if a corrupt database is set aside (not deleted), and numbering goes on in a higher epoch.
(`tests/edge/test_outbox*.py` looks at each under the outbox alone.)
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from pathlib import Path

from benchmarks.rig.books import DATABASE, read_books
from benchmarks.rig.broker import BrokerProcess, Log
from benchmarks.rig.faulty import FaultyLibrary
from benchmarks.rig.ledger import audit, key_of
from benchmarks.rig.station import Station
from tests.disks import MakeDisk
from tests.faults.conftest import MakeStation


def verdicts(log: Log) -> int:
    return len(log.accepted("/verdict"))


def active_alarms(log: Log) -> set[str]:
    """Codes of the alarms that are active last."""
    alarms = (entry for entry in log.accepted("") if "/alarm/" in entry.topic)
    last = {entry.topic.rpartition("/")[2]: json.loads(entry.text or "") for entry in alarms}
    return {code for code, alarm in last.items() if alarm["active"]}


def check(station: Station, oracle: BrokerProcess) -> None:
    """The disk is mended."""
    before = verdicts(oracle.log)
    oracle.wait_for(lambda log: verdicts(log) >= before + 20, "verdicts arrive again", 120)
    oracle.wait_for(lambda log: not active_alarms(log), "every alarm is over", 120)
    assert station.stop() == 0
    findings = audit(map(key_of, station.printed()), oracle.log)
    assert (findings.lost, findings.inverted) == ((), ())


def test_a_disk_that_refuses_writes_for_a_while_loses_nothing_committed(
    oracle: BrokerProcess, make_station: MakeStation, faulty: FaultyLibrary
) -> None:
    station = make_station(oracle, {"alarms.quiet_s": 1}, environment=faulty.environment)
    station.start()
    for error in (errno.ENOSPC, errno.EIO, errno.EROFS):
        oracle.wait_for(lambda log: verdicts(log) >= 10 and not active_alarms(log), "verdicts arrive, all is well")
        wait_for_failures(station, faulty, error)
        oracle.wait_for(lambda log: bool(active_alarms(log)), f"{errno.errorcode[error]} raises an alarm")
        faulty.fail_writes(0)
    check(station, oracle)


def test_a_disk_that_is_really_full_and_then_freed_loses_nothing_committed(
    oracle: BrokerProcess, make_station: MakeStation, make_disk: MakeDisk
) -> None:
    disk = make_disk(32 * 1024)
    small = {
        "outbox.directory": disk / "outbox",
        "outbox.ballast_bytes": 2**20,
        "outbox.min_free_bytes": 2**21,
        "alarms.quiet_s": 1,
    }
    station = make_station(oracle, small)
    station.start()
    oracle.wait_for(lambda log: verdicts(log) >= 10, "verdicts arrive")
    fill(disk / "hog")
    oracle.wait_for(lambda log: bool(active_alarms(log)), "an alarm is raised")
    (disk / "hog").unlink()
    check(station, oracle)


def test_a_corrupt_database_is_set_aside_and_the_numbering_goes_on_in_a_higher_epoch(
    oracle: BrokerProcess, make_station: MakeStation
) -> None:
    station = make_station(oracle)
    station.start()
    oracle.wait_for(lambda log: verdicts(log) >= 10, "verdicts arrive")
    assert station.stop() == 0
    before = read_books(station.outbox)
    contents = (station.outbox / DATABASE).read_bytes()
    (station.outbox / DATABASE).write_bytes(os.urandom(len(contents)))

    station.start()
    oracle.wait_for(lambda log: verdicts(log) >= before.newest + 10, "verdicts arrive again")
    assert station.stop() == 0
    findings = audit(map(key_of, station.printed()), oracle.log)
    assert (findings.lost, findings.inverted) == ((), ())
    assert findings.epochs[0] == before.epoch < findings.epochs[1]
    assert any(path.stat().st_size == len(contents) for path in station.outbox.iterdir() if path.name != DATABASE)


def wait_for_failures(station: Station, faulty: FaultyLibrary, error: int) -> None:
    """Let writes fail, and wait until some have."""
    before = faulty.failures
    faulty.fail_writes(error)
    station.wait_for(lambda: faulty.failures >= before + 5, "writes fail")


def fill(path: Path) -> None:
    """Leave not one block free."""
    with path.open("wb", buffering=0) as file:
        for size in (2**20, 4096):
            with contextlib.suppress(OSError):  # the disk is full
                while file.write(bytes(size)):
                    pass
