"""One epoch's ledger: against plain sets, and what it says of order, repeats, latency and crops."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from edge.audit.epoch import MAX_AWAITED_CROPS, MAX_RANGES, Arrival, EpochLedger
from edge.audit.messages import HeardCrop, HeardVerdict, Tombstone
from edge.audit.ranges import Range
from edge.records import Outcome, Reason

BASE = "patchline/bremen/line-1/station_7"
LIVE = Arrival(received_at_s=101.0)


def verdict(seq: int, *, backlog: bool = False, crop: str = "", outcome: Outcome = Outcome.PASS) -> HeardVerdict:
    return HeardVerdict(
        base=BASE,
        epoch=5,
        seq=seq,
        captured_at_s=100.0,
        latency_ms=20.0,
        outcome=outcome,
        reason=Reason.OVERRUN if outcome is Outcome.NO_RESULT else Reason.NONE,
        backlog=backlog,
        crop_sha256=crop,
        digest=b"",
    )


def crop(seq: int, sha256: str, index: int = 0, *, intact: bool = True) -> HeardCrop:
    return HeardCrop(BASE, 5, seq, index, sha256, intact)


def tombstone(first: int, last: int, count: int | None = None) -> Tombstone:
    return Tombstone(BASE, 5, first, last, last - first + 1 if count is None else count, "evicted")


def filled(*seqs: int, expected_from: int | None = None) -> EpochLedger:
    epoch = EpochLedger(BASE, 5, expected_from)
    for seq in seqs:
        epoch.take_verdict(verdict(seq), LIVE, crops=True)
    return epoch


def stored(epoch: EpochLedger) -> EpochLedger:
    """Through what a ledger file keeps of it."""
    ranges: dict[str, list[Range]] = {
        "received": list(epoch.received),
        "evicted": list(epoch.evicted),
        "unheard": list(epoch.unheard),
    }
    again = EpochLedger(BASE, 5)
    again.restore(json.loads(json.dumps(epoch.state())), ranges)
    return again


@dataclass
class PlainSets:
    """The oracle: the same rules without ranges."""

    expected_from: int | None = None
    received: set[int] = field(default_factory=set)
    evicted: set[int] = field(default_factory=set)
    unheard: set[int] = field(default_factory=set)
    away: bool = False
    repeats: int = 0

    def arrive(self, seq: int, *, backlog: bool) -> None:
        if seq in self.received:
            self.repeats += 1
            return
        if not backlog:
            self.expected_from = seq if self.expected_from is None else self.expected_from
            if self.away:
                self.unheard |= set(range(self.expected_from, seq)) - self.received
            self.away = False
        self.received.add(seq)

    def interrupt(self) -> None:
        self.away = True
        if self.expected_from is not None and self.received:
            self.unheard |= set(range(self.expected_from, max(self.received))) - self.received

    @property
    def gaps(self) -> set[int]:
        known = self.received | self.evicted
        if self.expected_from is None or not known:
            return set()
        return set(range(self.expected_from, max(known) + 1)) - self.received


seqs = st.integers(0, 40)
events = st.lists(
    st.one_of(
        st.tuples(st.just("live"), seqs, st.just(0)),
        st.tuples(st.just("backlog"), seqs, st.just(0)),
        st.tuples(st.just("tombstone"), seqs, st.integers(0, 5)),
        st.tuples(st.just("interrupt"), st.just(0), st.just(0)),
        st.tuples(st.just("restart"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@given(events, st.one_of(st.none(), seqs))
def test_it_agrees_with_plain_sets_whatever_happens(
    what: list[tuple[str, int, int]], expected_from: int | None
) -> None:
    epoch, plain = EpochLedger(BASE, 5, expected_from), PlainSets(expected_from)
    for kind, number, length in what:
        match kind:
            case "live" | "backlog":
                epoch.take_verdict(verdict(number, backlog=kind == "backlog"), LIVE, crops=True)
                plain.arrive(number, backlog=kind == "backlog")
            case "tombstone":
                epoch.take_tombstone(tombstone(number, number + length))
                plain.evicted |= set(range(number, number + length + 1))
            case "interrupt":
                epoch.interrupt()
                plain.interrupt()
            case "restart":
                epoch = stored(epoch)
    gaps = plain.gaps
    assert epoch.counts["received"] == len(plain.received)
    assert epoch.counts["duplicates"] == plain.repeats
    assert epoch.first == plain.expected_from
    assert epoch.evicted_gaps() == len(gaps & plain.evicted)
    assert epoch.unheard_gaps() == len((gaps - plain.evicted) & plain.unheard)
    assert epoch.missing() == len(gaps - plain.evicted - plain.unheard)
    named = {seq for first, last in epoch.unexplained() for seq in range(first, last + 1)}
    assert named == gaps - plain.evicted - plain.unheard


def test_a_gap_is_missing_until_it_is_filled() -> None:
    epoch = filled(1, 2, 5)
    assert epoch.missing() == 2
    assert epoch.unexplained() == [(3, 4)]
    for seq in (4, 3):
        epoch.take_verdict(verdict(seq, backlog=True), LIVE, crops=True)
    assert epoch.missing() == 0


def test_what_was_sent_before_the_audit_began_is_not_expected() -> None:
    epoch = EpochLedger(BASE, 5)
    epoch.take_verdict(verdict(60, backlog=True), LIVE, crops=True)
    assert (epoch.first, epoch.missing()) == (None, 0)
    epoch.take_verdict(verdict(500), LIVE, crops=True)
    assert (epoch.first, epoch.missing()) == (500, 0)
    assert filled(500, expected_from=1).missing() == 499


def test_what_must_come_by_the_end_is_missing_until_then() -> None:
    epoch = filled(1, 2, 3)
    assert epoch.missing(until=5) == 2
    assert epoch.missing(until=2) == 0
    assert epoch.unexplained(until=5) == [(4, 5)]


def test_a_tombstone_explains_only_its_range() -> None:
    epoch = filled(1, 10)
    epoch.take_tombstone(tombstone(2, 4))
    assert (epoch.evicted_gaps(), epoch.missing(), epoch.unexplained()) == (3, 5, [(5, 9)])


def test_a_tombstone_at_the_end_extends_what_is_expected() -> None:
    epoch = filled(1, 2)
    epoch.take_tombstone(tombstone(5, 6))
    assert (epoch.last, epoch.evicted_gaps(), epoch.missing()) == (6, 2, 2)


def test_a_joined_tombstone_explains_no_more_than_its_count() -> None:
    epoch = filled(1, 5, 10)
    epoch.take_tombstone(tombstone(2, 9, count=7))
    assert (epoch.evicted_gaps(), epoch.missing()) == (7, 0)
    short = filled(1, 5, 10)
    short.take_tombstone(tombstone(2, 9, count=6))
    assert (short.evicted_gaps(), short.missing()) == (0, 7)
    assert (stored(epoch).missing(), stored(short).missing()) == (0, 7)


def test_an_inversion_is_a_first_arrival_below_one_of_its_own_kind() -> None:
    epoch = filled(1, 3, 2)
    assert epoch.counts["inversions"] == 1
    epoch.take_verdict(verdict(2), LIVE, crops=True)
    assert epoch.counts["inversions"] == 1


def test_a_backlog_overtaken_by_live_verdicts_is_no_inversion_but_its_own_disorder_is() -> None:
    epoch = filled(1, 10, 11)
    for seq in (2, 3, 5, 4):
        epoch.take_verdict(verdict(seq, backlog=True), LIVE, crops=True)
    assert (epoch.counts["overtaken"], epoch.counts["inversions"]) == (3, 1)


def test_repeats_tell_the_station_from_the_broker_and_other_content_from_the_same() -> None:
    epoch = filled(1)
    again = verdict(1)
    assert not epoch.take_verdict(again, LIVE, crops=True)
    epoch.take_verdict(again, Arrival(101.0, redelivered=True), crops=True)
    epoch.take_verdict(again, Arrival(101.0, same_content=False), crops=True)
    assert (epoch.counts["duplicates"], epoch.counts["redelivered"], epoch.counts["conflicts"]) == (2, 1, 1)
    assert epoch.counts["received"] == 1


def test_latency_is_kept_apart_for_live_backlog_and_what_waited_for_the_audit() -> None:
    epoch = EpochLedger(BASE, 5)
    epoch.take_verdict(verdict(1), Arrival(100.05), crops=True)
    epoch.take_verdict(verdict(2, backlog=True), Arrival(160.0), crops=True)
    epoch.take_verdict(verdict(3), Arrival(900.0, queued=True), crops=True)
    assert [epoch.latency[name].as_json()["max"] for name in ("live", "backlog", "queued")] == [50.0, 60e3, 800e3]


def test_outcomes_are_counted_by_reason_on_first_arrival() -> None:
    epoch = EpochLedger(BASE, 5)
    for outcome in (Outcome.PASS, Outcome.FAIL, Outcome.NO_RESULT, Outcome.NO_RESULT):
        epoch.take_verdict(verdict(epoch.counts["received"], outcome=outcome), LIVE, crops=True)
    epoch.take_verdict(verdict(0), LIVE, crops=True)
    counts = epoch.counts
    assert (counts["pass"], counts["fail"], counts["no_result"], counts["no_result_overrun"]) == (1, 1, 2, 2)


def test_a_crop_is_matched_before_or_after_its_verdict() -> None:
    epoch = EpochLedger(BASE, 5)
    epoch.take_verdict(verdict(1, crop="aa"), LIVE, crops=True)
    epoch.take_crop(crop(1, "aa"))
    epoch.take_crop(crop(2, "bb"))
    assert epoch.stray_crops() == 1
    epoch.take_verdict(verdict(2, crop="bb"), LIVE, crops=True)
    assert (epoch.counts["crops_matched"], epoch.missing_crops(), epoch.stray_crops()) == (2, 0, 0)


def test_crops_that_miss_differ_repeat_or_are_damaged_are_counted_apart() -> None:
    epoch = EpochLedger(BASE, 5)
    for seq in (1, 2, 3):
        epoch.take_verdict(verdict(seq, crop="aa"), LIVE, crops=True)
    epoch.take_crop(crop(1, "other"))
    epoch.take_crop(crop(2, "aa"))
    epoch.take_crop(crop(2, "aa"))
    epoch.take_crop(crop(2, "cc", index=1, intact=False))
    assert epoch.missing_crops() == stored(epoch).missing_crops() == 1
    counts = epoch.counts
    assert [counts[f"crops_{name}"] for name in ("mismatched", "matched", "repeated", "damaged")] == [1, 1, 1, 1]


def test_without_listening_to_crops_none_is_missed() -> None:
    epoch = EpochLedger(BASE, 5)
    epoch.take_verdict(verdict(1, crop="aa"), LIVE, crops=False)
    assert epoch.missing_crops() == 0


def test_awaited_crops_are_bounded_and_forgotten_ones_stay_missing() -> None:
    epoch = EpochLedger(BASE, 5)
    for seq in range(MAX_AWAITED_CROPS + 5):
        epoch.take_verdict(verdict(seq, crop="aa"), LIVE, crops=True)
        epoch.take_crop(crop(seq + 10**6, "bb"))
    assert epoch.missing_crops() == epoch.stray_crops() == MAX_AWAITED_CROPS + 5
    state = epoch.state()
    assert isinstance(state["awaited_crops"], list)
    assert len(state["awaited_crops"]) == MAX_AWAITED_CROPS


def test_gaps_without_end_are_bounded_and_the_oldest_stay_missing() -> None:
    epoch = EpochLedger(BASE, 5)
    epoch.take_tombstone(tombstone(1, 1))
    for seq in range(0, 2 * MAX_RANGES + 20, 2):
        epoch.take_verdict(verdict(seq), LIVE, crops=True)
    assert len(epoch.received) == MAX_RANGES
    assert epoch.missing() == MAX_RANGES + 8
    epoch.take_verdict(verdict(3, backlog=True), LIVE, crops=True)  # too late: it counts as repeated
    assert epoch.missing() == MAX_RANGES + 8
