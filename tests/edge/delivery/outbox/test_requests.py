from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from edge.delivery.outbox.outbox import Outbox
from edge.delivery.outbox.records import GivenUp
from edge.delivery.outbox.requests import MOST_LISTED, Action, Answer, Request, answer_requests, ask
from edge.errors import OutboxError
from tests.outboxes import ROOMY, Maker, everything, quick_directory

REFUSED = 0x87


@pytest.fixture
def directory() -> Iterator[Path]:
    with quick_directory() as found:
        yield found / "outbox"


def fill(outbox: Outbox) -> None:
    """Rows 1, 2 and 4 are dead, 3 and 5 wait; the file of 5 is there."""
    outbox.append(Maker())
    outbox.append(Maker())
    outbox.append(Maker())
    outbox.append(Maker(crops=1))
    for row_id in (1, 2, 4):
        outbox.bury(row_id, REFUSED)


@contextmanager
def running(directory: Path) -> Iterator[Outbox]:
    """A station that has the outbox open and looks for requests, as one does while it runs."""
    done = threading.Event()
    with Outbox.open(directory, ROOMY) as outbox:

        def look() -> None:
            while not done.wait(0.01):
                answer_requests(outbox)

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield outbox
        finally:
            done.set()
            thread.join()


@contextmanager
def stopped(directory: Path) -> Iterator[None]:
    Outbox.open(directory, ROOMY).close()
    yield


def listed(answer: Answer) -> list[tuple[int, str, int, int]]:
    return [(each.id, each.kind, each.seq, each.reason_code) for each in answer.listed]


@pytest.mark.parametrize("state", [running, stopped])
def test_dead_letters_are_listed_sent_again_and_dropped_whether_or_not_a_station_runs(
    directory: Path, state: Callable[[Path], AbstractContextManager[object]]
) -> None:
    with Outbox.open(directory, ROOMY) as outbox:
        fill(outbox)
        before = {dead.entry.row_id: dead.entry.message for dead in outbox.dead_letters()}
    with state(directory):
        found = ask(directory, Request(Action.LIST))
        assert listed(found) == [(row_id, "verdict", row_id, REFUSED) for row_id in (1, 2, 4)]
        assert listed(ask(directory, Request(Action.LIST, after=2))) == listed(found)[2:]
        assert ask(directory, Request(Action.RESEND, (2, 77))).done == (2,)
        assert ask(directory, Request(Action.DROP, (1,))).done == (1,)
        assert listed(ask(directory, Request(Action.LIST))) == listed(found)[2:]
        assert ask(directory, Request(Action.RESEND)).done == (4,)
        assert ask(directory, Request(Action.DROP)).done == ()
    with Outbox.open(directory, ROOMY) as outbox:
        again = {entry.seq: entry for entry in everything(outbox) if entry.late}
        assert list(again) == [2, 4]
        assert again[2].message.payload == before[2].payload
        assert again[2].epoch == outbox.epoch
        assert again[2].row_id > 5
        # What explained the gap is not taken back: somebody may have it already.
        (stones,) = {each.reason for each in outbox.tombstones()}
        assert stones is GivenUp.REFUSED


def test_more_than_one_page_is_listed_page_by_page(directory: Path) -> None:
    with Outbox.open(directory, ROOMY) as outbox:
        for _ in range(MOST_LISTED + 5):
            outbox.bury(outbox.append(Maker(verdict_size=1)).row_id, REFUSED)
    first = ask(directory, Request(Action.LIST)).listed
    assert len(first) == MOST_LISTED
    assert len(ask(directory, Request(Action.LIST, after=first[-1].id)).listed) == 5


def test_a_station_that_does_not_answer_is_named_and_no_request_is_left_behind(directory: Path) -> None:
    with Outbox.open(directory, ROOMY) as outbox:
        fill(outbox)
        with pytest.raises(OutboxError, match=f"in use .*pid {os.getpid()}.*not answered within 0.1 s"):
            ask(directory, Request(Action.DROP), patience_s=0.1)
        assert list((directory / "requests").iterdir()) == []
        answer_requests(outbox)
        assert len(outbox.dead_letters()) == 3


def test_whatever_lies_among_the_requests_a_station_goes_on(directory: Path) -> None:
    with Outbox.open(directory, ROOMY) as outbox:
        fill(outbox)
        answer_requests(outbox)
        desk = directory / "requests"
        desk.mkdir()
        nonsense = [b"", b"[", b"[]", b"{}", b'{"action": "burn", "row_ids": null, "after": 0}', b"\xff", b"[" * 10**5]
        nonsense += [json.dumps({"action": "drop", "row_ids": ids, "after": 0}).encode() for ids in (1, ["x"], [2**80])]
        for number, contents in enumerate(nonsense):
            (desk / f"{number}.question").write_bytes(contents)
        os.mkfifo(desk / "fifo.question")
        (desk / "link.question").symlink_to(directory / "outbox.db")
        answer_requests(outbox)
        assert not list(desk.glob("*.question"))
        assert all("error" in json.loads(path.read_bytes()) for path in desk.glob("*.answer") if path.stem != "9")
        assert len(outbox.dead_letters()) == 3


def test_damage_that_a_command_finds_is_told_again_by_the_station_that_starts_next(directory: Path) -> None:
    with Outbox.open(directory, ROOMY) as outbox:
        fill(outbox)
    (directory / "high_water").unlink()
    for _ in range(2):
        assert "high_water" in ask(directory, Request(Action.LIST)).damage
    with Outbox.open(directory, ROOMY) as outbox:
        assert "high_water" in outbox.damage
    with Outbox.open(directory, ROOMY) as outbox:
        assert outbox.damage == ""


def test_where_there_is_no_outbox_none_is_made(directory: Path) -> None:
    with pytest.raises(OutboxError, match="there is no outbox here"):
        ask(directory, Request(Action.LIST))
    assert not directory.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_another_users_outbox_is_left_alone(directory: Path) -> None:
    Outbox.open(directory, ROOMY).close()
    os.chown(directory / "outbox.db", 4711, 4711)
    with pytest.raises(OutboxError, match="expected to be run by user 4711"):
        ask(directory, Request(Action.LIST))
