"""Sets of sequence numbers as ranges: months of verdicts take as much memory as there are gaps between them. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

Range = tuple[int, int]  # first and last, both inside


class RangeSet:
    """Integers as sorted ranges that neither overlap nor touch; remembers what changed, so that it can be stored."""

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        """Hold `ranges`, in any order; they do not count as changes."""
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        self._changes: dict[int, int | None] = {}
        for first, last in ranges:
            self.add(first, last)
        self._changes.clear()

    def __contains__(self, number: int) -> bool:
        """Whether `number` lies in one of the ranges."""
        position = bisect_right(self._firsts, number) - 1
        return position >= 0 and number <= self._lasts[position]

    def __iter__(self) -> Iterator[Range]:
        """The ranges, lowest first."""
        return zip(self._firsts, self._lasts, strict=True)

    def __len__(self) -> int:
        """How many ranges there are."""
        return len(self._firsts)

    @property
    def last(self) -> int | None:
        """The highest number; None when empty."""
        return self._lasts[-1] if self._lasts else None

    def add(self, first: int, last: int | None = None) -> None:
        """Put in everything from `first` to `last`, or `first` alone."""
        last = first if last is None else last
        begin = bisect_right(self._firsts, first) - 1
        if begin < 0 or self._lasts[begin] < first - 1:
            begin += 1  # the range before does not touch
        end = bisect_right(self._firsts, last + 1)
        if begin < end:
            first = min(first, self._firsts[begin])
            last = max(last, self._lasts[end - 1])
        for gone in self._firsts[begin:end]:
            self._changes[gone] = None
        self._firsts[begin:end] = [first]
        self._lasts[begin:end] = [last]
        self._changes[first] = last

    def close_lowest_gap(self) -> Range:
        """Put in what lies between the two lowest ranges, and say what that was. There must be two."""
        gap = (self._lasts[0] + 1, self._firsts[1] - 1)
        self.add(*gap)
        return gap

    def take_changes(self) -> dict[int, int | None]:
        """What became of ranges since the last call: first number → last number, or None where it is gone."""
        changes, self._changes = self._changes, {}
        return changes


def size(ranges: Iterable[Range]) -> int:
    """How many numbers lie in `ranges`, which do not overlap."""
    return sum(last - first + 1 for first, last in ranges)


def subtract(ranges: Iterable[Range], others: Iterable[Range]) -> Iterator[Range]:
    """What of `ranges` does not lie in `others`; both sorted and without overlap, and so is the result."""
    remaining = iter(others)
    other = next(remaining, None)
    for first, last in ranges:
        begin = first
        while other is not None and other[0] <= last:
            if other[0] > begin:
                yield begin, other[0] - 1
            begin = max(begin, other[1] + 1)
            if other[1] > last:
                break  # it may also cover the beginning of the next range
            other = next(remaining, None)
        if begin <= last:
            yield begin, last
