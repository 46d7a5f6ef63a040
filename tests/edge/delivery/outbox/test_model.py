"""The outbox against a model that fits on a page: lists in memory, and the rules of eviction as one reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge.delivery.outbox.outbox import Outbox
from edge.delivery.outbox.records import Kind, OutboxLimits
from edge.delivery.outbox.rows import message_bytes
from edge.records import Message
from tests.outboxes import Maker, alarm, crop_files, everything, quick_directory

REASON = 0x87


@dataclass(eq=False)
class Kept:
    kind: Kind
    seq: int
    message: Message


@dataclass(eq=False)
class Model:
    max_rows: int
    max_bytes: int
    seq: int = 0
    waiting: list[Kept] = field(default_factory=list)
    dead: list[Kept] = field(default_factory=list)  # in order of arrival
    arrivals: list[Kept] = field(default_factory=list)
    lost: set[int] = field(default_factory=set)
    evicted: dict[str, int] = field(default_factory=lambda: {"crops": 0, "dead": 0, "verdicts": 0})

    def add(self, seq: int, messages: Sequence[tuple[Kind, Message]]) -> None:
        rows = [Kept(kind, seq, message) for kind, message in messages]
        self.waiting += rows
        self.arrivals += rows
        self.make_room()

    def make_room(self) -> None:
        while self.too_much and (victim := self.next_victim()) is not None:
            self.remove(victim)

    @property
    def bytes(self) -> int:
        return sum(message_bytes(row.message) for row in [*self.waiting, *self.dead])

    @property
    def too_much(self) -> bool:
        return len(self.waiting) + len(self.dead) > self.max_rows or self.bytes > self.max_bytes

    def next_victim(self) -> Kept | None:
        crops = [row for row in self.waiting if row.kind is Kind.CROP]
        verdicts = [row for row in self.waiting if row.kind is Kind.VERDICT]
        return next(iter([*crops, *self.dead, *verdicts[:-1]]), None)

    def remove(self, victim: Kept) -> None:
        dead = victim in self.dead
        (self.dead if dead else self.waiting).remove(victim)
        self.evicted["dead" if dead else f"{victim.kind}s"] += 1
        if victim.kind is Kind.VERDICT:
            self.lost.add(victim.seq)

    def bury(self, row: Kept) -> None:
        self.waiting.remove(row)
        self.dead = sorted([*self.dead, row], key=self.arrivals.index)
        if row.kind is Kind.VERDICT:
            self.lost.add(row.seq)
        self.make_room()

    def resend(self, row: Kept) -> None:
        self.dead.remove(row)
        self.arrivals.remove(row)
        self.arrivals.append(row)
        self.waiting.append(row)
        self.make_room()


Append = st.tuples(st.just("append"), st.integers(0, 3), st.integers(60, 900))
Other = st.tuples(st.sampled_from(["alarm", "event"]), st.integers(0, 2), st.just(0))
Position = st.integers(0, 12)
Change = st.tuples(
    st.sampled_from(["settle", "bury", "resend", "drop", "reopen", "publish tombstones"]), Position, Position
)
Steps = st.lists(st.one_of(Append, Append, Other, Change), max_size=25)


# A dead letter weighs as much as the message that it was: `bury` left the outbox above its limits.
BURIED_ABOVE_THE_LIMITS = [("append", 0, 60), ("alarm", 0, 0), ("bury", 0, 0), ("reopen", 0, 0)]


@settings(max_examples=60)
@given(Steps, st.integers(1, 12), st.integers(300, 8000))
@example(BURIED_ABOVE_THE_LIMITS, 1, 8000)
def test_any_sequence_of_calls_does_what_the_model_does(
    steps: list[tuple[str, int, int]], max_rows: int, max_bytes: int
) -> None:
    limits = OutboxLimits(max_rows=max_rows, max_bytes=max_bytes, min_free_bytes=0, ballast_bytes=0)
    model = Model(max_rows, max_bytes)
    with quick_directory() as directory:
        outbox = Outbox.open(directory, limits)
        try:
            for step in steps:
                if step[0] == "reopen":
                    outbox.close()
                    outbox = Outbox.open(directory, limits)
                else:
                    take(step, outbox, model)
                compare(outbox, model, directory)
        finally:
            outbox.close()


def take(step: tuple[str, int, int], outbox: Outbox, model: Model) -> None:
    name, first, second = step
    entries = everything(outbox)
    match name:
        case "append":
            model.seq += 1
            messages = outbox.append(Maker(first, crop_size=second, verdict_size=second)).messages
            model.add(model.seq, [(Kind.CROP if index else Kind.VERDICT, each) for index, each in enumerate(messages)])
        case "alarm":
            message = alarm(str(first), "text")
            model.waiting = [row for row in model.waiting if row.message.topic != message.topic]
            outbox.append_message(message)
            model.add(0, [(Kind.OTHER, message)])
        case "event":
            message = Message("event", b"event", qos=1)
            outbox.append_message(message)
            model.add(0, [(Kind.OTHER, message)])
        case "settle":
            assert outbox.settle([entry.row_id for entry in entries[first : first + second]]) == len(
                model.waiting[first : first + second]
            )
            del model.waiting[first : first + second]
        case "bury":
            for entry, row in list(zip(entries, model.waiting, strict=True))[first : first + 1]:
                assert outbox.bury(entry.row_id, REASON)
                model.bury(row)
        case "publish tombstones":
            found = outbox.tombstones(limit=1)
            outbox.settle_tombstones([tombstone.tombstone_id for tombstone in found])
            model.lost -= {seq for each in found for seq in range(each.first_seq, each.last_seq + 1)}
        case _:
            take_dead(step, outbox, model)


def take_dead(step: tuple[str, int, int], outbox: Outbox, model: Model) -> None:
    name, first, second = step
    chosen = outbox.dead_letters()[first : first + (1 if name == "resend" else second)]
    rows = [found.entry.row_id for found in chosen]
    if name == "resend":
        assert outbox.resend(rows) == tuple(rows)
        for row in model.dead[first : first + 1]:
            model.resend(row)
    else:
        assert outbox.drop(rows) == len(rows)
        del model.dead[first : first + second]


def compare(outbox: Outbox, model: Model, directory: Path) -> None:
    entries, dead = everything(outbox), outbox.dead_letters()
    assert [shown(entry.kind, entry.seq, entry.message) for entry in entries] == [
        shown(row.kind, row.seq, row.message) for row in model.waiting
    ]
    assert [shown(found.entry.kind, found.entry.seq, found.entry.message) for found in dead] == [
        shown(row.kind, row.seq, row.message) for row in model.dead
    ]
    found = outbox.statistics()
    assert found.bytes == model.bytes
    assert found.pending == len(model.waiting) + found.tombstones
    assert found.dead_letters == len(model.dead)
    assert (found.evicted_crops, found.evicted_dead_letters, found.evicted_verdicts) == tuple(model.evicted.values())
    files = sum(row.kind is Kind.CROP for row in [*model.waiting, *model.dead])
    assert len(crop_files(directory)) == files
    # Read beside the outbox: asking it would mark the ranges as being published.
    rows = outbox.store.database._connection.execute("SELECT first_seq, last_seq FROM tombstones").fetchall()
    assert {seq for first, last in rows for seq in range(first, last + 1)} == model.lost


def shown(kind: Kind, seq: int, message: Message) -> tuple[object, ...]:
    return kind, seq, message.topic, message.payload, message.retain, message.content_type, message.user_properties
