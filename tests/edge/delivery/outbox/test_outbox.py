from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from edge.delivery.outbox.outbox import Outbox
from edge.delivery.outbox.records import FILE_LOST, GivenUp, How, Kind, OutboxLimits, Tombstone
from edge.errors import DeliveryError, OutboxError
from edge.records import Message
from tests.outboxes import ROOMY, Maker, alarm, crop_bytes, crop_files, everything, quick_directory, verdict_seqs

NOT_AUTHORIZED = 0x87
PACKET_TOO_LARGE = 0x95


class Clock:
    """Stands still until it is set."""

    def __init__(self, now_s: float = 1_800_000_000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def directory() -> Iterator[Path]:
    with quick_directory() as found:
        yield found / "outbox"


def limits(max_rows: int = 1_000_000, max_bytes: int = 2**30) -> OutboxLimits:
    return OutboxLimits(max_rows=max_rows, max_bytes=max_bytes, min_free_bytes=0, ballast_bytes=0)


# Numbers and order.


def test_verdicts_are_numbered_from_one_and_come_in_order_of_arrival(directory: Path) -> None:
    with Outbox.open(directory, ROOMY) as outbox:
        assert [outbox.append(Maker()).seq for _ in range(5)] == [1, 2, 3, 4, 5]
        assert verdict_seqs(outbox) == [1, 2, 3, 4, 5]
        assert [entry.epoch for entry in everything(outbox)] == [outbox.epoch] * 5


def test_messages_come_back_as_they_were_given(directory: Path) -> None:
    with Outbox.open(directory, ROOMY, clock=Clock(1_800_000_123.5)) as outbox:
        appended = outbox.append(Maker(crops=2))
        event = Message(
            "root/event/ä", b"\0\xff", qos=1, content_type="", user_properties=(("ü", "1"), ("ü", "2")), expiry_s=60
        )
        outbox.append_message(alarm("disk_low", "text with ä and \0"))
        outbox.append_message(event)
        found = outbox.pending(limit=10)
        given = [*appended.messages, alarm("disk_low", "text with ä and \0"), event]
        for entry, message in zip(found, given, strict=True):
            assert asdict(entry.message) == asdict(message)
            assert entry.committed_at_s == 1_800_000_123.5
            assert entry.size >= len(message.payload) + len(message.topic)
        assert [entry.kind for entry in found] == [Kind.VERDICT, Kind.CROP, Kind.CROP, Kind.OTHER, Kind.OTHER]
        assert [entry.seq for entry in found] == [1, 1, 1, 0, 0]
        assert appended.row_id == found[0].row_id


def test_everything_is_there_after_reopening_and_numbers_go_on(directory: Path) -> None:
    with Outbox.open(directory, ROOMY) as outbox:
        epoch = outbox.epoch
        assert (outbox.opened.how, outbox.opened.new_epoch) == (How.CREATED, True)
        for crops in (0, 1, 2):
            outbox.append(Maker(crops))
        before = [(entry.row_id, entry.message.payload) for entry in everything(outbox)]
    with Outbox.open(directory, ROOMY) as outbox:
        assert (outbox.opened.how, outbox.opened.new_epoch, outbox.opened.reason) == (How.RESUMED, False, "")
        assert outbox.epoch == epoch
        assert [(entry.row_id, entry.message.payload) for entry in everything(outbox)] == before
        assert outbox.append(Maker()).seq == 4


def test_a_number_is_never_given_out_again_even_if_all_rows_are_gone(directory: Path) -> None:
    with Outbox.open(directory, ROOMY) as outbox:
        last = [outbox.append(Maker()) for _ in range(3)][-1]
        outbox.settle([entry.row_id for entry in everything(outbox)])
    with Outbox.open(directory, ROOMY) as outbox:
        assert outbox.pending() == ()
        again = outbox.append(Maker())
        assert again.seq == 4
        assert again.row_id > last.row_id


def test_a_message_that_cannot_be_made_takes_no_number(directory: Path) -> None:
    def fail(epoch: int, seq: int) -> list[Message]:
        raise ZeroDivisionError

    with Outbox.open(directory, ROOMY) as outbox:
        with pytest.raises(ZeroDivisionError):
            outbox.append(fail)
        assert outbox.append(Maker()).seq == 1


def test_the_wall_clock_has_no_say_in_the_order(directory: Path) -> None:
    clock = Clock()
    with Outbox.open(directory, ROOMY, clock=clock) as outbox:
        for jump in (0, 3600, -7200, 3600, -3600):
            clock.now_s += jump
            outbox.append(Maker())
        assert verdict_seqs(outbox) == [1, 2, 3, 4, 5]
    clock.now_s -= 3600
    with Outbox.open(directory, ROOMY, clock=clock) as outbox:
        outbox.append(Maker())
        assert verdict_seqs(outbox) == [1, 2, 3, 4, 5, 6]


def test_the_epoch_is_not_below_the_clock_and_grows_although_the_clock_went_back(directory: Path) -> None:
    clock = Clock(1_800_000_000.9)
    with Outbox.open(directory, ROOMY, clock=clock) as outbox:
        assert outbox.epoch == 1_800_000_000
    (directory / "outbox.db").unlink()
    clock.now_s -= 3600
    with Outbox.open(directory, ROOMY, clock=clock) as outbox:
        assert outbox.epoch > 1_800_000_000
        assert outbox.opened.how is How.REPLACED
        assert outbox.opened.reason == "the database file is missing"


@pytest.mark.parametrize("lost", ["", "epoch", "high_water"])
def test_no_two_processes_number_without_the_disk_in_one_epoch_even_if_the_clock_was_ahead(
    directory: Path, lost: str
) -> None:
    clock = Clock(1_900_000_000.0)
    apart, own = [], []
    for _ in range(4):
        with Outbox.open(directory, ROOMY, clock=clock) as outbox:
            apart += [outbox.reserve_epoch()]
            own += [outbox.epoch]
            assert outbox.reserve_epoch() == apart[-1]
            outbox.append(Maker())
        clock.now_s = 1_800_000_000.0
        (directory / lost).unlink() if lost else None
    (directory / "outbox.db").unlink()
    with Outbox.open(directory, ROOMY, clock=clock) as outbox:
        own += [outbox.epoch]
        apart += [outbox.reserve_epoch()]
    assert len({*apart}) == 5
    assert not {*apart} & {*own}
    assert outbox.epoch > max(apart[:-1])


def test_verdicts_that_are_given_up_take_numbers_and_are_explained(directory: Path) -> None:
    with Outbox.open(directory, ROOMY) as outbox:
        outbox.append(Maker())
        outbox.give_up(3)
        assert outbox.append(Maker()).seq == 5
        assert [(found.first_seq, found.last_seq, found.count) for found in outbox.tombstones()] == [(2, 4, 3)]
        assert outbox.statistics().evicted_verdicts == 3


# Reading a part.


def test_pending_begins_behind_a_row_and_ends_before_one(directory: Path) -> None:
    with Outbox.open(directory, ROOMY) as outbox:
        for _ in range(4):
            outbox.append(Maker())
        border = outbox.last_row_id
        for _ in range(4):
            outbox.append(Maker())
        assert [entry.seq for entry in outbox.pending(after=border, limit=3)] == [5, 6, 7]
        assert [entry.seq for entry in outbox.pending(before=border + 1, limit=100)] == [1, 2, 3, 4]
        first = outbox.pending(limit=2)
        assert [entry.seq for entry in outbox.pending(after=first[-1].row_id, limit=2)] == [3, 4]
        assert outbox.pending(after=outbox.last_row_id) == ()


# What becomes of rows.


def test_settled_rows_and_their_files_are_gone(directory: Path) -> None:
    with Outbox.open(directory, ROOMY) as outbox:
        for _ in range(2):
            outbox.append(Maker(crops=2))
        assert len(crop_files(directory)) == 4
        assert outbox.settle([entry.row_id for entry in outbox.pending(limit=3)]) == 3
        assert len(crop_files(directory)) == 2
        assert [entry.seq for entry in everything(outbox)] == [2, 2, 2]


def test_settling_what_is_not_there_does_nothing(directory: Path) -> None:
    with Outbox.open(directory, ROOMY) as outbox:
        row_id = outbox.append(Maker()).row_id
        assert outbox.settle([row_id, row_id, row_id + 7]) == 1
        assert outbox.settle([row_id]) == 0
        assert outbox.settle([]) == 0
        assert outbox.statistics().bytes == 0


def test_a_buried_crop_does_not_hold_its_verdict_back_and_can_be_listed(directory: Path) -> None:
    clock = Clock()
    with Outbox.open(directory, ROOMY, clock=clock) as outbox:
        outbox.append(Maker(crops=1))
        verdict, crop = outbox.pending()
        clock.now_s += 60
        assert outbox.bury(crop.row_id, PACKET_TOO_LARGE)
        assert not outbox.bury(crop.row_id, PACKET_TOO_LARGE)
        assert [entry.row_id for entry in outbox.pending()] == [verdict.row_id]
    with Outbox.open(directory, ROOMY) as outbox:
        (dead,) = outbox.dead_letters()
        assert (dead.reason_code, dead.buried_at_s) == (PACKET_TOO_LARGE, 1_800_000_060.0)
        assert (dead.entry.row_id, dead.entry.kind, dead.entry.seq) == (crop.row_id, Kind.CROP, 1)
        assert dead.entry.message.payload == crop_bytes(outbox.epoch, 1, 0, 3000)
        assert outbox.opened.orphans == 0


def test_dead_letters_are_listed_page_by_page(directory: Path) -> None:
    with Outbox.open(directory, ROOMY) as outbox:
        for _ in range(5):
            outbox.bury(outbox.append(Maker()).row_id, NOT_AUTHORIZED)
        page = outbox.dead_letters(limit=2)
        assert [dead.entry.seq for dead in page] == [1, 2]
        assert [dead.entry.seq for dead in outbox.dead_letters(page[-1].entry.row_id)] == [3, 4, 5]


def test_a_crop_whose_file_is_gone_or_torn_is_buried_and_the_rest_goes_on(directory: Path) -> None:
    with Outbox.open(directory, ROOMY) as outbox:
        for _ in range(3):
            outbox.append(Maker(crops=1))
        gone, torn, _ = sorted((directory / "crops").iterdir())
        gone.unlink()
        torn.write_bytes(b"torn")
        outbox.settle([entry.row_id for entry in everything(outbox) if entry.kind is Kind.VERDICT])
        assert [entry.seq for entry in outbox.pending(limit=1)] == [3]
        dead = outbox.dead_letters()
        assert [(found.entry.seq, found.reason_code, found.entry.message.payload) for found in dead] == [
            (1, FILE_LOST, b""),
            (2, FILE_LOST, b""),
        ]


def test_of_retained_messages_to_one_topic_only_the_last_one_waits(directory: Path) -> None:
    event = Message("root/site/line/station/event", b"1", qos=1)
    with Outbox.open(directory, ROOMY) as outbox:
        for text in ("raised", "over", "raised again"):
            outbox.append_message(alarm("broker_away", text))
        outbox.append_message(alarm("disk_low", "raised"))
        outbox.append_message(event)
        outbox.append_message(event)
        assert [entry.message.payload for entry in outbox.pending()] == [b"raised again", b"raised", b"1", b"1"]
        assert outbox.statistics().others == 4


def test_files_that_belong_to_nothing_are_swept_at_opening_and_counted(directory: Path) -> None:
    with Outbox.open(directory, ROOMY) as outbox:
        outbox.append(Maker(crops=1))
    kept = crop_files(directory)
    (directory / "crops" / ".1-2-0.crop.tmp").write_bytes(b"half")
    (directory / "crops" / "1-2-0.crop").write_bytes(b"whole")
    with Outbox.open(directory, ROOMY) as outbox:
        assert outbox.opened.orphans == 2
        assert crop_files(directory) == kept


# Bounds.


def test_crops_give_way_before_any_verdict(directory: Path) -> None:
    with Outbox.open(directory, limits(max_rows=6)) as outbox:
        for _ in range(4):
            outbox.append(Maker(crops=1))
        assert [(entry.kind, entry.seq) for entry in everything(outbox)] == [
            (Kind.VERDICT, 1),
            (Kind.VERDICT, 2),
            (Kind.VERDICT, 3),
            (Kind.CROP, 3),
            (Kind.VERDICT, 4),
            (Kind.CROP, 4),
        ]
        assert len(crop_files(directory)) == 2
        assert outbox.statistics().evicted_crops == 2
        assert outbox.tombstones() == ()


def test_dead_letters_give_way_before_verdicts_and_a_dead_verdict_leaves_a_tombstone(directory: Path) -> None:
    with Outbox.open(directory, limits(max_rows=3)) as outbox:
        for _ in range(3):
            outbox.append(Maker())
        outbox.bury(outbox.pending()[1].row_id, NOT_AUTHORIZED)
        outbox.append(Maker())
        assert verdict_seqs(outbox) == [1, 3, 4]
        assert outbox.dead_letters() == ()
        assert outbox.statistics().evicted_dead_letters == 1
        assert outbox.tombstones() == (Tombstone(1, outbox.epoch, 2, 2, 1, GivenUp.REFUSED),)


def test_the_oldest_verdicts_give_way_last_and_are_remembered_as_one_range(directory: Path) -> None:
    with Outbox.open(directory, limits(max_rows=10)) as outbox:
        for _ in range(100):
            outbox.append(Maker())
        assert verdict_seqs(outbox) == list(range(91, 101))
        epoch = outbox.epoch
    with Outbox.open(directory, limits(max_rows=10)) as outbox:
        (found,) = outbox.tombstones()
        assert (found.epoch, found.first_seq, found.last_seq, found.count) == (epoch, 1, 90, 90)
        assert outbox.statistics().evicted_verdicts == 90
        assert outbox.statistics().pending == 11


def test_a_range_that_is_being_published_does_not_grow(directory: Path) -> None:
    with Outbox.open(directory, limits(max_rows=2)) as outbox:
        for _ in range(4):
            outbox.append(Maker())
        (published,) = outbox.tombstones()
        outbox.append(Maker())
        outbox.append(Maker())
        assert [(found.first_seq, found.last_seq) for found in outbox.tombstones()] == [(1, 2), (3, 4)]
        assert outbox.settle_tombstones([published.tombstone_id]) == 1
        assert [(found.first_seq, found.last_seq) for found in outbox.tombstones()] == [(3, 4)]
        assert outbox.settle_tombstones([published.tombstone_id]) == 0


def test_bytes_are_bounded_too(directory: Path) -> None:
    with Outbox.open(directory, limits(max_bytes=20_000)) as outbox:
        for _ in range(50):
            outbox.append(Maker(crops=1, crop_size=3000, verdict_size=600))
            assert outbox.statistics().bytes <= 20_000
        found = outbox.statistics()
        assert found.bytes == sum(entry.size for entry in everything(outbox))
        assert found.bytes > 19_000
        assert found.evicted_crops == 50
        assert found.evicted_verdicts > 10


def test_the_newest_verdict_stays_whatever_the_limits(directory: Path) -> None:
    with Outbox.open(directory, limits(max_rows=1, max_bytes=10)) as outbox:
        for number in range(1, 4):
            outbox.append(Maker(crops=1))
            assert verdict_seqs(outbox) == [number]
            assert crop_files(directory) == set()


def test_tighter_limits_evict_at_opening(directory: Path) -> None:
    with Outbox.open(directory, ROOMY) as outbox:
        for _ in range(700):
            outbox.append(Maker())
    with Outbox.open(directory, limits(max_rows=20)) as outbox:
        assert verdict_seqs(outbox) == list(range(681, 701))
        (found,) = outbox.tombstones()
        assert (found.first_seq, found.last_seq, found.count) == (1, 680, 680)


# Several users.


def test_a_second_process_is_refused_by_name_until_the_first_one_is_dead(directory: Path) -> None:
    script = (
        "import sys, pathlib, time\n"
        "from edge.delivery.outbox.outbox import Outbox\n"
        "from edge.delivery.outbox.records import OutboxLimits\n"
        "outbox = Outbox.open(pathlib.Path(sys.argv[1]), OutboxLimits(min_free_bytes=0))\n"
        "print('open', flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(directory)], stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"open\n"
        with pytest.raises(OutboxError, match=rf"{directory}: this outbox is in use .*pid {first.pid}") as refused:
            Outbox.open(directory, ROOMY)
        assert isinstance(refused.value, DeliveryError)
        first.kill()
    with Outbox.open(directory, ROOMY) as outbox:
        assert outbox.append(Maker()).seq == 1


def test_two_threads_append_and_settle_and_nothing_is_lost_or_out_of_order(directory: Path) -> None:
    received: list[int] = []
    with Outbox.open(directory, ROOMY) as outbox:
        done = threading.Event()

        def append() -> None:
            for number in range(400):
                outbox.append(Maker(crops=number % 3 == 0))
            done.set()

        thread = threading.Thread(target=append)
        thread.start()
        while not done.is_set() or outbox.statistics().pending:
            found = outbox.pending(limit=7)
            received += [entry.seq for entry in found if entry.kind is Kind.VERDICT]
            outbox.settle([entry.row_id for entry in found])
        thread.join()
    assert received == list(range(1, 401))


def test_descriptors_are_returned(directory: Path) -> None:
    def use() -> None:
        with Outbox.open(directory, ROOMY) as outbox:
            for _ in range(3):
                outbox.append(Maker(crops=1))
            with pytest.raises(OutboxError, match=f"pid {os.getpid()}"):
                Outbox.open(directory, ROOMY)
            outbox.settle([entry.row_id for entry in everything(outbox)])
            outbox.close()

    use()
    before = psutil.Process().num_fds()
    for _ in range(20):
        use()
    assert psutil.Process().num_fds() == before


# What is asked of the disk.


def test_a_commit_is_one_flush_in_a_write_ahead_log(directory: Path) -> None:
    with Outbox.open(directory, ROOMY) as outbox:
        connection = outbox.store.database._connection
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        outbox.append(Maker())
        before = (directory / "outbox.db-wal").stat().st_size
        outbox.append(Maker())
        pages = ((directory / "outbox.db-wal").stat().st_size - before) // 4120
        assert pages <= 4  # the row, its number, the state; rarely a page of the tree


def test_the_queue_is_walked_without_reading_what_lies_before(directory: Path) -> None:
    with Outbox.open(directory, ROOMY) as outbox:
        outbox.append(Maker())
        connection = outbox.store.database._connection
        statements: list[str] = []
        connection.set_trace_callback(statements.append)
        outbox.pending(after=5)
        outbox.statistics()
        connection.set_trace_callback(None)
        plans = [str(connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()) for statement in statements]
        assert any("USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)" in plan for plan in plans)
        assert not any("TEMP B-TREE" in plan for plan in plans)


def test_the_database_can_be_read_by_others_when_it_is_closed(directory: Path) -> None:
    with Outbox.open(directory, ROOMY) as outbox:
        outbox.append(Maker())
    connection = sqlite3.connect(f"file:{directory / 'outbox.db'}?mode=ro", uri=True)
    assert connection.execute("SELECT kind, seq FROM messages").fetchall() == [("verdict", 1)]
    connection.close()


def test_statistics_say_what_waits_since_when(directory: Path) -> None:
    clock = Clock()
    with Outbox.open(directory, ROOMY, clock=clock) as outbox:
        empty = outbox.statistics()
        assert (empty.pending, empty.bytes, empty.oldest_committed_at_s) == (0, 0, None)
        outbox.append(Maker(crops=2))
        clock.now_s += 5
        outbox.append_message(alarm("disk_low"))
        found = outbox.statistics()
        assert (found.verdicts, found.crops, found.others, found.tombstones, found.dead_letters) == (1, 2, 1, 0, 0)
        assert found.pending == 4
        assert found.oldest_committed_at_s == 1_800_000_000.0
        assert found.ballast
        assert not found.disk_low
        assert found.free_bytes > 0
        assert (directory / "ballast").stat().st_size == ROOMY.ballast_bytes
