"""The producer's books against the broker's: what was lost, repeated, out of order, and what was explained.

What the service printed (one line for each verdict, after its commit) and what its outbox holds after a kill is
committed. Numbers are given without gaps, so whatever lies below a number that anybody has seen was committed too.
"""

from __future__ import annotations

import bisect
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from benchmarks.rig.broker import Entry, Log


class Key(NamedTuple):
    """A subscriber's key of a verdict."""

    station: str
    epoch: int
    seq: int


@dataclass(frozen=True, slots=True)
class Findings:
    """What the two books say together."""

    committed: int
    received: int  # different verdicts
    lost: tuple[Key, ...]  # committed, and neither received nor explained
    repeats: tuple[float, ...]  # monotonic times of arrivals after the first one of their key
    inverted: tuple[Key, ...]  # first arrivals after one with a higher number
    explained: int  # tombstoned, and not received
    crops_lost: tuple[Key, ...]  # received verdicts that name a crop which never came
    epochs: tuple[int, ...] = field(default=())

    def repeats_after(self, events: Sequence[float]) -> tuple[int, ...]:
        """Repeats between each event (monotonic times, rising) and the next."""
        counts = Counter(bisect.bisect_right(events, repeat) for repeat in self.repeats)
        return tuple(counts[position] for position in range(1, len(events) + 1))


def key_of(verdict: Mapping[str, Any]) -> Key:
    """The key in a verdict's payload."""
    return Key(verdict["station"], verdict["epoch"], verdict["seq"])


def audit(committed: Iterable[Key], log: Log) -> Findings:
    """Compare what was `committed` with what the broker accepted."""
    arrivals = [(entry, verdict) for entry in log.accepted("/verdict") if (verdict := _parse(entry)) is not None]
    first: dict[Key, Mapping[str, Any]] = {}
    repeats: list[float] = []
    inverted: list[Key] = []
    newest: dict[tuple[str, int], int] = {}
    for entry, verdict in arrivals:
        key = key_of(verdict)
        if key in first:
            repeats.append(entry.at_s)
            continue
        first[key] = verdict
        if key.seq < newest.get(key[:2], 0):
            inverted.append(key)
        newest[key[:2]] = max(key.seq, newest.get(key[:2], 0))
    owed = _without_gaps({*committed, *first})
    explained = _tombstoned(log)
    return Findings(
        committed=len(owed),
        received=len(first),
        lost=tuple(sorted(owed - first.keys() - explained)),
        repeats=tuple(repeats),
        inverted=tuple(inverted),
        explained=len(explained & owed - first.keys()),
        crops_lost=_missing_crops(first, log),
        epochs=tuple(sorted({key.epoch for key in owed})),
    )


def _without_gaps(keys: set[Key]) -> set[Key]:
    highest: dict[tuple[str, int], int] = {}
    for station, epoch, seq in keys:
        highest[station, epoch] = max(seq, highest.get((station, epoch), 0))
    return {Key(station, epoch, seq) for (station, epoch), last in highest.items() for seq in range(1, last + 1)}


def _tombstoned(log: Log) -> set[Key]:
    tombstones = [json.loads(entry.text or "") for entry in log.accepted("/tombstone")]
    return {
        Key(stone["station"], stone["epoch"], seq)
        for stone in tombstones
        for seq in range(stone["first"], stone["last"] + 1)
    }


def _missing_crops(first: Mapping[Key, Mapping[str, Any]], log: Log) -> tuple[Key, ...]:
    arrived = {entry.sha256 for entry in log.accepted("/crop/0")}
    return tuple(
        key for key, verdict in first.items() if verdict["crop_sha256"] and verdict["crop_sha256"] not in arrived
    )


def _parse(entry: Entry) -> Mapping[str, Any] | None:
    """A verdict; None for what a test sent by another hand."""
    verdict: Mapping[str, Any] = json.loads(entry.text or "{}")
    return verdict if "seq" in verdict else None
