"""What a disk changes behind the outbox's back: noticed, named, set aside, and never delivered."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edge.delivery.outbox.outbox import Outbox
from edge.delivery.outbox.records import DAMAGED, FILE_LOST, GivenUp, How, Kind, OutboxLimits
from tests.outboxes import ROOMY, Maker, alarm, quick_directory, verdict_seqs

PAGE = 4096
FRAME = 24 + PAGE
HEADER = 32
REFUSED = 0x87


@pytest.fixture
def directory() -> Iterator[Path]:
    with quick_directory() as found:
        yield found / "outbox"


def killed(directory: Path, work: Callable[[Outbox], None]) -> Path:
    """What a process that is really killed after `work` leaves; nothing of its log is in its database."""
    child = os.fork()
    if child == 0:
        try:
            work(Outbox.open(directory, OutboxLimits(min_free_bytes=0, ballast_bytes=0)))
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    return directory


def append_and_settle(outbox: Outbox) -> None:
    for number in range(9):
        outbox.append(Maker(verdict_size=80))
        if number % 3 == 2:
            outbox.settle([outbox.pending(limit=1)[0].row_id])
        if number % 8 == 7:
            outbox.append_message(alarm(str(number)))


# Logs.


def cuts(log: bytes) -> Iterator[bytes]:
    """Ends of the log at and within every frame; and the log with each frame's header, and its page, flipped."""
    for start in range(HEADER, len(log), FRAME):
        yield from (log[: start + more] for more in (0, 1, 24, 2000, FRAME - 1))
        for at in (start + 2, start + 9, start + 20, start + 24 + 3000):
            yield bytes([*log[:at], log[at] ^ 4, *log[at + 1 :]])
    yield from (b"", log[:7], log[:HEADER])


def test_wherever_the_log_lost_its_end_no_number_is_given_out_twice(directory: Path) -> None:
    killed(directory, append_and_settle)
    with Outbox.open(Path(shutil.copytree(directory, directory.with_name("whole"))), ROOMY) as whole:
        epoch, waiting = whole.epoch, verdict_seqs(whole)
        assert whole.append(Maker()).seq == 10
    log = (directory / "outbox.db-wal").read_bytes()
    assert len(log) > 25 * FRAME
    for number, damaged in enumerate(cuts(log)):
        copy = Path(shutil.copytree(directory, directory.with_name(f"cut {number}")))
        (copy / "outbox.db-wal").write_bytes(damaged)
        with Outbox.open(copy, ROOMY) as outbox:
            assert outbox.opened.new_epoch
            assert "commits are lost" in outbox.damage
            appended = outbox.append(Maker())
            assert (appended.epoch > epoch, appended.seq) == (True, 1)
            kept = verdict_seqs(outbox)[:-1]
            explained = {seq for found in outbox.tombstones() for seq in range(found.first_seq, found.last_seq + 1)}
            assert set(waiting) <= set(kept) | explained
        shutil.rmtree(copy)


def test_a_log_that_is_gone_is_noticed(directory: Path) -> None:
    killed(directory, append_and_settle)
    (directory / "outbox.db-wal").unlink()
    with Outbox.open(directory, ROOMY) as outbox:
        assert outbox.opened.new_epoch
        assert "commits are lost" in outbox.damage
        (explained,) = outbox.tombstones()
        assert (explained.first_seq, explained.last_seq, explained.reason) == (1, 9, GivenUp.DAMAGED)
    with Outbox.open(directory, ROOMY) as outbox:
        assert (outbox.opened.new_epoch, outbox.damage) == (False, "")


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: os.truncate(path, 0), lambda path: os.truncate(path, 60)])
def test_without_the_high_water_a_new_epoch_begins_and_nothing_is_lost(
    directory: Path, damage: Callable[[Path], None]
) -> None:
    killed(directory, append_and_settle)
    damage(directory / "high_water")
    with Outbox.open(directory, ROOMY) as outbox:
        assert outbox.opened.new_epoch
        assert "high_water" in outbox.damage
        assert len(verdict_seqs(outbox)) == 6
        assert outbox.tombstones() == ()


def test_a_kill_alone_begins_no_epoch(directory: Path) -> None:
    for _ in range(3):
        killed(directory, append_and_settle)
    with Outbox.open(directory, ROOMY) as outbox:
        assert (outbox.opened.new_epoch, outbox.damage) == (False, "")
        assert outbox.append(Maker()).seq == 28


# Rows.


def change(directory: Path, statement: str) -> None:
    with closing(sqlite3.connect(directory / "outbox.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        assert connection.execute(statement).rowcount == 1


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("kind", "'werdict'"),
        ("kind", "'crop'"),
        ("kind", "x'00'"),
        ("epoch", "epoch + 1"),
        ("seq", "seq + 1"),
        ("seq", "'three'"),
        ("topic", "CAST(x'c328' AS TEXT)"),
        ("topic", "'root/site/line/station/verdicu'"),
        ("payload", "CAST('{\"ok\":1}' AS BLOB)"),
        ("payload", "'text'"),
        ("file", "'../epoch'"),
        ("size", f"{2**62}"),
        ("size", "'many'"),
        ("qos", "3"),
        ("retain", "1"),
        ("content_type", "''"),
        ("user_properties", "'[[1'"),
        ("user_properties", '\'[["a", "b"]]\''),
        ("expiry_s", "1"),
        ("committed_at", "0.5"),
        ("late", "1"),
        ("seal", "NULL"),
        ("seal", "x''"),
        ("id", "77"),
    ],
)
@pytest.mark.parametrize("table", ["messages", "dead_letters"])
def test_a_changed_row_is_set_aside_by_name_and_the_rest_goes_on(
    directory: Path, table: str, column: str, value: str
) -> None:
    with Outbox.open(directory, ROOMY) as outbox:
        for _ in range(5):
            outbox.append(Maker())
        for entry in outbox.pending(limit=2) if table == "dead_letters" else ():
            outbox.bury(entry.row_id, REFUSED)
        explained = {found.first_seq for found in outbox.tombstones()}
    change(directory, f"UPDATE {table} SET {column} = {value} WHERE id = 2")
    with Outbox.open(directory, ROOMY) as outbox:
        assert outbox.opened.how is How.RESUMED
        assert len(outbox.opened.damaged) == 1
        assert outbox.opened.damaged[0] in outbox.damage
        assert verdict_seqs(outbox) == ([1, 3, 4, 5] if table == "messages" else [3, 4, 5])
        assert [dead.reason_code for dead in outbox.dead_letters()].count(DAMAGED) == 1
        # A verdict whose number is sound is explained.
        found = {(each.first_seq, each.last_seq) for each in outbox.tombstones()}
        key_is_sound = column not in {"kind", "epoch", "seq", "size", "file", "seal", "id"}
        assert ((2, 2) in found) == (key_is_sound and table == "messages") or explained
        assert outbox.append(Maker()).seq == 6
        assert outbox.resend([dead.entry.row_id for dead in outbox.dead_letters() if dead.reason_code < 0]) == ()
    assert (directory / "epoch").exists()
    with Outbox.open(directory, ROOMY) as outbox:
        assert outbox.damage == ""


def test_a_row_that_changes_while_the_outbox_is_open_is_set_aside_when_it_is_met(directory: Path) -> None:
    with Outbox.open(directory, ROOMY) as outbox:
        for _ in range(3):
            outbox.append(Maker())
        outbox.store.database._connection.execute("UPDATE messages SET payload = x'00' WHERE id = 2")
        assert [entry.seq for entry in outbox.pending()] == [1, 3]
        assert "row 2 (verdict" in outbox.damage
        outbox.store.database._connection.execute("UPDATE messages SET kind = 'x' WHERE id = 3")
        assert outbox.settle([1, 3]) == 1
        assert "row 3" in outbox.damage
        assert outbox.pending() == ()
        outbox.store.database._connection.execute("UPDATE dead_letters SET reason_code = 0")
        assert [dead.reason_code for dead in outbox.dead_letters()] == [DAMAGED] * 2


def test_a_changed_size_evicts_nothing(directory: Path) -> None:
    with Outbox.open(directory, ROOMY) as outbox:
        for _ in range(50):
            outbox.append(Maker())
    change(directory, f"UPDATE messages SET size = {2**50} WHERE id = 1")
    with Outbox.open(directory, OutboxLimits(max_bytes=10**6, min_free_bytes=0, ballast_bytes=0)) as outbox:
        assert verdict_seqs(outbox) == list(range(2, 51))


def test_a_crop_that_is_not_what_was_written_is_never_sent(directory: Path) -> None:
    with Outbox.open(directory, ROOMY) as outbox:
        outbox.append(Maker(crops=2))
        (path, _) = sorted((directory / "crops").iterdir())
        contents = path.read_bytes()
        path.write_bytes(contents[:-1] + bytes([contents[-1] ^ 1]))
        assert [(entry.kind, entry.message.topic[-1]) for entry in outbox.pending()] == [
            (Kind.VERDICT, "t"),
            (Kind.CROP, "1"),
        ]
        (dead,) = outbox.dead_letters()
        assert (dead.reason_code, dead.entry.message.payload) == (FILE_LOST, b"")
        assert outbox.resend([dead.entry.row_id]) == ()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE state SET seq = seq - 1",
        "UPDATE state SET epoch = 'x'",
        "UPDATE state SET seal = NULL",
        "UPDATE state SET commits = commits + 1",
    ],
)
def test_numbers_that_changed_are_not_believed(directory: Path, statement: str) -> None:
    with Outbox.open(directory, ROOMY) as outbox:
        epoch = outbox.epoch
        for _ in range(3):
            outbox.append(Maker())
    change(directory, statement)
    with Outbox.open(directory, ROOMY) as outbox:
        assert (outbox.opened.how, outbox.opened.new_epoch) == (How.RESUMED, True)
        assert "numbers in the database are damaged" in outbox.damage
        assert verdict_seqs(outbox) == [1, 2, 3]
        assert outbox.epoch > epoch
        assert outbox.append(Maker()).row_id == 4


def test_a_changed_tombstone_is_not_published(directory: Path) -> None:
    with Outbox.open(directory, ROOMY) as outbox:
        outbox.give_up(3)
    change(directory, "UPDATE tombstones SET last_seq = 9")
    with Outbox.open(directory, ROOMY) as outbox:
        assert outbox.tombstones() == ()
        assert "tombstone 1" in outbox.damage


def test_an_index_that_names_another_row_is_made_anew(directory: Path) -> None:
    with Outbox.open(directory, ROOMY) as outbox:
        for _ in range(4):
            outbox.append(Maker(crops=1))
    text = "UPDATE sqlite_master SET sql = replace(sql, '''{}''', '''{}''') WHERE name = 'crops'"
    for before, after, then in (("crop", "verdict", ""), ("verdict", "crop", "REINDEX crops")):
        with closing(sqlite3.connect(directory / "outbox.db", isolation_level=None)) as connection:
            connection.execute(then)
            connection.execute("PRAGMA writable_schema = ON")
            connection.execute(text.format(before, after))
    with Outbox.open(directory, OutboxLimits(max_rows=7, min_free_bytes=0, ballast_bytes=0)) as outbox:
        assert outbox.opened.how is How.RESUMED
        assert verdict_seqs(outbox) == [1, 2, 3, 4]


def test_crops_whose_database_is_gone_are_set_aside_with_it(directory: Path) -> None:
    with Outbox.open(directory, ROOMY) as outbox:
        outbox.append(Maker(crops=1))
    (directory / "outbox.db").unlink()
    with Outbox.open(directory, ROOMY) as outbox:
        aside = outbox.opened.set_aside
        assert aside is not None
        assert len(list(aside.iterdir())) == 1
