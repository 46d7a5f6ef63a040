"""What a subscriber knows about one station's numbering: which verdicts came, which were given up, which are missing.

Pure, and bounded: memory grows with the number of gaps, not with the number of verdicts.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge.audit.latency import Histogram
from edge.audit.messages import HeardCrop, HeardVerdict, Tombstone
from edge.audit.ranges import Range, RangeSet, size, subtract

FIRST_SEQ = 1  # where a station's numbering begins in each epoch
MAX_RANGES = 20_000  # of one epoch; beyond, the oldest gap is counted as missing for good
MAX_AWAITED_CROPS = 1000  # of one epoch; beyond, the oldest is counted as missing for good
MAX_JOINED = 1000  # tombstones of one epoch that give up only some of their range
LATENCIES = ("live", "backlog", "queued")
RANGE_SETS = ("received", "evicted", "unheard")


@dataclass(frozen=True, slots=True)
class Arrival:
    """How a verdict came."""

    received_at_s: float  # wall clock of this machine
    redelivered: bool = False  # by the broker, because our acknowledgement had not reached it
    queued: bool = False  # captured while the audit was away, and kept for it by the broker
    same_content: bool = True  # as the verdict that came before under this key, as far as remembered


class EpochLedger:
    """One epoch of one station.

    `received`, `evicted` and `unheard` hold sequence numbers; evicted ones may have been received all the same,
    and unheard ones may still come.
    """

    def __init__(self, base: str, epoch: int, expected_from: int | None = None) -> None:
        """Start with nothing.

        Args:
            base: the station's topic base.
            epoch: the station's epoch.
            expected_from: every verdict from here on must come; None: from the first live one on, because what
                the station sent before it was heard for the first time, nobody can know.
        """
        self.base = base
        self.epoch = epoch
        self.expected_from = expected_from
        self.received = RangeSet()
        self.evicted = RangeSet()  # the station says that it gave them up
        self.unheard = RangeSet()  # they may have come while the audit had no session at the broker
        self.counts: Counter[str] = Counter()
        self.latency = {name: Histogram() for name in LATENCIES}
        self.was_away = False  # the audit had no session, and no live verdict has come since
        self._highest_backlog = -1
        self._joined: dict[Range, int] = {}  # tombstones' ranges of which so many were given up, unknown which
        self._awaited_crops: OrderedDict[int, str] = OrderedDict()  # seq → sha256 that the verdict announced
        self._early_crops: OrderedDict[int, str] = OrderedDict()  # seq → sha256 that came before its verdict

    @property
    def first(self) -> int | None:
        """The lowest number that is expected; None as long as nothing is."""
        return self.expected_from

    @property
    def last(self) -> int | None:
        """The highest number heard of; None as long as none was."""
        heard_of = (self.received.last, self.evicted.last, *(last for _, last in self._joined))
        return max((last for last in heard_of if last is not None), default=None)

    def take_verdict(self, verdict: HeardVerdict, arrival: Arrival, *, crops: bool) -> bool:
        """Enter one verdict. False: it had come before.

        Args:
            verdict: of this station and epoch.
            arrival: how it came.
            crops: the audit listens to crops, so the announced one is expected.
        """
        if verdict.seq in self.received:
            self._count_repeat(arrival)
            return False
        self._count_order(verdict)
        if not verdict.backlog:
            self._settle_expectation(verdict.seq)
        self.received.add(verdict.seq)
        self._bound()
        self.counts["received"] += 1
        self.counts[verdict.outcome.value.lower()] += 1
        if verdict.reason:
            self.counts[f"no_result_{verdict.reason}"] += 1
        name = "backlog" if verdict.backlog else "queued" if arrival.queued else "live"
        self.latency[name].add(1e3 * (arrival.received_at_s - verdict.captured_at_s))
        if crops and verdict.crop_sha256:
            self._expect_crop(verdict.seq, verdict.crop_sha256)
        return True

    def take_crop(self, crop: HeardCrop) -> None:
        """Enter one picture. Only the worst defect's is announced by its verdict, and so can be missed."""
        self.counts["crops"] += 1
        if not crop.intact:
            self.counts["crops_damaged"] += 1
        if crop.index != 0:
            return
        if crop.seq in self._awaited_crops:
            self._match_crop(self._awaited_crops.pop(crop.seq), crop.sha256)
        elif crop.seq in self.received:
            self.counts["crops_repeated"] += 1  # or its verdict announced none, or it came after all hope was lost
        else:
            self._early_crops[crop.seq] = crop.sha256
            if len(self._early_crops) > MAX_AWAITED_CROPS:
                self._early_crops.popitem(last=False)
                self.counts["crops_without_verdict"] += 1

    def take_tombstone(self, tombstone: Tombstone) -> None:
        """Enter verdicts that the station gave up."""
        self.counts["tombstones"] += 1
        first, last = tombstone.first, tombstone.last
        if len(self.evicted) >= MAX_RANGES or len(self._joined) >= MAX_JOINED:
            self.counts["tombstones_beyond_memory"] += 1  # what they explain stays missing
        elif tombstone.count == last - first + 1:
            self.evicted.add(first, last)
        else:
            self._joined[first, last] = tombstone.count

    def interrupt(self) -> None:
        """The audit had no session for a while: what is missing now may have come just then."""
        self.was_away = True
        if self.expected_from is not None and self.received.last is not None:
            self._excuse(self.expected_from, self.received.last)

    def gaps(self, until: int | None = None) -> list[Range]:
        """Expected and not received, explained or not: up to `until`, or the highest number heard of."""
        first, last = self.first, self.last
        if until is not None:
            last = until if last is None else max(last, until)
        if first is None or last is None or last < first:
            return []
        return list(subtract([(first, last)], self.received))

    def unexplained(self, until: int | None = None) -> list[Range]:
        """Of the gaps, what neither a tombstone nor an absence of the audit explains."""
        return list(subtract(subtract(self.gaps(until), self._given_up()), self.unheard))

    def missing(self, until: int | None = None) -> int:
        """How many verdicts are missing without explanation."""
        return size(self.unexplained(until)) + self.counts["missing_for_good"]

    def evicted_gaps(self, until: int | None = None) -> int:
        """How many did not come because the station gave them up."""
        gaps = self.gaps(until)
        return size(gaps) - size(subtract(gaps, self._given_up()))

    def unheard_gaps(self, until: int | None = None) -> int:
        """How many did not come and may have been sent while the audit had no session."""
        gaps = list(subtract(self.gaps(until), self._given_up()))
        return size(gaps) - size(subtract(gaps, self.unheard))

    def missing_crops(self) -> int:
        """Announced pictures that did not come."""
        return len(self._awaited_crops) + self.counts["crops_missing_for_good"]

    def stray_crops(self) -> int:
        """Pictures whose verdict did not come."""
        return len(self._early_crops) + self.counts["crops_without_verdict"]

    def state(self) -> dict[str, object]:
        """Everything but the ranges, which change singly; for `restore`."""
        return {
            "expected_from": self.expected_from,
            "counts": dict(self.counts),
            "latency": {name: histogram.state() for name, histogram in self.latency.items()},
            "was_away": self.was_away,
            "highest_backlog": self._highest_backlog,
            "joined": [[*ends, count] for ends, count in self._joined.items()],
            "awaited_crops": [list(item) for item in self._awaited_crops.items()],
            "early_crops": [list(item) for item in self._early_crops.items()],
        }

    def restore(self, state: Mapping[str, Any], ranges: Mapping[str, list[Range]]) -> None:
        """Become what gave `state`, with the ranges of each name in `RANGE_SETS`."""
        self.expected_from = state["expected_from"]
        self.counts.update(state["counts"])
        self.latency = {name: Histogram.restore(state["latency"][name]) for name in LATENCIES}
        self.was_away = state["was_away"]
        self._highest_backlog = state["highest_backlog"]
        self._joined = {(first, last): count for first, last, count in state["joined"]}
        self._awaited_crops.update((seq, sha256) for seq, sha256 in state["awaited_crops"])
        self._early_crops.update((seq, sha256) for seq, sha256 in state["early_crops"])
        self.received, self.evicted, self.unheard = (RangeSet(ranges.get(name, [])) for name in RANGE_SETS)

    def _given_up(self) -> RangeSet:
        """What tombstones explain: one that gives up some of its range does so if no more than that did not come."""
        if not self._joined:
            return self.evicted
        given_up = RangeSet(self.evicted)
        for (first, last), count in self._joined.items():
            expected = [(max(first, self.expected_from or first), last)]
            if size(subtract(subtract(expected, self.received), self.evicted)) <= count:
                given_up.add(first, last)
        return given_up

    def _count_repeat(self, arrival: Arrival) -> None:
        self.counts["redelivered" if arrival.redelivered else "duplicates"] += 1
        if not arrival.same_content:
            self.counts["conflicts"] += 1

    def _count_order(self, verdict: HeardVerdict) -> None:
        """First arrivals rise, apart from a backlog that newer verdicts overtook."""
        highest = self.received.last
        if verdict.backlog:
            if verdict.seq < self._highest_backlog:
                self.counts["inversions"] += 1
            elif highest is not None and verdict.seq < highest:
                self.counts["overtaken"] += 1
            self._highest_backlog = max(self._highest_backlog, verdict.seq)
        elif highest is not None and verdict.seq < highest:
            self.counts["inversions"] += 1

    def _settle_expectation(self, live_seq: int) -> None:
        """A live verdict is newer than all that was sent before it."""
        if self.expected_from is None:
            self.expected_from = live_seq
        if self.was_away:
            self.was_away = False
            self._excuse(self.expected_from, live_seq - 1)

    def _excuse(self, first: int, last: int) -> None:
        if first <= last:
            for gap in subtract([(first, last)], self.received):
                self.unheard.add(*gap)

    def _bound(self) -> None:
        if len(self.received) > MAX_RANGES:
            gap = self.received.close_lowest_gap()
            unexplained = subtract(subtract([gap], self._given_up()), self.unheard)
            self.counts["missing_for_good"] += size(unexplained)

    def _expect_crop(self, seq: int, sha256: str) -> None:
        if seq in self._early_crops:
            self._match_crop(sha256, self._early_crops.pop(seq))
            return
        self._awaited_crops[seq] = sha256
        if len(self._awaited_crops) > MAX_AWAITED_CROPS:
            self._awaited_crops.popitem(last=False)
            self.counts["crops_missing_for_good"] += 1

    def _match_crop(self, announced: str, came: str) -> None:
        self.counts["crops_matched" if announced == came else "crops_mismatched"] += 1
