from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.health.alarms import AlarmChange, AlarmCode, Alarms, Conditions
from edge.records import Severity
from edge.settings.sections import AlarmSettings

SETTINGS = AlarmSettings(broker_away_s=10, backlog_messages=100, clock_s=60, quiet_s=30)
WELL = Conditions(
    source_away=False,
    clock_synchronised=True,
    connected=True,
    waiting=0,
    evicted=0,
    refused=0,
    disk_low=False,
    outbox_refuses=False,
    outbox_damage="",
    recipe_left="",
    publisher_trouble="",
)
WALL_S = 1_700_000_000.0


class Watched:
    """Alarms that are looked at once a second, by a clock of the test's own."""

    def __init__(self, first: Conditions = WELL) -> None:
        self.alarms = Alarms(SETTINGS)
        self.now_s = 0.0
        self.first = self.look(first)

    def look(self, conditions: Conditions) -> list[AlarmChange]:
        changes = self.alarms.look(conditions, self.now_s, WALL_S + self.now_s)
        self.now_s += 1.0
        return changes

    def watch(self, conditions: Conditions, seconds: int) -> list[AlarmChange]:
        return [change for _ in range(seconds) for change in self.look(conditions)]


def but(**changes: object) -> Conditions:
    return replace(WELL, **changes)  # type: ignore[arg-type]  # keys and types are those of Conditions


def test_the_first_look_says_that_every_alarm_is_over_so_that_retained_ones_are_corrected() -> None:
    watched = Watched()

    assert {change.code for change in watched.first} == set(AlarmCode)
    assert not any(change.active or change.is_news for change in watched.first)
    assert watched.watch(WELL, 100) == []


def test_what_is_wrong_at_the_first_look_is_raised_once() -> None:
    watched = Watched(but(source_away=True))

    (raised,) = [change for change in watched.first if change.active]
    assert raised.code is AlarmCode.SOURCE_AWAY
    assert raised.is_news
    assert watched.watch(but(source_away=True), 100) == []


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        (AlarmCode.BROKER_AWAY, but(connected=False)),
        (AlarmCode.BACKLOG_GROWING, but(waiting=100)),
        (AlarmCode.DISK_LOW, but(disk_low=True)),
        (AlarmCode.MEMORY_ONLY, but(outbox_refuses=True)),
        (AlarmCode.OUTBOX_CORRUPT, but(outbox_damage="malformed; the old one is outbox.corrupt-1.db")),
        (AlarmCode.CLOCK_UNSYNCHRONISED, but(clock_synchronised=False)),
        (AlarmCode.SOURCE_AWAY, but(source_away=True)),
        (AlarmCode.RECIPE_LEFT, but(recipe_left="disc")),
        (AlarmCode.PUBLISHER_AWAY, but(publisher_trouble="jsonl: its reader stands still")),
    ],
)
def test_a_lasting_condition_is_raised_once_and_over_once(code: AlarmCode, wrong: Conditions) -> None:
    watched = Watched()

    raised = watched.watch(wrong, 100)
    active = watched.alarms.active
    over = watched.watch(WELL, 100)

    assert [(change.code, change.active) for change in (*raised, *over)] == [(code, True), (code, False)]
    assert active == (code,)
    assert watched.alarms.active == ()


@pytest.mark.parametrize("name", ["evicted", "refused"])
def test_events_are_one_alarm_until_it_was_quiet_for_long(name: str) -> None:
    watched = Watched(but(**{name: 7}))
    code = {"evicted": AlarmCode.EVICTING, "refused": AlarmCode.DEAD_LETTERS}[name]
    assert watched.watch(but(**{name: 7}), 50) == []

    changes = [change for count in range(8, 20) for change in watched.watch(but(**{name: count}), 20)]

    (raised,) = changes
    assert (raised.code, raised.active) == (code, True)
    assert "8 in all" in raised.text
    (over,) = watched.watch(but(**{name: 19}), 31)
    assert (over.code, over.active) == (code, False)


def test_a_broker_that_comes_back_soon_raises_nothing() -> None:
    watched = Watched()

    for _ in range(20):
        assert watched.watch(but(connected=False), 9) == []
        assert watched.look(WELL) == []


def test_a_broker_that_was_away_is_over_with_its_duration() -> None:
    watched = Watched()
    began_s = watched.now_s

    (raised,) = watched.watch(but(connected=False), 125)
    (over,) = watched.watch(WELL, 1)

    assert raised.since_s == over.since_s == WALL_S + began_s
    assert raised.severity is Severity.CRITICAL
    assert "lasted 125 s" in over.text


def test_a_backlog_around_its_limit_does_not_flutter() -> None:
    watched = Watched()

    assert len(watched.watch(but(waiting=100), 1)) == 1
    assert [change for waiting in (99, 100, 51, 120, 60) for change in watched.watch(but(waiting=waiting), 5)] == []
    (over,) = watched.watch(but(waiting=50), 1)
    assert not over.active
    assert watched.watch(but(waiting=99), 5) == []


def test_what_nobody_knows_is_no_alarm_and_ends_none() -> None:
    watched = Watched(Conditions())
    assert watched.first == []
    assert watched.watch(Conditions(), 100) == []

    watched.watch(but(disk_low=True), 1)
    assert watched.watch(Conditions(), 100) == []
    assert watched.alarms.active == (AlarmCode.DISK_LOW,)


conditions = st.builds(
    Conditions,
    source_away=st.sampled_from([None, False, True]),
    connected=st.sampled_from([None, False, True]),
    waiting=st.one_of(st.none(), st.integers(0, 200)),
    evicted=st.one_of(st.none(), st.integers(0, 3)),
    disk_low=st.sampled_from([None, False, True]),
)


@given(st.lists(st.tuples(conditions, st.integers(1, 40)), max_size=30))
def test_raised_and_over_alternate_for_every_alarm(history: list[tuple[Conditions, int]]) -> None:
    watched = Watched(Conditions())
    changes = [change for seen, seconds in history for change in watched.watch(seen, seconds)]

    for code in AlarmCode:
        states = [change.active for change in changes if change.code is code]
        assert all(before is not after for before, after in pairwise(states))
        assert (code in watched.alarms.active) is (bool(states) and states[-1])
