"""Files of an outbox are damaged at random after its process was really killed: what then does the next one do?

Passed if nothing is delivered that is not what was committed, no key is given to another verdict, whatever is gone was
said to be gone, and the outbox goes on: it opens, appends, settles and opens again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import select
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.campaigns import CampaignError, Rows
from edge.delivery.outbox.outbox import Outbox
from edge.delivery.outbox.records import Entry, Kind, OutboxLimits
from edge.records import Message

COUNT = 118

_DAMAGES_EACH = 6  # of one killed process's outbox
_LONGEST_S = 60.0  # for one opening with everything after it
_PAGE = 4096
_REFUSED = 0x87

Key = tuple[str, int, int, str]  # kind, epoch, seq, topic


def run(count: int, seed: int) -> Rows:
    """Damage `count` outboxes and open each."""
    choice = random.Random(seed)
    logging.getLogger("patchline.outbox").setLevel(logging.CRITICAL)  # hundreds of openings that complain rightly
    tally: Counter[str] = Counter()
    with _quick_directory() as scratch:
        for number in range(count):
            if number % _DAMAGES_EACH == 0:
                shutil.rmtree(scratch / "whole", ignore_errors=True)
                ledger = _kill_a_writer(scratch / "whole", choice)
                tally["committed"] += len(ledger.committed)
            damaged = Path(shutil.copytree(scratch / "whole", scratch / f"damaged {number}"))
            what = _damage(damaged, choice)
            outcome = _in_a_child(lambda: _examine(damaged, ledger))  # noqa: B023 — called at once
            _judge(outcome, f"damage {number}: {what}")
            tally[what.split(" of ")[0]] += 1
            tally.update(outcome)
            shutil.rmtree(damaged)
    return _rows(count, tally)


def _rows(count: int, tally: Counter[str]) -> Rows:
    kinds = ", ".join(f"{tally[name]} {name}" for name in sorted(_DAMAGES))
    return [
        ("damages", f"{count}: {kinds}"),
        ("said (`outbox_corrupt`); nothing to say, nothing missing", f"{tally['said']}; {count - tally['said']}"),
        ("new epochs; databases set aside", f"{tally['new_epoch']}; {tally['set_aside']}"),
        ("messages examined; missing, and said to be", f"{tally['examined']}; {tally['missing']}"),
        ("changed in silence", "0"),
        ("missing in silence", "0"),
        ("keys given to another verdict", "0"),
        ("crashes, hangs, blocks", "0"),
    ]


# A process that is killed.


@dataclass
class _Ledger:
    """What the writer said before it was killed."""

    committed: dict[Key, str] = field(default_factory=dict)  # → hash of the content
    touched: set[Key] = field(default_factory=set)  # perhaps settled
    epochs_apart: set[int] = field(default_factory=set)

    def read(self, text: str) -> None:
        for line in text.splitlines():
            try:
                word, value = json.loads(line)
            except ValueError:
                continue  # the kill cut it
            if word == "+":
                self.committed |= {tuple(key): digest for key, digest in value}
            elif word == "?":
                self.touched |= {tuple(key) for key in value}
            else:
                self.epochs_apart.add(value)


def _kill_a_writer(directory: Path, choice: random.Random) -> _Ledger:
    reader, writer = os.pipe()
    seed, moment_s = choice.getrandbits(32), choice.uniform(0.02, 0.4)
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            _write_for_ever(directory, writer, random.Random(seed))
        finally:
            os._exit(1)  # only the parent goes on from here
    os.close(writer)
    text = os.read(reader, 1)  # it has begun
    time.sleep(moment_s)
    os.kill(child, signal.SIGKILL)
    if not os.WIFSIGNALED(os.waitpid(child, 0)[1]):
        raise CampaignError("the writer failed before it was killed")
    while chunk := os.read(reader, 65536):
        text += chunk
    os.close(reader)
    ledger = _Ledger()
    ledger.read(text.decode())
    return ledger


def _write_for_ever(directory: Path, pipe: int, choice: random.Random) -> None:
    """Append, settle and bury, saying so on `pipe`: `+` after it is done, `?` before."""
    limits = OutboxLimits(min_free_bytes=0, ballast_bytes=choice.choice((0, 65536)))
    with Outbox.open(directory, limits) as outbox:
        _say(pipe, "epoch", outbox.reserve_epoch())
        while True:
            crops = choice.choice((0, 0, 0, 1, 2))
            appended = outbox.append(lambda epoch, seq: _messages(epoch, seq, crops))  # noqa: B023 — called at once
            _say(pipe, "+", [_described(message, appended.epoch, appended.seq) for message in appended.messages])
            if choice.random() < 0.1:
                text = os.urandom(8).hex()
                message = Message(f"s/alarm/{text}", text.encode(), qos=1, retain=True)
                outbox.append_message(message)
                _say(pipe, "+", [_described(message, appended.epoch, 0)])
            if choice.random() < 0.3:
                found = outbox.pending(limit=choice.randint(1, 6))
                _say(pipe, "?", [_key(entry) for entry in found])
                outbox.settle([entry.row_id for entry in found[1:]])
                outbox.bury(found[0].row_id, _REFUSED) if choice.random() < 0.3 else outbox.settle([found[0].row_id])


def _messages(epoch: int, seq: int, crops: int) -> Sequence[Message]:
    verdict = json.dumps({"epoch": epoch, "seq": seq, "verdict": "FAIL", "ok": 0, "noise": os.urandom(150).hex()})
    pictures = [Message(f"s/crop/{k}", os.urandom(5000), qos=1, content_type="image/jpeg") for k in range(crops)]
    return [Message("s/verdict", verdict.encode(), qos=1), *pictures]


def _say(pipe: int, word: str, value: object) -> None:
    os.write(pipe, json.dumps([word, value]).encode() + b"\n")


def _described(message: Message, epoch: int, seq: int) -> tuple[Key, str]:
    kind = Kind.VERDICT if message.topic == "s/verdict" else Kind.CROP if "crop" in message.topic else Kind.OTHER
    return (kind.value, epoch, seq, message.topic), _digest(message)


def _key(entry: Entry) -> Key:
    return entry.kind.value, entry.epoch, entry.seq, entry.message.topic


def _digest(message: Message) -> str:
    content = (message.topic, message.qos, message.retain, message.content_type, message.user_properties)
    return hashlib.sha256(repr(content).encode() + message.payload).hexdigest()


# Damages.


def _flip(path: Path, choice: random.Random) -> None:
    contents = bytearray(path.read_bytes())
    for _ in range(choice.choice((1, 1, 1, 8)) if contents else 0):
        contents[choice.randrange(len(contents))] ^= 1 << choice.randrange(8)
    path.write_bytes(contents)


def _truncate(path: Path, choice: random.Random) -> None:
    size = path.stat().st_size
    os.truncate(path, choice.choice((0, size // 2, choice.randrange(size + 1), max(0, size - choice.randint(1, 9000)))))


def _delete(path: Path, choice: random.Random) -> None:
    del choice
    path.unlink()


def _zero(path: Path, choice: random.Random) -> None:
    contents = bytearray(path.read_bytes())
    start = choice.randrange(max(1, len(contents) // _PAGE)) * _PAGE
    contents[start : start + _PAGE] = bytes(len(contents[start : start + _PAGE]))
    path.write_bytes(contents)


def _garble(path: Path, choice: random.Random) -> None:
    contents = bytearray(path.read_bytes())
    start = choice.randrange(len(contents) + 1)
    contents[start : start + 64] = choice.randbytes(len(contents[start : start + 64]))
    path.write_bytes(contents)


_DAMAGES: dict[str, Callable[[Path, random.Random], None]] = {
    "bits flipped": _flip,
    "cut short": _truncate,
    "deleted": _delete,
    "page zeroed": _zero,
    "bytes garbled": _garble,
}


def _damage(directory: Path, choice: random.Random) -> str:
    crops = sorted((directory / "crops").glob("*"))
    files = [directory / name for name in ("outbox.db", "outbox.db-wal", "epoch", "high_water")]
    weights = [5, 5, 1, 2]
    there = [(path, weight) for path, weight in zip(files, weights, strict=True) if path.exists()]
    there += [(choice.choice(crops), 2)] if crops else []
    (path,) = choice.choices([path for path, _ in there], [weight for _, weight in there])
    name = choice.choice(sorted(_DAMAGES))
    _DAMAGES[name](path, choice)
    return f"{name} of {path.relative_to(directory)}"


# What the next process does.


def _in_a_child(examine: Callable[[], dict[str, int]]) -> dict[str, int]:
    """In a process of its own: a crash of any kind, and a hang, are outcomes, too."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        answer: object = "it ended without a word"
        try:
            answer = examine()
        except BaseException as error:  # noqa: BLE001 — whatever it is, it is what is looked for
            answer = f"{type(error).__name__}: {error}"
        finally:
            os.write(writer, json.dumps(answer).encode())
            os._exit(0)
    os.close(writer)
    ready, _, _ = select.select([reader], [], [], _LONGEST_S)
    if not ready:
        os.kill(child, signal.SIGKILL)
    text = os.read(reader, 2**20) if ready else b'"it hangs"'
    os.close(reader)
    os.waitpid(child, 0)
    answer = json.loads(text or b'"it crashed"')
    return answer if isinstance(answer, dict) else {f"FAILED {answer}": 1}


def _examine(directory: Path, ledger: _Ledger) -> dict[str, int]:
    limits = OutboxLimits(min_free_bytes=0, ballast_bytes=0)
    with Outbox.open(directory, limits) as outbox:
        opened = outbox.opened
        assert outbox.reserve_epoch() not in ledger.epochs_apart, "an epoch is set apart twice"
        entries = [
            *_everything(outbox),
            *(dead.entry for dead in outbox.dead_letters(0, 10**6) if dead.reason_code >= 0),
        ]
        missing = _compare(entries, ledger)
        said = outbox.damage
        lost = {letter.entry.message.topic for letter in outbox.dead_letters(0, 10**6) if letter.reason_code < 0}
        assert said or all(key[3] in lost for key in missing), f"missing in silence: {sorted(missing)[:3]}"
        _go_on(outbox, ledger)
    with Outbox.open(directory, limits) as outbox:
        assert outbox.damage == "", f"it is not mended: {outbox.damage}"
        _go_on(outbox, ledger)
    return {
        "said": int(bool(said)),
        "new_epoch": int(opened.new_epoch),
        "set_aside": int(opened.set_aside is not None),
        "examined": len(entries),
        "missing": len(missing),
    }


def _compare(entries: Sequence[Entry], ledger: _Ledger) -> set[Key]:
    unknown = 0
    for entry in entries:
        digest = ledger.committed.get(_key(entry))
        unknown += digest is None and entry.kind is Kind.VERDICT
        assert digest in {None, _digest(entry.message)}, f"changed: {_key(entry)}"
    assert unknown <= 1, "more than the one that was being written when the kill came"
    return ledger.committed.keys() - ledger.touched - {_key(entry) for entry in entries}


def _go_on(outbox: Outbox, ledger: _Ledger) -> None:
    appended = outbox.append(lambda epoch, seq: _messages(epoch, seq, 1))
    assert ("verdict", appended.epoch, appended.seq, "s/verdict") not in ledger.committed, "a key is given out twice"
    assert appended.epoch not in ledger.epochs_apart, "an epoch is used twice"
    entries = _everything(outbox)
    assert outbox.settle([entry.row_id for entry in entries]) == len(entries), "what was read cannot be settled"
    assert not outbox.pending(), "something waits for ever"
    outbox.settle_tombstones([stone.tombstone_id for stone in outbox.tombstones(10**6)])
    ledger.committed[("verdict", appended.epoch, appended.seq, "s/verdict")] = ""


def _everything(outbox: Outbox) -> list[Entry]:
    entries: list[Entry] = []
    while found := outbox.pending(entries[-1].row_id if entries else 0, 100):
        entries += found
    return entries


def _judge(outcome: dict[str, int], what: str) -> None:
    if failed := next((name for name in outcome if name.startswith("FAILED")), ""):
        raise CampaignError(f"{what}: {failed.removeprefix('FAILED ')}")


@contextmanager
def _quick_directory() -> Iterator[Path]:
    """In memory where there is such a place: a kill leaves the same there, and flushes take no time."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as name:
        yield Path(name)
