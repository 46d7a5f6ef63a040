from __future__ import annotations

import os
import random
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge.delivery.outbox.outbox import Outbox
from edge.delivery.outbox.records import How, Kind, OutboxLimits
from edge.errors import OutboxError
from tests.disks import MakeDisk
from tests.outboxes import ROOMY, Maker, alarm, crop_bytes, crop_files, everything, quick_directory, verdict_seqs

KIB = 1024
PAGE = 4096


@pytest.fixture
def directory() -> Iterator[Path]:
    with quick_directory() as found:
        yield found / "outbox"


def fill(disk: Path) -> Path:
    """Another program takes all that is free."""
    path = disk / "somebody else's"
    with path.open("ab", buffering=0) as stream:
        for size in (64 * KIB, KIB, 1):
            try:
                while True:
                    stream.write(bytes(size))
            except OSError:
                continue
    return path


def explained(outbox: Outbox) -> set[int]:
    """Every verdict that waits or has a tombstone."""
    ranges = [range(found.first_seq, found.last_seq + 1) for found in outbox.tombstones(10_000)]
    return {*verdict_seqs(outbox), *(seq for found in ranges for seq in found)}


# Full disk.


def test_a_disk_that_the_outbox_itself_fills_keeps_the_newest_and_explains_the_rest(make_disk: MakeDisk) -> None:
    directory = make_disk(1536) / "outbox"
    limits = OutboxLimits(min_free_bytes=0, ballast_bytes=256 * KIB)
    with Outbox.open(directory, limits) as outbox:
        for number in range(1, 3001):
            assert outbox.append(Maker(crops=number % 10 == 0)).seq == number
        seqs = verdict_seqs(outbox)
        assert seqs[-1] == 3000
        assert len(seqs) > 200
        assert seqs == list(range(seqs[0], 3001))
        assert explained(outbox) == set(range(1, 3001))
    with Outbox.open(directory, limits) as outbox:
        assert explained(outbox) == set(range(1, 3001))
        assert outbox.append(Maker()).seq == 3001


def test_a_disk_that_somebody_else_fills_costs_crops_but_no_verdict_at_first(make_disk: MakeDisk) -> None:
    disk = make_disk(4096)
    with Outbox.open(disk / "outbox", OutboxLimits(min_free_bytes=0, ballast_bytes=512 * KIB)) as outbox:
        for _ in range(20):
            outbox.append(Maker(crops=1, crop_size=20_000))
        filler = fill(disk)
        seen = []
        for _ in range(20):
            outbox.append(Maker(crops=1, crop_size=20_000))
            seen.append(outbox.statistics())
        assert any(found.disk_low and not found.ballast for found in seen)
        assert seen[-1].evicted_crops >= 10
        assert verdict_seqs(outbox) == list(range(1, 41))
        filler.unlink()
        outbox.append(Maker(crops=1))
        outbox.append(Maker(crops=1))
        found = outbox.statistics()
        assert found.ballast
        assert not found.disk_low
        assert everything(outbox)[-1].kind is Kind.CROP


def test_with_little_free_disk_the_backlog_does_not_grow_and_is_not_emptied_either(make_disk: MakeDisk) -> None:
    disk = make_disk(8192)
    limits = OutboxLimits(min_free_bytes=1024 * KIB, ballast_bytes=64 * KIB)
    with Outbox.open(disk / "outbox", limits) as outbox:
        for _ in range(400):
            outbox.append(Maker())
        outbox.append(Maker(crops=3))
        with (disk / "somebody else's").open("wb") as stream:
            stream.write(bytes(outbox.statistics().free_bytes - 512 * KIB))
        assert outbox.statistics().disk_low
        size = (disk / "outbox" / "outbox.db").stat().st_size
        for _ in range(600):
            outbox.append(Maker(crops=1))
        found = outbox.statistics()
        assert (found.crops, found.evicted_crops) == (0, 603)
        assert 200 < found.verdicts <= 450
        assert explained(outbox) == set(range(1, 1002))
        assert (disk / "outbox" / "outbox.db").stat().st_size <= size + 400 * KIB


def test_settling_goes_on_when_the_disk_is_full(make_disk: MakeDisk) -> None:
    disk = make_disk(2048)
    with Outbox.open(disk / "outbox", OutboxLimits(min_free_bytes=0, ballast_bytes=512 * KIB)) as outbox:
        for _ in range(300):
            outbox.append(Maker())
        fill(disk)
        while entries := outbox.pending(limit=10):
            assert outbox.settle([entry.row_id for entry in entries]) == len(entries)
        assert outbox.statistics().bytes == 0


def test_when_nothing_helps_the_error_says_so_and_the_next_append_after_it_goes_on(make_disk: MakeDisk) -> None:
    disk = make_disk(2048)
    limits = OutboxLimits(min_free_bytes=64 * KIB, ballast_bytes=0)
    with Outbox.open(disk / "outbox", limits) as outbox:
        committed = [outbox.append(Maker(crops=1)).seq for _ in range(5)]
    with Outbox.open(disk / "outbox", limits) as outbox:
        filler = fill(disk)
        with pytest.raises(OutboxError) as failed:
            outbox.append(Maker(crops=1))
        assert re.search(
            rf"{disk}/outbox: the outbox cannot be written \(.*full\); nothing was left", str(failed.value)
        )
        assert re.search(r"free disk space there \(\d+ bytes are free, 65536 should be\)", str(failed.value))
        rows = everything(outbox)
        with pytest.raises(OutboxError, match="full"):
            outbox.settle([row.row_id for row in rows])
        with pytest.raises(OutboxError, match="full"):
            outbox.append_message(alarm("disk_low"))
        with pytest.raises(OutboxError, match="full"):
            outbox.bury(rows[0].row_id, 0x87)
        assert [row.row_id for row in everything(outbox)] == [row.row_id for row in rows]
        assert outbox.statistics().verdicts == len(verdict_seqs(outbox))
        assert explained(outbox) == set(committed)
        assert len(crop_files(disk / "outbox")) == 5
        filler.unlink()
        assert outbox.append(Maker(crops=1)).seq == committed[-1] + 1
        assert outbox.settle([row.row_id for row in rows]) == len(rows)


def test_an_outbox_opens_on_a_full_disk(make_disk: MakeDisk) -> None:
    disk = make_disk(2048)
    limits = OutboxLimits(min_free_bytes=64 * KIB, ballast_bytes=256 * KIB)
    with Outbox.open(disk / "outbox", limits) as outbox:
        for _ in range(20):
            outbox.append(Maker(crops=1))
    fill(disk)
    with Outbox.open(disk / "outbox", limits) as outbox:
        assert outbox.opened.how is How.RESUMED
        assert verdict_seqs(outbox) == list(range(1, 21))
        assert outbox.append(Maker()).seq == 21


def test_an_outbox_cannot_begin_on_a_full_disk_and_leaves_nothing(make_disk: MakeDisk) -> None:
    disk = make_disk(64)
    fill(disk)
    with pytest.raises(OutboxError, match=r"cannot be opened \(.*(full|No space left).*\)"):
        Outbox.open(disk / "outbox", ROOMY)
    assert not (disk / "outbox" / "outbox.db").exists()


# Other refusals.


@contextmanager
def files_up_to(max_bytes: int) -> Iterator[None]:
    """Writes beyond `max_bytes` of any file fail, as on a disk that gives I/O errors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_after_an_i_o_error_nothing_is_half_written_and_appending_goes_on(directory: Path) -> None:
    with Outbox.open(directory, ROOMY) as outbox:
        for _ in range(3):
            outbox.append(Maker(crops=1))
        before = [entry.row_id for entry in everything(outbox)]
        files = crop_files(directory)
        with files_up_to(1000):
            for _ in range(3):
                with pytest.raises(OutboxError, match=r"cannot be written \(disk I/O error\).*system's log"):
                    outbox.append(Maker(crops=1, crop_size=500))
            with pytest.raises(OutboxError, match="cannot be written"):
                outbox.settle(before)
            assert [entry.row_id for entry in everything(outbox)] == before
        assert crop_files(directory) == files
        assert outbox.append(Maker(crops=1)).seq == 4
        assert outbox.settle(before) == 6
        assert outbox.statistics().ballast
    with Outbox.open(directory, ROOMY) as outbox:
        assert verdict_seqs(outbox) == [4]
        assert outbox.opened.orphans == 0


def test_a_crop_that_cannot_be_written_does_not_hold_its_verdict_back(directory: Path) -> None:
    with Outbox.open(directory, ROOMY) as outbox:
        outbox.append(Maker())
        with files_up_to(400 * KIB):
            assert outbox.append(Maker(crops=2, crop_size=500 * KIB)).seq == 2
        assert [(entry.kind, entry.seq) for entry in everything(outbox)] == [(Kind.VERDICT, 1), (Kind.VERDICT, 2)]
        assert crop_files(directory) == set()
        assert outbox.statistics().evicted_crops == 2


def test_a_read_only_file_system_is_refused_with_its_name(make_disk: MakeDisk) -> None:
    disk = make_disk(1024)
    with Outbox.open(disk / "outbox", ROOMY) as outbox:
        outbox.append(Maker())
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(OutboxError, match=rf"{disk}/outbox: the outbox cannot be opened \(Read-only file system\)"):
        Outbox.open(disk / "outbox", ROOMY)
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    with Outbox.open(disk / "outbox", ROOMY) as outbox:
        assert verdict_seqs(outbox) == [1]


def test_a_directory_that_may_not_be_written_is_refused_with_its_name(directory: Path) -> None:
    directory.mkdir(mode=0o555)
    user = os.geteuid()
    os.seteuid(65534 if user == 0 else user)  # root may write everywhere
    try:
        with pytest.raises(OutboxError, match=rf"{directory}: the outbox cannot be opened \(Permission denied\)"):
            Outbox.open(directory, ROOMY)
    finally:
        os.seteuid(user)


def test_a_file_where_the_directory_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "outbox").write_bytes(b"")
    with pytest.raises(OutboxError, match="cannot be opened"):
        Outbox.open(tmp_path / "outbox", ROOMY)


# Corrupt databases.


def overwrite_header(path: Path) -> None:
    path.write_bytes(b"\xff" * 100 + path.read_bytes()[100:])


def overwrite_pages(path: Path) -> None:
    contents = path.read_bytes()
    path.write_bytes(contents[: 4 * PAGE] + b"\xa5" * (len(contents) - 8 * PAGE) + contents[-4 * PAGE :])


def cut_in_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def cut_to_nothing(path: Path) -> None:
    os.truncate(path, 0)


def make_another_version(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


def drop_a_table(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE dead_letters")
    connection.close()


def empty_the_state(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM state")
    connection.close()


def garble_the_schema(path: Path) -> None:
    contents = path.read_bytes()
    assert contents.count(b"CREATE TABLE messages") == 1
    path.write_bytes(contents.replace(b"CREATE TABLE messages", b"CREATE\xb2TABLE\xff\xb2ssages"))


DAMAGES = [
    garble_the_schema,
    overwrite_header,
    overwrite_pages,
    cut_in_half,
    cut_to_nothing,
    make_another_version,
    drop_a_table,
    empty_the_state,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_database_that_cannot_be_used_is_set_aside_whole_and_a_higher_epoch_begins(
    directory: Path, damage: Callable[[Path], None]
) -> None:
    with Outbox.open(directory, ROOMY, clock=lambda: 1_800_000_000.0) as outbox:
        epoch = outbox.epoch
        for _ in range(200):
            outbox.append(Maker())
        outbox.append(Maker(crops=1))
    damage(directory / "outbox.db")
    damaged = (directory / "outbox.db").read_bytes()
    crops = crop_files(directory)
    with Outbox.open(directory, ROOMY, clock=lambda: 1_800_000_000.0) as outbox:
        opened = outbox.opened
        assert (opened.how, opened.new_epoch, opened.orphans) == (How.REPLACED, True, 0)
        assert opened.reason
        assert opened.set_aside == directory / "outbox.corrupt-20270115T080000Z.db"
        assert opened.set_aside.read_bytes() == damaged
        assert {path.name for path in opened.set_aside.with_suffix(".crops").iterdir()} == crops
        assert outbox.epoch > epoch
        assert outbox.statistics().replaced == 1
        assert outbox.append(Maker(crops=1)).seq == 1
    with Outbox.open(directory, ROOMY) as outbox:
        assert (outbox.opened.how, outbox.opened.reason, outbox.statistics().replaced) == (How.RESUMED, "", 0)


def test_databases_set_aside_in_the_same_second_have_different_names(directory: Path) -> None:
    names = set()
    for _ in range(3):
        with Outbox.open(directory, ROOMY, clock=lambda: 1_800_000_000.0) as outbox:
            outbox.append(Maker(crops=1))
            names.add(outbox.opened.set_aside)
        overwrite_header(directory / "outbox.db")
    assert len(names) == 3
    Outbox.open(directory, ROOMY, clock=lambda: 1_800_000_000.0).close()
    assert len(list(directory.glob("outbox.corrupt-*.db"))) == 3
    assert len(list(directory.glob("outbox.corrupt-*.crops"))) == 3


def test_damage_that_is_met_while_running_is_set_aside_and_work_goes_on(directory: Path) -> None:
    with Outbox.open(directory, ROOMY) as outbox:
        epoch = outbox.epoch
        for _ in range(6000):  # more than the page cache holds
            outbox.append(Maker())
        in_flight = outbox.pending(limit=1)[0].row_id
        last = outbox.last_row_id
        with (directory / "outbox.db").open("r+b") as stream:
            stream.seek(8 * PAGE)
            stream.write(b"\xa5" * (800 * PAGE))
        outbox.settle(range(2000, 4000))
        opened = outbox.opened
        assert opened.how is How.REPLACED
        assert opened.set_aside is not None
        assert opened.set_aside.exists()
        assert outbox.epoch > epoch
        assert outbox.statistics().replaced == 1
        appended = outbox.append(Maker(crops=1))
        assert (appended.seq, appended.epoch) == (1, outbox.epoch)
        assert appended.row_id == last + 1
        assert outbox.settle([in_flight]) == 0
        assert verdict_seqs(outbox) == [1]


def test_damage_that_is_met_by_an_append_gives_the_verdict_a_number_of_the_new_epoch(directory: Path) -> None:
    limits = OutboxLimits(max_rows=6000, min_free_bytes=0, ballast_bytes=0)
    with Outbox.open(directory, limits) as outbox:
        epoch = outbox.epoch
        for _ in range(6000):
            outbox.append(Maker())
        with (directory / "outbox.db").open("r+b") as stream:
            stream.seek(5 * PAGE)
            stream.write(b"\xa5" * (800 * PAGE))
        appended = outbox.append(Maker())  # must evict the oldest, which is damaged
        assert (appended.epoch, appended.seq) == (outbox.epoch, 1)
        assert outbox.epoch > epoch
        assert b'"epoch":%d' % outbox.epoch in appended.messages[0].payload
        assert everything(outbox)[0].message.payload == appended.messages[0].payload


def test_a_log_without_its_database_is_set_aside_too(directory: Path) -> None:
    with Outbox.open(directory, ROOMY) as outbox:
        outbox.append(Maker())
        copy = (directory / "outbox.db-wal").read_bytes()
    (directory / "outbox.db").unlink()
    (directory / "outbox.db-wal").write_bytes(copy)
    with Outbox.open(directory, ROOMY) as outbox:
        aside = outbox.opened.set_aside
        assert aside is not None
        assert aside.with_name(f"{aside.name}-wal").read_bytes() == copy
        assert verdict_seqs(outbox) == []


def copy_of_running(directory: Path, copy: Path) -> Path:
    """What a kill would leave."""
    shutil.copytree(directory, copy)
    return copy


@pytest.mark.parametrize("position", [0, 20, 32 + 3 * (24 + PAGE) + 500])
def test_a_damaged_log_loses_verdicts_but_no_number_is_given_out_twice(directory: Path, position: int) -> None:
    with Outbox.open(directory, ROOMY) as outbox:
        for _ in range(40):
            outbox.append(Maker())
        copy = copy_of_running(directory, directory.with_name("copy"))
        used = {(entry.epoch, entry.seq) for entry in everything(outbox)}
    with (copy / "outbox.db-wal").open("r+b") as stream:
        stream.seek(position)
        stream.write(b"\xa5" * 8)
    with Outbox.open(copy, ROOMY) as outbox:
        assert (outbox.opened.how, outbox.opened.new_epoch) == (How.RESUMED, True)
        assert re.search("write-ahead log is damaged: at least \\d+ commits are lost", outbox.opened.reason)
        kept = {(entry.epoch, entry.seq) for entry in everything(outbox)}
        assert kept < used
        appended = outbox.append(Maker())
        assert appended.epoch == outbox.epoch > max(used)[0]
        assert appended.seq == 1
    with Outbox.open(copy, ROOMY) as outbox:
        assert (outbox.epoch, outbox.opened.reason) == (appended.epoch, "")


def test_an_older_copy_that_was_put_back_gives_out_no_number_twice(directory: Path) -> None:
    with Outbox.open(directory, ROOMY) as outbox:
        outbox.append(Maker())
        first_epoch = outbox.epoch
    old = (directory / "outbox.db").read_bytes()
    overwrite_header(directory / "outbox.db")
    with Outbox.open(directory, ROOMY) as outbox:
        second_epoch = outbox.epoch
    (directory / "outbox.db").write_bytes(old)
    with Outbox.open(directory, ROOMY) as outbox:
        assert first_epoch < second_epoch < outbox.epoch
        assert "older copy" in outbox.opened.reason
        assert [entry.epoch for entry in everything(outbox)] == [first_epoch]


# Kills and power cuts.


def test_no_kill_at_any_moment_loses_what_was_committed(directory: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.outboxes", str(directory), "60", "1"],
        check=False,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    kills, appended, settled = map(int, done.stdout.split())
    assert kills == 60
    assert appended > 100
    assert settled > 30


def torn(old: bytes, new: bytes, moments: random.Random) -> bytes:
    """`new` as a disk may have it that had `old` and lost its power: of every sector the old or the new contents."""
    sector = 512
    length = moments.choice((len(new), moments.randint(len(old), len(new))))
    old = old.ljust(len(new), b"\0")
    pieces = [moments.choice((old, new))[start : start + sector] for start in range(0, len(new), sector)]
    return b"".join(pieces)[:length]


def test_a_simulated_power_cut_in_mid_commit_keeps_what_was_committed_before(tmp_path: Path) -> None:
    moments = random.Random(0)
    with quick_directory() as directory, Outbox.open(directory / "outbox", ROOMY) as outbox:
        for _ in range(30):
            outbox.append(Maker(crops=1))
        outbox.settle([entry.row_id for entry in outbox.pending(limit=9)])
        before = copy_of_running(directory / "outbox", directory / "before")
        kept = {entry.row_id for entry in everything(outbox)}
        outbox.append(Maker(crops=2))
        log = (directory / "outbox" / "outbox.db-wal").read_bytes()
        for number in range(60):
            cut = shutil.copytree(before, directory / f"cut-{number}")
            path = cut / "outbox.db-wal"
            path.write_bytes(torn(path.read_bytes(), log, moments))
            with Outbox.open(cut, ROOMY) as after:
                found = everything(after)
                assert kept <= {entry.row_id for entry in found}
                assert after.append(Maker()).seq in {31, 32} or after.opened.new_epoch
                crops = [entry for entry in found if entry.kind is Kind.CROP]
                for crop in crops:
                    assert crop.message.payload == crop_bytes(outbox.epoch, crop.seq, 0, 3000)
            shutil.rmtree(cut)


def test_a_simulated_power_cut_in_mid_checkpoint_keeps_everything(tmp_path: Path) -> None:
    moments = random.Random(1)
    with quick_directory() as directory, Outbox.open(directory / "outbox", ROOMY) as outbox:
        for _ in range(200):
            outbox.append(Maker())
        outbox.settle([entry.row_id for entry in outbox.pending(limit=50)])
        # The log is flushed before the database is written: it is whole whatever the database is.
        before = copy_of_running(directory / "outbox", directory / "before")
        outbox.store.database.checkpoint("PASSIVE")
        database = (directory / "outbox" / "outbox.db").read_bytes()
        for number in range(30):
            cut = shutil.copytree(before, directory / f"cut-{number}")
            path = cut / "outbox.db"
            path.write_bytes(torn(path.read_bytes(), database, moments))
            with Outbox.open(cut, ROOMY) as after:
                assert after.opened.reason == ""
                assert verdict_seqs(after) == list(range(51, 201))
            shutil.rmtree(cut)
