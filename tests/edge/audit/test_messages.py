"""What an audit makes of messages: those that a station builds, and everything else."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.audit.messages import (
    Heard,
    HeardAlarm,
    HeardCrop,
    HeardStatus,
    HeardVerdict,
    Tombstone,
    Unusable,
    read_message,
)
from edge.protocol.messages import (
    alarm_message,
    amend,
    crop_messages,
    status_message,
    tombstone_message,
    verdict_message,
    verdict_payload,
)
from edge.protocol.topics import Status
from edge.records import Message, Outcome, Reason, Severity, Verdict
from tests.edge.protocol.test_messages import CROP, FAIL, NO_RESULT, PASS, TOPICS, VALIDATOR, verdicts

BASE = TOPICS.base
TOMBSTONE = {"v": 1, "station": "station_7", "epoch": 5, "first": 10, "last": 12, "count": 3, "reason": "evicted"}


def heard(message: Message) -> Heard:
    return Heard(message.topic, message.payload, received_at_s=1.0, user_properties=message.user_properties)


def heard_json(suffix: str, values: object) -> Heard:
    return Heard(f"{BASE}/{suffix}", json.dumps(values).encode(), received_at_s=1.0)


def changed(**values: object) -> Heard:
    return heard_json("verdict", verdict_payload("station_7", FAIL, 5, 9) | values)


@given(verdicts, st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1), st.booleans())
def test_every_verdict_that_a_station_can_send_is_read(verdict: Verdict, epoch: int, seq: int, backlog: bool) -> None:
    got = read_message(heard(verdict_message(TOPICS, verdict, epoch, seq, backlog=backlog)))
    assert isinstance(got, HeardVerdict), got
    assert (got.base, got.epoch, got.seq, got.backlog) == (BASE, epoch, seq, backlog)


def test_a_verdict_says_what_the_ledger_needs() -> None:
    got = read_message(heard(verdict_message(TOPICS, NO_RESULT, 5, 9)))
    assert isinstance(got, HeardVerdict)
    assert (got.outcome, got.reason, got.crop_sha256) == (Outcome.NO_RESULT, Reason.DEADLINE_MISSED, "")
    assert (got.captured_at_s, got.latency_ms) == (1_700_000_000.123, 12.346)


def test_the_same_verdict_sent_late_or_without_its_crop_has_the_same_digest_and_another_one_has_not() -> None:
    first = verdict_message(TOPICS, FAIL, 5, 9)
    other = verdict_message(TOPICS, dataclasses.replace(FAIL, score=2.1), 5, 9)
    digests = [digest(message) for message in (first, amend(first, backlog=1), amend(first, crop_sha256=""), other)]
    assert digests[0] == digests[1] == digests[2] != digests[3]


def digest(message: Message) -> bytes:
    got = read_message(heard(message))
    assert isinstance(got, HeardVerdict)
    return got.digest


mutations = st.tuples(
    st.sampled_from(sorted(verdict_payload("station_7", FAIL, 5, 9))),
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.text(max_size=70),
        st.floats(allow_nan=False, allow_infinity=False).filter(lambda number: not number.is_integer()),
        st.lists(st.none(), max_size=1),
    ),
)


@given(mutations)
def test_what_the_schema_refuses_is_refused(mutation: tuple[str, object]) -> None:
    key, value = mutation
    values: dict[str, Any] = verdict_payload("station_7", FAIL, 5, 9) | {key: value}
    got = read_message(heard_json("verdict", values))
    if not VALIDATOR.is_valid(values):
        assert isinstance(got, Unusable)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"station": "station_8"}, "station: expected station_7 as in the topic, got station_8"),
        ({"id": "station_7-5-8"}, "id: expected station, epoch and seq joined by '-', got station_7-5-8"),
        ({"seq": 8}, "id: expected"),
        ({"ok": 1}, "ok: 1 contradicts verdict FAIL"),
        ({"reason": "overrun"}, "reason: 'overrun' contradicts verdict FAIL"),
        ({"verdict": "NO_RESULT"}, "reason: '' contradicts verdict NO_RESULT"),
        ({"seq": True}, "seq: expected"),
        ({"time": "now"}, "time: expected"),
        ({"time": 10**400}, "time: expected"),
        ({"time": 1e300}, "time: expected"),
        ({"extra": 1}, "missing or unknown keys: ['extra']"),
        ({"v": 2}, "v: expected"),
    ],
)
def test_a_verdict_that_contradicts_itself_its_topic_or_the_schema_is_unusable(
    values: dict[str, object], problem: str
) -> None:
    got = read_message(changed(**values))
    assert isinstance(got, Unusable)
    assert got.kind == "verdict"
    assert got.problem.startswith(f"{BASE}/verdict: {problem}")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b'{"v":1',
        b'{"v":NaN}',
        b"[" * 1000,
        b"9" * 1000,
        b"{" + b" " * 2000 + b"}",
        json.dumps(verdict_payload("station_7", FAIL, 5, 9)).replace("2.0", "1e999").encode(),
    ],
)
@pytest.mark.parametrize("suffix", ["verdict", "tombstone", "alarm/broker_away", "status", "crop/0"])
def test_garbage_is_unusable(payload: bytes, suffix: str) -> None:
    got = read_message(Heard(f"{BASE}/{suffix}", payload, received_at_s=1.0))
    assert isinstance(got, Unusable)
    assert got.kind == suffix.partition("/")[0]


@given(st.binary(max_size=300), st.lists(st.text(max_size=8), max_size=8))
def test_nothing_that_arrives_raises(payload: bytes, levels: list[str]) -> None:
    assert isinstance(read_message(Heard("/".join(levels), payload, received_at_s=1.0)), Unusable)


@pytest.mark.parametrize(
    "topic",
    [f"{BASE}/health", f"{BASE}/verdict/last", f"{BASE}/crop", f"{BASE}/alarm/a/b", "a/b/verdict", "a b/c/d/e/verdict"],
)
def test_other_topics_are_foreign(topic: str) -> None:
    got = read_message(Heard(topic, verdict_message(TOPICS, PASS, 1, 1).payload, received_at_s=1.0))
    assert isinstance(got, Unusable)
    assert got.kind == "foreign"


@pytest.mark.parametrize("suffix", ["verdict", "tombstone"])
def test_what_a_broker_had_retained_is_no_delivery(suffix: str) -> None:
    payload = verdict_message(TOPICS, PASS, 1, 1).payload if suffix == "verdict" else json.dumps(TOMBSTONE).encode()
    got = read_message(Heard(f"{BASE}/{suffix}", payload, received_at_s=1.0, retained=True))
    assert isinstance(got, Unusable)
    assert "retained" in got.problem


def test_a_tombstone_is_read() -> None:
    message = tombstone_message(TOPICS, 5, first=10, last=12, count=3, reason="evicted")
    assert read_message(heard(message)) == Tombstone(BASE, 5, 10, 12, 3, "evicted")
    assert json.loads(message.payload) == TOMBSTONE


@pytest.mark.parametrize(
    "values",
    [
        {"count": 4},
        {"count": 0},
        {"first": 13, "count": 1},
        {"first": -1},
        {"epoch": "5"},
        {"station": "other"},
        {"v": 2},
        {"reason": "Not A Word"},
        {"last": 12.0},
    ],
)
def test_a_tombstone_that_contradicts_itself_explains_nothing(values: dict[str, object]) -> None:
    got = read_message(heard_json("tombstone", TOMBSTONE | values))
    assert isinstance(got, Unusable)
    assert got.kind == "tombstone"


def test_status_and_alarm_are_read() -> None:
    assert read_message(heard(status_message(TOPICS, Status.STOPPED))) == HeardStatus(BASE, Status.STOPPED)
    alarm = alarm_message(TOPICS, "broker_away", active=True, severity=Severity.WARNING, since_s=1.0, text="…")
    assert read_message(heard(alarm)) == HeardAlarm(BASE, "broker_away", active=True)


def test_a_crop_is_known_by_its_bytes() -> None:
    (message,) = crop_messages(TOPICS, FAIL, 5, 9)
    assert read_message(heard(message)) == HeardCrop(BASE, 5, 9, 0, CROP.sha256, intact=True)
    damaged = read_message(heard(dataclasses.replace(message, payload=b"other")))
    assert isinstance(damaged, HeardCrop)
    assert not damaged.intact


@pytest.mark.parametrize(
    ("key", "value"), [("seq", "8"), ("seq", "x"), ("k", "1"), ("id", "a-1-1"), ("epoch", "9" * 40)]
)
def test_a_crop_whose_identity_is_broken_is_unusable(key: str, value: str) -> None:
    (message,) = crop_messages(TOPICS, FAIL, 5, 9)
    properties = dict(message.user_properties) | {key: value}
    got = read_message(heard(dataclasses.replace(message, user_properties=tuple(properties.items()))))
    assert isinstance(got, Unusable)
    assert got.kind == "crop"
