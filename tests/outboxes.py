"""Messages for an outbox, a directory that is quick to flush, and a process that is killed while it writes one.

`python -m tests.outboxes DIRECTORY KILLS SEED` kills a writer over and over and verifies the outbox after each kill.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from edge.delivery.outbox.outbox import Outbox
from edge.delivery.outbox.records import Entry, Kind, OutboxLimits
from edge.records import Message

ROOMY = OutboxLimits(min_free_bytes=0, ballast_bytes=64 * 1024)


def crop_bytes(epoch: int, seq: int, index: int, size: int) -> bytes:
    """What the crop of that key holds, so that every one can be told from every other."""
    block = hashlib.sha256(f"{epoch}-{seq}-{index}".encode()).digest()
    return (block * (size // len(block) + 1))[:size]


class Maker:
    """Messages of a verdict with so many crops, as `append` asks for them."""

    def __init__(self, crops: int = 0, *, crop_size: int = 3000, verdict_size: int = 600) -> None:
        self.crops, self.crop_size, self.verdict_size = crops, crop_size, verdict_size

    def __call__(self, epoch: int, seq: int) -> Sequence[Message]:
        payload = b'{"epoch":%d,"seq":%d}' % (epoch, seq)
        return [
            Message("root/site/line/station/verdict", payload.ljust(self.verdict_size), qos=1),
            *(
                Message(
                    topic=f"root/site/line/station/crop/{index}",
                    payload=crop_bytes(epoch, seq, index, self.crop_size),
                    qos=1,
                    content_type="image/jpeg",
                    user_properties=(("epoch", str(epoch)), ("seq", str(seq)), ("k", str(index))),
                )
                for index in range(self.crops)
            ),
        ]


def alarm(code: str, text: str = "") -> Message:
    return Message(f"root/site/line/station/alarm/{code}", text.encode(), qos=1, retain=True)


def everything(outbox: Outbox) -> list[Entry]:
    entries: list[Entry] = []
    while found := outbox.pending(entries[-1].row_id if entries else 0, 100):
        entries += found
    return entries


def verdict_seqs(outbox: Outbox) -> list[int]:
    return [entry.seq for entry in everything(outbox) if entry.kind is Kind.VERDICT]


def crop_files(directory: Path) -> set[str]:
    return {path.name for path in (directory / "crops").iterdir()} if (directory / "crops").is_dir() else set()


@contextmanager
def quick_directory() -> Iterator[Path]:
    """In memory where there is such a place: hundreds of flushes take no time there."""
    with TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as name:
        yield Path(name)


def write_for_ever(directory: Path, ledger: int, seed: int) -> None:
    """Append and settle, saying so on `ledger`: `+ seq crops` when it is done, `? row seq` before, `- seq` after."""
    choice = random.Random(seed)
    with Outbox.open(directory, ROOMY) as outbox:
        while True:
            crops = choice.choice((0, 0, 1, 2))
            seq = outbox.append(Maker(crops)).seq
            os.write(ledger, b"+ %d %d\n" % (seq, crops))
            if choice.random() < 0.4:
                found = outbox.pending(limit=choice.randint(1, 6))
                os.write(ledger, b"".join(b"? %d %s\n" % (entry.seq, entry.kind.encode()) for entry in found))
                outbox.settle([entry.row_id for entry in found])
                os.write(ledger, b"".join(b"- %d %s\n" % (entry.seq, entry.kind.encode()) for entry in found))


class Ledger:
    """What the writers said, over all kills."""

    def __init__(self) -> None:
        self.appended: dict[int, int] = {}  # seq → crops
        self.intended: dict[str, set[int]] = {"verdict": set(), "crop": set()}
        self.settled: dict[str, set[int]] = {"verdict": set(), "crop": set()}

    def read(self, text: bytes) -> None:
        for line in text.decode().splitlines():
            word, seq, rest = line.split()
            if word == "+":
                self.appended[int(seq)] = int(rest)
            else:
                (self.intended if word == "?" else self.settled)[rest].add(int(seq))

    def verify(self, outbox: Outbox, directory: Path) -> None:
        entries = everything(outbox)
        verdicts = [entry.seq for entry in entries if entry.kind is Kind.VERDICT]
        known = self.appended.keys()
        assert verdicts == sorted(set(verdicts)), "out of order, or twice"
        assert known - self.intended["verdict"] <= set(verdicts), "a committed verdict is lost"
        assert not set(verdicts) & self.settled["verdict"], "a settled verdict is back"
        unknown = set(verdicts) - known
        assert len(unknown) <= 1, "more than the one that was being written"
        for seq in unknown:  # committed, but killed before it could say so
            assert seq == max(known, default=0) + 1
            self.appended[seq] = sum(entry.kind is Kind.CROP and entry.seq == seq for entry in entries)
        self._verify_crops([entry for entry in entries if entry.kind is Kind.CROP], outbox.epoch)
        assert len(crop_files(directory)) == outbox.statistics().crops, "orphans"
        assert outbox.statistics().dead_letters == 0, "a crop's file was lost"

    def _verify_crops(self, crops: Sequence[Entry], epoch: int) -> None:
        for crop in crops:
            index = int(crop.message.topic.rpartition("/")[2])
            assert crop.message.payload == crop_bytes(epoch, crop.seq, index, 3000), "a crop is not whole"
        for seq, number in self.appended.items():
            if seq not in self.intended["crop"]:
                assert sum(crop.seq == seq for crop in crops) == number, "a committed crop is lost"


def kill_often(directory: Path, kills: int, seed: int) -> None:
    """Raises AssertionError if anything committed is not there after a kill."""
    moments = random.Random(seed)
    ledger = Ledger()
    for kill in range(kills):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                write_for_ever(directory, writer, seed + kill)
            finally:
                os._exit(1)  # only the parent goes on from here
        os.close(writer)
        first = os.read(reader, 1)  # it has begun to write
        time.sleep(moments.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1]), "the writer failed before it was killed"
        text = first
        while chunk := os.read(reader, 65536):
            text += chunk
        os.close(reader)
        ledger.read(text)
        with Outbox.open(directory, ROOMY) as outbox:
            assert not outbox.opened.reason, outbox.opened.reason
            ledger.verify(outbox, directory)
    print(kills, len(ledger.appended), len(ledger.settled["verdict"]))


if __name__ == "__main__":
    kill_often(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
