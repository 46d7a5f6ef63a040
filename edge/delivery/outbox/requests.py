"""What people ask of an outbox's dead letters, whether or not a running station has it open.

One process has the database, so a request to a station that runs goes through its outbox's directory: a file with the
question, and one with the answer, each there whole or not at all. Only who may write there can ask.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pwd
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from edge.delivery.outbox.outbox import Outbox
from edge.delivery.outbox.records import DeadLetter, OutboxLimits
from edge.errors import OutboxError, OutboxInUseError
from edge.files.atomic import write_file

MOST_LISTED = 1000

PATIENCE_S = 15.0  # a station looks for requests about every second
_LARGEST_BYTES = 2**20
_READ_AT_ONCE = 100  # dead letters; crops among them are held in memory
_EVERYTHING = OutboxLimits(max_rows=2**62, max_bytes=2**62, min_free_bytes=0, ballast_bytes=0)

log = logging.getLogger("patchline.outbox")


class Action(StrEnum):
    """What can be done with dead letters."""

    LIST = "list"
    RESEND = "resend"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Request:
    """One question."""

    action: Action
    row_ids: tuple[int, ...] | None = None  # None: all
    after: int = 0  # list: behind this one


@dataclass(frozen=True, slots=True)
class Listed:
    """A dead letter as people see it."""

    id: int
    kind: str
    epoch: int
    seq: int
    topic: str
    bytes: int
    reason_code: int  # of MQTT 5; -1: its file is lost, -2: it is not what was written
    buried_at_s: float  # wall clock, seconds since 1970-01-01 UTC

    @property
    def can_be_sent(self) -> bool:
        """It is whole."""
        return self.reason_code >= 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found or done."""

    listed: tuple[Listed, ...] = ()
    done: tuple[int, ...] = ()  # late or dropped
    damage: str = ""  # found when the outbox was opened for this


def ask(directory: Path, request: Request, patience_s: float = PATIENCE_S) -> Answer:
    """Let whoever has the outbox in `directory` answer: the station that runs, or nobody and so this process.

    Args:
        directory: of one station.
        request: what to do.
        patience_s: how long a station that runs may take.

    Raises:
        OutboxError: there is no outbox, it is another user's, the disk refuses, or who has it does not answer.
    """
    _refuse_foreign(directory)
    try:
        with Outbox.open(directory, _EVERYTHING) as outbox:
            answer = carry_out(outbox, request)
            outbox.store.leave_damage()
            return answer
    except OutboxInUseError as error:
        return _ask_owner(directory, request, str(error), patience_s)


def carry_out(outbox: Outbox, request: Request) -> Answer:
    """Do what is asked.

    Raises:
        OutboxError: the disk refuses.
    """
    if request.action is Action.LIST:
        return Answer(listed=_listed(outbox, request), damage=outbox.damage)
    asked = request.row_ids
    asked, there = request.row_ids, [dead.entry.row_id for dead in _all(outbox)]
    known = [row_id for row_id in there if asked is None or row_id in asked]
    if request.action is Action.RESEND:
        return Answer(done=outbox.resend(known), damage=outbox.damage)
    outbox.drop(known)
    return Answer(done=tuple(known), damage=outbox.damage)


def answer_requests(outbox: Outbox) -> None:
    """Answer what was asked of a running station. Nothing that lies there can stop it."""
    with contextlib.suppress(OSError):
        for question in sorted(_desk(outbox.directory).glob("*.question")):
            _answer_one(outbox, question)


def _answer_one(outbox: Outbox, question: Path) -> None:
    try:
        request = _read_request(question)
        question.unlink()  # first, so that it is carried out once at the most
        answer: dict[str, Any] = asdict(carry_out(outbox, request))
        log.info("dead letters: %s", request.action, extra={"fields": {"done": len(answer["done"])}})
    except (OSError, ValueError, TypeError, KeyError, RecursionError, OutboxError) as error:
        question.unlink(missing_ok=True)
        answer = {"error": str(error)}
    write_file(question.with_suffix(".answer"), json.dumps(answer).encode())


def _read_request(question: Path) -> Request:
    descriptor = os.open(question, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        values = json.loads(os.read(descriptor, _LARGEST_BYTES))
    finally:
        os.close(descriptor)
    asked = values["row_ids"]
    return Request(Action(values["action"]), None if asked is None else tuple(map(int, asked)), int(values["after"]))


def _ask_owner(directory: Path, request: Request, in_use: str, patience_s: float) -> Answer:
    desk = _desk(directory)
    question = desk / f"{secrets.token_hex(8)}.question"
    answer = question.with_suffix(".answer")
    try:
        desk.mkdir(exist_ok=True)
        write_file(question, json.dumps(asdict(request)).encode())
        values = _wait_for(answer, patience_s)
    except OSError as error:
        raise OutboxError(f"{directory}: the station that runs cannot be asked ({error.strerror})") from error
    finally:
        for path in (question, answer):
            with contextlib.suppress(OSError):
                path.unlink()
    if values is None:
        raise OutboxError(f"{in_use}; it has not answered within {patience_s:g} s")
    if "error" in values:
        raise OutboxError(f"{directory}: {values['error']}")
    return Answer(tuple(Listed(**each) for each in values["listed"]), tuple(values["done"]), values["damage"])


def _wait_for(answer: Path, patience_s: float) -> dict[str, Any] | None:
    until_s = time.monotonic() + patience_s
    while time.monotonic() < until_s:
        with contextlib.suppress(FileNotFoundError):
            found: dict[str, Any] = json.loads(answer.read_bytes())
            return found
        time.sleep(0.05)
    return None


def _listed(outbox: Outbox, request: Request) -> tuple[Listed, ...]:
    found = []
    for dead in _all(outbox, request.after):
        entry = dead.entry
        found.append(
            Listed(
                id=entry.row_id,
                kind=entry.kind.value,
                epoch=entry.epoch,
                seq=entry.seq,
                topic=entry.message.topic,
                bytes=entry.size,
                reason_code=dead.reason_code,
                buried_at_s=dead.buried_at_s,
            )
        )
        if len(found) == MOST_LISTED:
            break
    return tuple(found)


def _all(outbox: Outbox, after: int = 0) -> Iterator[DeadLetter]:
    found: Sequence[DeadLetter]
    while found := outbox.dead_letters(after, _READ_AT_ONCE):
        yield from found
        after = found[-1].entry.row_id


def _desk(directory: Path) -> Path:
    return directory / "requests"


def _refuse_foreign(directory: Path) -> None:
    """Files that another user makes there could not be written by the station any more."""
    try:
        owner = (directory / "outbox.db").stat().st_uid
    except OSError as error:
        raise OutboxError(f"{directory}: there is no outbox here ({error.strerror})") from error
    if owner != os.geteuid():
        raise OutboxError(f"{directory}: expected to be run by user {_name_of(owner)}, whose outbox it is (sudo -u)")


def _name_of(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
