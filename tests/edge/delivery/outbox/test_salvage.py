from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edge.delivery.outbox.outbox import Outbox
from edge.delivery.outbox.records import How, Kind, OutboxLimits
from tests.outboxes import ROOMY, Maker, crop_bytes, everything, quick_directory

PAGE = 4096
REFUSED = 0x87


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """200 verdicts, a crop to every tenth, a dead letter; closed."""
    del tmp_path
    with quick_directory() as found:
        with Outbox.open(found / "outbox", ROOMY, clock=lambda: 1_800_000_000.0) as outbox:
            for number in range(200):
                outbox.append(Maker(crops=number % 10 == 9))
            outbox.bury(1, REFUSED)
        yield found / "outbox"


def zero_a_leaf(directory: Path) -> None:
    """Of the messages, in the middle: SQLite then refuses the whole database."""
    path = directory / "outbox.db"
    with closing(sqlite3.connect(path)) as connection:
        statement = "SELECT pageno FROM dbstat WHERE name = 'messages' AND pagetype = 'leaf' ORDER BY pageno"
        try:
            pages = [page for (page,) in connection.execute(statement)]
        except sqlite3.OperationalError:  # this SQLite has no dbstat
            pages = [path.stat().st_size // PAGE // 2]
    with path.open("r+b") as stream:
        stream.seek((pages[len(pages) // 2] - 1) * PAGE)
        stream.write(bytes(PAGE))


def test_what_is_whole_in_a_damaged_database_waits_again_as_backlog(directory: Path) -> None:
    zero_a_leaf(directory)
    with Outbox.open(directory, ROOMY) as outbox:
        assert outbox.opened.how is How.REPLACED
        assert outbox.opened.set_aside is not None
        found = everything(outbox)
        verdicts = [entry for entry in found if entry.kind is Kind.VERDICT]
        assert len(verdicts) > 180
        assert all(entry.late and entry.epoch == 1_800_000_000 for entry in found)
        assert [entry.seq for entry in verdicts] == sorted({entry.seq for entry in verdicts})
        for entry in found:
            if entry.kind is Kind.CROP:
                assert entry.message.payload == crop_bytes(entry.epoch, entry.seq, 0, 3000)
        assert f"{len(found) + 1} messages of {outbox.opened.set_aside.name} are whole and are kept" in outbox.damage
        assert [dead.reason_code for dead in outbox.dead_letters()] == [REFUSED]
        assert outbox.append(Maker()).epoch > 1_800_000_000


def test_a_database_is_salvaged_once(directory: Path) -> None:
    zero_a_leaf(directory)
    with Outbox.open(directory, ROOMY) as outbox:
        outbox.settle([entry.row_id for entry in everything(outbox)])
    with Outbox.open(directory, ROOMY) as outbox:
        assert (everything(outbox), outbox.damage) == ([], "")


def test_what_is_only_in_a_log_is_salvaged_too_and_neither_file_changes(directory: Path) -> None:
    with Outbox.open(directory, OutboxLimits(min_free_bytes=0, ballast_bytes=0)) as outbox:
        for _ in range(50):
            outbox.append(Maker(crops=1))
        for suffix in ("", "-wal"):
            shutil.copyfile(directory / f"outbox.db{suffix}", directory / f"outbox.corrupt-1.db{suffix}")
        shutil.copytree(directory / "crops", directory / "outbox.corrupt-1.crops")
        outbox.settle([entry.row_id for entry in everything(outbox)])
    before = {path: path.read_bytes() for path in sorted(directory.glob("outbox.corrupt-1.db*"))}
    with Outbox.open(directory, ROOMY) as outbox:
        assert [entry.seq for entry in everything(outbox)][-2:] == [250, 250]
        assert "320 messages of outbox.corrupt-1.db" in outbox.damage
    assert {path: path.read_bytes() for path in sorted(directory.glob("outbox.corrupt-1.db*"))} == before
    assert not list(directory.glob("reading*"))


def test_nothing_that_is_not_as_it_was_written_is_salvaged(directory: Path) -> None:
    with closing(sqlite3.connect(directory / "outbox.db", isolation_level=None)) as connection:
        connection.execute("UPDATE messages SET payload = x'00' WHERE seq = 7 AND kind = 'verdict'")
        connection.execute("PRAGMA user_version = 99")
    crop = next((directory / "crops").glob("*-10-*"))
    crop.write_bytes(b"torn")
    with Outbox.open(directory, ROOMY) as outbox:
        found = [(entry.kind, entry.seq) for entry in everything(outbox)]
        assert len(found) == 199 + 20 - 2
        assert (Kind.VERDICT, 7) not in found
        assert (Kind.CROP, 10) not in found
