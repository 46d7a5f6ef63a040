"""The range set against a plain set of integers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.audit.ranges import Range, RangeSet, size, subtract

ranges = st.tuples(st.integers(0, 60), st.integers(0, 8)).map(lambda pair: (pair[0], pair[0] + pair[1]))
many_ranges = st.lists(ranges, max_size=30)


def numbers(of: list[Range]) -> set[int]:
    return {number for first, last in of for number in range(first, last + 1)}


def normal(of: set[int]) -> list[Range]:
    """The oracle: sorted ranges that neither overlap nor touch."""
    found: list[Range] = []
    for number in sorted(of):
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


@given(many_ranges)
def test_it_holds_what_a_plain_set_holds(added: list[Range]) -> None:
    held = RangeSet()
    for first, last in added:
        held.add(first, last)
    expected = numbers(added)
    assert list(held) == normal(expected)
    assert len(held) == len(normal(expected))
    assert size(held) == len(expected)
    assert held.last == max(expected, default=None)
    assert {number for number in range(-2, 75) if number in held} == expected


@given(many_ranges, many_ranges)
def test_what_changed_is_enough_to_follow_on_disk(before: list[Range], after: list[Range]) -> None:
    held = RangeSet(before)
    rows = dict(held)
    assert held.take_changes() == {}
    for first, last in after:
        held.add(first, last)
    for change, end in held.take_changes().items():
        if end is None:
            rows.pop(change, None)
        else:
            rows[change] = end
    assert sorted(rows.items()) == list(held)


@given(many_ranges, many_ranges)
def test_subtracting_is_that_of_plain_sets(some: list[Range], others: list[Range]) -> None:
    assert list(subtract(RangeSet(some), RangeSet(others))) == [
        piece for first, last in RangeSet(some) for piece in normal(numbers([(first, last)]) - numbers(others))
    ]


def test_closing_the_lowest_gap_names_it() -> None:
    held = RangeSet([(1, 3), (7, 9), (20, 20)])
    assert held.close_lowest_gap() == (4, 6)
    assert list(held) == [(1, 9), (20, 20)]
