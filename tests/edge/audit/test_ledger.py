"""Stations and epochs, and what came that was of none."""

from __future__ import annotations

import dataclasses

import pytest

from edge.audit.ledger import MAX_STATIONS, Expectation, Ledger
from edge.audit.messages import Heard
from edge.protocol.messages import alarm_message, status_message, verdict_message
from edge.protocol.topics import StationTopics, Status
from edge.records import Message, Severity, Verdict
from tests.edge.protocol.test_messages import FAIL, PASS, TOPICS

CAPTURED_AT_S = PASS.identity.captured_at_s


def heard(message: Message, received_at_s: float = CAPTURED_AT_S + 0.05) -> Heard:
    return Heard(message.topic, message.payload, received_at_s, user_properties=message.user_properties)


def say(
    ledger: Ledger,
    *seqs: int,
    epoch: int = 5,
    topics: StationTopics = TOPICS,
    verdict: Verdict = PASS,
    backlog: bool = False,
) -> None:
    for seq in seqs:
        ledger.take(heard(verdict_message(topics, verdict, epoch, seq, backlog=backlog)))


def missing(ledger: Ledger, epoch: int = 5) -> int:
    found = ledger.stations[TOPICS.base].epochs[epoch]
    return found.missing(ledger.until(found))


def test_stations_of_the_same_name_on_two_lines_are_two() -> None:
    ledger = Ledger(Expectation())
    say(ledger, 1, 2)
    say(ledger, 1, 2, topics=dataclasses.replace(TOPICS, line="line-2"))
    assert [station.epochs[5].counts["duplicates"] for station in ledger.stations.values()] == [0, 0]


def test_an_epoch_that_begins_under_our_eyes_is_expected_from_its_first_verdict() -> None:
    ledger = Ledger(Expectation())
    say(ledger, 40, 41)
    say(ledger, 3, 4, epoch=6)
    assert (missing(ledger, 5), missing(ledger, 6)) == (0, 2)


def test_an_epoch_that_was_under_way_is_not_though_the_backlog_of_an_older_one_came_first() -> None:
    ledger = Ledger(Expectation())
    say(ledger, 40, 41, backlog=True)
    say(ledger, 11, 12, epoch=6)
    assert (missing(ledger, 5), missing(ledger, 6)) == (0, 0)


def test_a_verdict_of_an_epoch_that_had_ended_is_late() -> None:
    ledger = Ledger(Expectation())
    say(ledger, 1, 2)
    say(ledger, 1, epoch=6)
    say(ledger, 3, 3)
    assert ledger.stations[TOPICS.base].counts["late_epoch_verdicts"] == 1


def test_what_passed_while_there_was_no_session_is_unheard_and_not_missing() -> None:
    ledger = Ledger(Expectation())
    say(ledger, 1, 2, 4)
    ledger.interrupt()
    say(ledger, 8, 10)
    epoch = ledger.stations[TOPICS.base].epochs[5]
    assert (epoch.unheard_gaps(), epoch.missing()) == (4, 1)  # 3, 5, 6, 7 and 9
    say(ledger, 5, backlog=True)
    assert epoch.unheard_gaps() == 3


def test_an_epoch_that_began_while_there_was_no_session_is_unheard_up_to_its_first_live_verdict() -> None:
    ledger = Ledger(Expectation())
    say(ledger, 1)
    ledger.interrupt()
    say(ledger, 4, 6, epoch=6)
    epoch = ledger.stations[TOPICS.base].epochs[6]
    assert (epoch.unheard_gaps(), epoch.missing()) == (3, 1)


def test_an_epoch_that_began_later_owes_everything() -> None:
    ledger = Ledger(Expectation())
    say(ledger, 1)
    ledger.interrupt()
    say(ledger, 2)
    say(ledger, 4, epoch=6)
    assert missing(ledger, 6) == 3


def test_it_is_complete_when_everything_up_to_the_end_is_there_or_given_up() -> None:
    ledger = Ledger(Expectation(from_seq=1, until_seq=5))
    assert not ledger.complete
    say(ledger, 1, 2, 5)
    assert not ledger.complete
    payload = b'{"v":1,"station":"station_7","epoch":5,"first":3,"last":3,"count":1,"reason":"evicted"}'
    ledger.take(Heard(f"{TOPICS.base}/tombstone", payload, 1.0))
    assert not ledger.complete
    say(ledger, 4, backlog=True)
    assert ledger.complete


def test_what_is_expected_at_the_end_is_the_newest_epochs() -> None:
    ledger = Ledger(Expectation(until_seq=5))
    say(ledger, 1, 2)
    say(ledger, 1, 2, epoch=6)
    assert (missing(ledger, 5), missing(ledger, 6)) == (0, 3)


def test_a_key_with_two_contents_is_a_conflict() -> None:
    ledger = Ledger(Expectation())
    say(ledger, 1, 2)
    say(ledger, 2, backlog=True)
    say(ledger, 2, verdict=FAIL)
    counts = ledger.stations[TOPICS.base].epochs[5].counts
    assert (counts["duplicates"], counts["conflicts"]) == (2, 1)


def test_status_and_alarms_are_followed() -> None:
    ledger = Ledger(Expectation())
    for status in (Status.ONLINE, Status.ONLINE, Status.OFFLINE, Status.ONLINE):
        ledger.take(heard(status_message(TOPICS, status)))
    for code, active in (("evicting", True), ("evicting", True), ("broker_away", True), ("evicting", False)):
        message = alarm_message(TOPICS, code, active=active, severity=Severity.WARNING, since_s=1.0, text="")
        ledger.take(heard(message))
    station = ledger.stations[TOPICS.base]
    assert (station.status, station.alarms) == ("online", {"broker_away"})
    assert (station.counts["times_offline"], station.counts["alarms"]) == (1, 2)


@pytest.mark.parametrize(("received_after_s", "ahead_ms"), [(0.05, 37.7), (-2.0, -2012.3)])
def test_the_fastest_live_verdict_bounds_the_difference_of_the_clocks(received_after_s: float, ahead_ms: float) -> None:
    ledger = Ledger(Expectation())
    message = verdict_message(TOPICS, PASS, 5, 1)
    ledger.take(heard(message, CAPTURED_AT_S + received_after_s))
    ledger.take(heard(verdict_message(TOPICS, PASS, 5, 2), CAPTURED_AT_S + 10.0))
    bound = ledger.stations[TOPICS.base].clock_ahead_ms
    assert bound == pytest.approx(ahead_ms, abs=1.0)


def test_a_verdict_captured_before_the_session_was_taken_up_had_waited() -> None:
    ledger = Ledger(Expectation())
    ledger.take(heard(verdict_message(TOPICS, PASS, 5, 1)), resumed_at_s=CAPTURED_AT_S + 1)
    ledger.take(heard(verdict_message(TOPICS, PASS, 5, 2)), resumed_at_s=CAPTURED_AT_S - 1)
    latency = ledger.stations[TOPICS.base].epochs[5].latency
    assert (latency["queued"].count, latency["live"].count) == (1, 1)


def test_strangers_are_counted_by_kind_and_the_last_is_named() -> None:
    ledger = Ledger(Expectation())
    ledger.take(Heard("a/b", b"", 1.0))
    ledger.take(Heard(f"{TOPICS.base}/verdict", b"{}", 1.0))
    assert (ledger.counts["unusable_foreign"], ledger.counts["unusable_verdict"], ledger.counts["heard"]) == (1, 1, 2)
    assert ledger.last_problem.startswith(f"{TOPICS.base}/verdict: missing or unknown keys")


def test_stations_without_end_are_bounded_and_counted() -> None:
    ledger = Ledger(Expectation())
    for number in range(MAX_STATIONS + 3):
        ledger.take(heard(status_message(dataclasses.replace(TOPICS, name=f"s{number}"), Status.ONLINE)))
    assert (len(ledger.stations), ledger.counts["beyond_memory"]) == (MAX_STATIONS, 3)
