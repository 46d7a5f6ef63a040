"""What the recording broker writes: one JSON line for each event, and how it is read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

FAILURE = 0x80  # reason codes of MQTT 5 from here on are refusals


class EntryKind(StrEnum):
    """What a line of the log is about."""

    CONNECT = "connect"
    PUBLISH = "publish"
    WILL = "will"
    END = "end"  # of a connection
    START = "start"  # of the broker


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log."""

    kind: EntryKind
    at_s: float  # monotonic clock of the machine, the same in every process
    connection: int = 0  # counted from 1 over all starts of the broker
    topic: str = ""
    text: str | None = None  # the payload; None if it is not UTF-8
    size: int = 0  # of the payload, bytes
    sha256: str = ""  # of the payload
    qos: int = 0
    retain: bool = False
    duplicate: bool = False  # the DUP flag
    packet_id: int = 0
    code: int = 0  # the answer's reason code
    unanswered: int = 0  # QoS 1 messages of this connection without an answer, this one included


@dataclass(frozen=True, slots=True)
class Log:
    """What a broker wrote, in order of arrival."""

    entries: tuple[Entry, ...]

    @classmethod
    def read(cls, path: Path) -> Log:
        """All whole lines: a last one that was cut off by a kill was never acknowledged."""
        return cls(tuple(parse_lines(path.read_bytes() if path.exists() else b"")))

    def accepted(self, suffix: str) -> tuple[Entry, ...]:
        """Messages on topics ending in `suffix` that were not refused."""
        return tuple(entry for entry in self.arrived(suffix) if entry.code < FAILURE)

    def arrived(self, suffix: str) -> tuple[Entry, ...]:
        """Messages on topics ending in `suffix`, the refused ones too."""
        return tuple(
            entry for entry in self.entries if entry.kind is EntryKind.PUBLISH and entry.topic.endswith(suffix)
        )

    def retained(self, suffix: str) -> list[str]:
        """What a topic ending in `suffix` held, one after the other, wills included."""
        kinds = {EntryKind.PUBLISH, EntryKind.WILL}
        return [
            entry.text or ""
            for entry in self.entries
            if entry.kind in kinds and entry.retain and entry.code < FAILURE and entry.topic.endswith(suffix)
        ]

    def count(self, kind: EntryKind) -> int:
        """How many lines are of this kind."""
        return sum(entry.kind is kind for entry in self.entries)


def parse_lines(data: bytes) -> Iterator[Entry]:
    """The whole lines in `data`."""
    for line in data.split(b"\n")[:-1]:
        record = json.loads(line)
        yield Entry(**{**record, "kind": EntryKind(record["kind"])})
