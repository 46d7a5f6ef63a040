"""Outboxes as they were before seals and the high-water file: `data/version_1_*`, one closed, one killed."""

from __future__ import annotations

import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edge.delivery.outbox.outbox import Outbox
from edge.delivery.outbox.records import GivenUp, How, Kind
from tests.outboxes import ROOMY, Maker, crop_bytes, everything, quick_directory

DATA = Path(__file__).parent / "data"
EPOCH = 1_795_000_000
WAITING = [*(("verdict", seq) for seq in (1, 2, 4, 5, 6, 7, 8, 9)), ("crop", 9), ("verdict", 10), ("verdict", 11)]
WAITING += [("verdict", 12), ("crop", 12), ("other", 0), ("other", 0), ("verdict", 15), ("crop", 15)]


@pytest.fixture(params=["closed", "killed"])
def directory(request: pytest.FixtureRequest) -> Iterator[Path]:
    with quick_directory() as found, tarfile.open(DATA / f"version_1_{request.param}.tar.xz") as archive:
        archive.extractall(found / "outbox", filter="data")
        yield found / "outbox"


def test_everything_in_it_is_there_and_the_numbers_go_on(directory: Path) -> None:
    for _ in range(2):
        with Outbox.open(directory, ROOMY) as outbox:
            assert (outbox.opened.how, outbox.opened.reason, outbox.damage) == (How.RESUMED, "", "")
            entries = everything(outbox)
            assert [(entry.kind, entry.seq) for entry in entries[: len(WAITING)]] == WAITING
            for entry in entries:
                if entry.kind is Kind.CROP:
                    assert entry.message.payload == crop_bytes(EPOCH, entry.seq, 0, 700)
            event = entries[14].message
            assert (event.topic, event.payload, event.user_properties) == ("root/event/ä", b"\0\xff", (("ü", "1"),))
            dead = outbox.dead_letters()
            assert [(each.entry.kind, each.entry.seq, each.reason_code) for each in dead] == [
                (Kind.VERDICT, 3, 0x87),
                (Kind.CROP, 3, 0x95),
            ]
    with Outbox.open(directory, ROOMY) as outbox:
        appended = outbox.append(Maker())
        assert (appended.epoch, appended.seq) == (EPOCH, 16)
        assert appended.row_id > entries[-1].row_id


def test_its_dead_verdicts_get_the_tombstone_that_they_never_had(directory: Path) -> None:
    with Outbox.open(directory, ROOMY) as outbox:
        assert [(each.first_seq, each.last_seq, each.reason) for each in outbox.tombstones()] == [
            (13, 14, GivenUp.EVICTED),
            (3, 3, GivenUp.REFUSED),
        ]


def test_from_then_on_what_the_disk_changes_is_noticed(directory: Path) -> None:
    Outbox.open(directory, ROOMY).close()
    with closing(sqlite3.connect(directory / "outbox.db", isolation_level=None)) as connection:
        changed = (
            "UPDATE messages SET payload = CAST(replace(payload, '\"seq\":4}', '\"seq\":5}') AS BLOB) WHERE seq = 4"
        )
        assert connection.execute(changed).rowcount == 1
        assert connection.execute("SELECT count(*) FROM messages WHERE seal IS NULL").fetchone() == (0,)
    with Outbox.open(directory, ROOMY) as outbox:
        assert 4 not in [entry.seq for entry in everything(outbox)]
        assert f"verdict {EPOCH}-4" in outbox.damage


def test_what_cannot_be_used_in_it_is_set_aside_and_the_rest_goes_on(directory: Path) -> None:
    with closing(sqlite3.connect(directory / "outbox.db", isolation_level=None)) as connection:
        connection.execute("UPDATE messages SET topic = CAST(x'ff00fe' AS TEXT) WHERE seq = 4")
        connection.execute("UPDATE messages SET user_properties = '[' WHERE seq = 5")
        connection.execute("UPDATE messages SET kind = 'werdict' WHERE seq = 6")
    with Outbox.open(directory, ROOMY) as outbox:
        assert {4, 5, 6}.isdisjoint(entry.seq for entry in everything(outbox))
        assert len(everything(outbox)) == len(WAITING) - 3
        assert len(outbox.opened.damaged) == 3
