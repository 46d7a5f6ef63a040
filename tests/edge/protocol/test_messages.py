from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from edge.protocol.messages import (
    MAX_VERDICT_BYTES,
    alarm_message,
    amend,
    announces_crop,
    crop_messages,
    health_message,
    last_message,
    status_message,
    tombstone_message,
    verdict_message,
    verdict_payload,
)
from edge.protocol.text import bounded
from edge.protocol.topics import StationTopics, Status
from edge.records import Box, Crop, Defect, FrameIdentity, Message, Outcome, Reason, Severity, Verdict
from tests.places import ROOT

SCHEMA = json.loads((ROOT / "edge" / "verdict.schema.json").read_text(encoding="utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA)
TOPICS = StationTopics(root="patchline", site="bremen", line="line-1", name="station_7")
LARGEST_INTEGER = 2**63 - 1
LAST_SECOND_OF_9999 = 253_402_300_799

DEFECT = Defect(box=Box(x=10, y=20, width=30, height=40), area=900, peak_score=2.5)
CROP = Crop(index=0, box=Box(1, 2, 60, 80), jpeg=b"\xff\xd8raw", sha256=hashlib.sha256(b"\xff\xd8raw").hexdigest())
PASS = Verdict(
    identity=FrameIdentity(
        sequence=41, captured_at_s=1_700_000_000.1234, captured_monotonic_s=5.0, name="041.png", part_id="P-41"
    ),
    outcome=Outcome.PASS,
    score=1.25,
    threshold=1.5,
    recipe="bottle",
    model="0123456789ab",
    latency_ms=12.3456,
)
FAIL = dataclasses.replace(PASS, outcome=Outcome.FAIL, score=2.0, defects=(DEFECT,), crops=(CROP,))
NO_RESULT = dataclasses.replace(
    PASS, outcome=Outcome.NO_RESULT, score=0.0, reason=Reason.DEADLINE_MISSED, detail="took 80 ms of 50 ms"
)

counts = st.integers(0, LARGEST_INTEGER)
numbers = st.floats()
texts = st.text(st.characters(exclude_categories=[]), max_size=300)
identities = st.builds(
    FrameIdentity,
    sequence=counts,
    captured_at_s=st.floats(0, LAST_SECOND_OF_9999),
    captured_monotonic_s=st.just(0.0),
    name=texts,
    trigger_id=texts,
    part_id=texts,
    simulated=st.booleans(),
)
boxes = st.builds(Box, counts, counts, counts, counts)
defects = st.builds(Defect, box=boxes, area=counts, peak_score=numbers)
verdicts = st.builds(
    Verdict,
    identity=identities,
    outcome=st.sampled_from([Outcome.PASS, Outcome.FAIL]),
    score=numbers,
    threshold=numbers,
    recipe=texts,
    model=texts,
    defects=st.lists(defects, max_size=3).map(tuple),
    latency_ms=numbers,
)
stations = st.from_regex(r"[A-Za-z0-9_-]{1,60}", fullmatch=True)


def decode(payload: bytes) -> dict[str, int | float | str]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    values: dict[str, int | float | str] = json.loads(payload, parse_constant=refuse)
    return values


def test_schema_is_itself_valid() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_every_key_of_the_schema_says_what_it_means() -> None:
    assert all(len(entry["description"]) > 10 for entry in SCHEMA["properties"].values())


@pytest.mark.parametrize("verdict", [PASS, FAIL, NO_RESULT], ids=lambda verdict: verdict.outcome)
def test_every_outcome_follows_the_schema_in_its_order(verdict: Verdict) -> None:
    payload = decode(verdict_message(TOPICS, verdict, 3, 99).payload)

    VALIDATOR.validate(payload)
    assert list(payload) == list(SCHEMA["properties"])


def test_a_failed_part_tells_score_threshold_and_worst_defect() -> None:
    payload = verdict_payload("station_7", FAIL, 3, 99, backlog=True)

    assert payload == {
        "v": 1,
        "id": "station_7-3-99",
        "epoch": 3,
        "seq": 99,
        "ts": "2023-11-14T22:13:20.123Z",
        "time": 1_700_000_000.123,
        "station": "station_7",
        "recipe": "bottle",
        "model": "0123456789ab",
        "part_id": "P-41",
        "trigger_id": "",
        "frame": 41,
        "verdict": "FAIL",
        "ok": 0,
        "reason": "",
        "score": 2.0,
        "threshold": 1.5,
        "latency_ms": 12.346,
        "simulated": 0,
        "backlog": 1,
        "defects": 1,
        "d0_x": 10,
        "d0_y": 20,
        "d0_w": 30,
        "d0_h": 40,
        "d0_score": 2.5,
        "crop_sha256": CROP.sha256,
    }


def test_no_result_carries_its_reason_and_keeps_the_detail_to_itself() -> None:
    message = verdict_message(TOPICS, NO_RESULT, 0, 1)

    assert decode(message.payload)["reason"] == "deadline_missed"
    assert b"took 80 ms" not in message.payload


def test_a_frame_without_part_id_is_named_by_its_file() -> None:
    nameless = dataclasses.replace(PASS, identity=dataclasses.replace(PASS.identity, part_id=""))

    assert verdict_payload("s", nameless, 0, 1)["part_id"] == "041.png"


@given(verdicts, stations, counts, counts)
def test_whatever_a_verdict_holds_its_message_is_valid_and_within_one_kilobyte(
    verdict: Verdict, station: str, epoch: int, seq: int
) -> None:
    topics = dataclasses.replace(TOPICS, name=station)

    message = verdict_message(topics, verdict, epoch, seq)

    assert len(message.payload) <= MAX_VERDICT_BYTES
    VALIDATOR.validate(decode(message.payload))


def test_the_longest_verdict_fits_into_one_kilobyte() -> None:
    long_text = '"\\' * 200
    worst = Verdict(
        identity=FrameIdentity(
            sequence=LARGEST_INTEGER,
            captured_at_s=LAST_SECOND_OF_9999 + 0.999,
            captured_monotonic_s=0.0,
            part_id=long_text,
            trigger_id=long_text,
        ),
        outcome=Outcome.FAIL,
        score=-1.7976931348623157e308,
        threshold=-2.2250738585072014e-308,
        recipe=long_text,
        model="0123456789ab",
        defects=(Defect(Box(*[LARGEST_INTEGER] * 4), 1, -1.7976931348623157e308),),
        crops=(CROP,),
        latency_ms=-123456789.123,
    )

    message = verdict_message(dataclasses.replace(TOPICS, name="n" * 60), worst, LARGEST_INTEGER, LARGEST_INTEGER)

    assert 900 < len(message.payload) <= MAX_VERDICT_BYTES
    VALIDATOR.validate(decode(message.payload))


@given(verdicts)
def test_keys_never_change_type(verdict: Verdict) -> None:
    expected = {key: type(value) for key, value in verdict_payload("s", FAIL, 0, 0).items()}

    payload = verdict_payload("s", verdict, 0, 0)

    assert {key: type(value) for key, value in payload.items()} == expected


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("outcome", [Outcome.PASS, Outcome.FAIL])
@pytest.mark.parametrize("change_score", [True, False], ids=["score", "threshold"])
def test_a_number_that_is_not_finite_is_no_result(outcome: Outcome, value: float, *, change_score: bool) -> None:
    score, threshold = (value, PASS.threshold) if change_score else (PASS.score, value)
    broken = dataclasses.replace(PASS, outcome=outcome, score=score, threshold=threshold)

    payload = verdict_payload("s", broken, 0, 0)

    assert (payload["verdict"], payload["ok"], payload["reason"]) == ("NO_RESULT", 0, "internal_error")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"ok": 0}, "PASS is ok"),
        ({"reason": "overrun"}, "PASS has no reason"),
        ({"verdict": "NO_RESULT", "ok": 0}, "NO_RESULT has a reason"),
        ({"verdict": "NO_RESULT", "reason": "overrun"}, "NO_RESULT is not ok"),
        ({"verdict": "FAIL"}, "FAIL is not ok"),
        ({"verdict": "MAYBE"}, "there is no fourth outcome"),
        ({"d0_w": 3}, "no defects, no box"),
        ({"ok": True}, "booleans are 0 and 1"),
        ({"extra": 1}, "no other keys"),
        ({"score": "1.0"}, "a number stays a number"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_schema_refuses_contradictions(change: dict[str, object], why: str) -> None:
    payload = verdict_payload("s", PASS, 0, 0)
    VALIDATOR.validate(payload)

    assert not VALIDATOR.is_valid({**payload, **change}), why


@pytest.mark.parametrize("key", sorted(SCHEMA["properties"]))
def test_schema_misses_every_key_that_is_left_out(key: str) -> None:
    payload = verdict_payload("s", FAIL, 0, 0)
    del payload[key]

    assert not VALIDATOR.is_valid(payload)


@given(st.floats(0, LAST_SECOND_OF_9999))
def test_time_and_timestamp_are_the_same_moment(captured_at_s: float) -> None:
    verdict = dataclasses.replace(PASS, identity=dataclasses.replace(PASS.identity, captured_at_s=captured_at_s))

    payload = verdict_payload("s", verdict, 0, 0)

    assert datetime.fromisoformat(str(payload["ts"])).timestamp() == pytest.approx(payload["time"], abs=1e-4)
    assert payload["time"] == pytest.approx(captured_at_s, abs=0.000_6)


def test_a_long_name_loses_its_middle_and_keeps_its_ends() -> None:
    shortened = bounded("line4/camera2/" + "x" * 100 + "/part-000017.png", 64)

    assert shortened.startswith("line4/camera2/")
    assert shortened.endswith("/part-000017.png")
    assert len(json.dumps(shortened, ensure_ascii=False).encode()) - 2 <= 64


@given(texts, st.integers(3, 80))
def test_bounded_text_is_printable_and_within_its_limit(text: str, limit: int) -> None:
    short = bounded(text, limit)

    assert len(json.dumps(short, ensure_ascii=False).encode("utf-8")) - 2 <= limit
    assert short.isprintable()


def test_text_that_fits_is_left_alone() -> None:
    assert bounded("Flasche 0,5 l – grün ✓", 64) == "Flasche 0,5 l – grün ✓"


def test_topics_qos_and_retain_are_those_of_the_contract() -> None:
    verdict = verdict_message(TOPICS, FAIL, 0, 1)
    (crop,) = crop_messages(TOPICS, FAIL, 0, 1)
    alarm = alarm_message(TOPICS, "source_away", active=True, severity=Severity.CRITICAL, since_s=0.0, text="t")
    sent = [
        verdict,
        last_message(TOPICS, verdict),
        crop,
        status_message(TOPICS, Status.ONLINE),
        alarm,
        tombstone_message(TOPICS, 3, first=1, last=2, count=2, reason="evicted"),
        health_message(TOPICS, {}),
    ]

    base = "patchline/bremen/line-1/station_7"
    assert [(message.topic.removeprefix(base), message.qos, message.retain) for message in sent] == [
        ("/verdict", 1, False),
        ("/verdict/last", 0, True),
        ("/crop/0", 1, False),
        ("/status", 1, True),
        ("/alarm/source_away", 1, True),
        ("/tombstone", 1, False),
        ("/health", 0, False),
    ]


@given(verdicts, stations)
def test_a_verdict_marked_as_backlog_differs_in_nothing_else(verdict: Verdict, station: str) -> None:
    topics = dataclasses.replace(TOPICS, name=station)

    marked = amend(verdict_message(topics, verdict, 3, 99), backlog=1)

    assert decode(marked.payload) == verdict_payload(station, verdict, 3, 99, backlog=True)
    assert marked.payload == verdict_message(topics, verdict, 3, 99, backlog=True).payload


def test_words_that_look_like_keys_are_left_alone() -> None:
    identity = dataclasses.replace(FAIL.identity, part_id=',"backlog":0,', trigger_id=',"crop_sha256":"')
    verdict = dataclasses.replace(FAIL, identity=identity)
    message = verdict_message(TOPICS, verdict, 3, 99)

    assert decode(amend(message, backlog=1).payload) == verdict_payload(TOPICS.name, verdict, 3, 99, backlog=True)
    assert decode(amend(message, crop_sha256="").payload) == {**decode(message.payload), "crop_sha256": ""}


@pytest.mark.parametrize("payload", [b"", b"\xff", b"[]", b"{", b'{"v":1}'])
def test_what_is_no_verdict_stays_as_it_is(payload: bytes) -> None:
    message = Message(TOPICS.verdict, payload, qos=1)

    assert amend(message, backlog=1) == message
    assert not announces_crop(message)


@given(verdicts)
def test_a_verdict_without_its_crop_announces_none_and_is_valid(verdict: Verdict) -> None:
    message = verdict_message(TOPICS, verdict, 3, 99)
    bare = amend(message, crop_sha256="")

    assert announces_crop(message) is bool(decode(message.payload)["crop_sha256"])
    assert not announces_crop(bare)
    assert decode(bare.payload) == {**decode(message.payload), "crop_sha256": ""}
    VALIDATOR.validate(decode(amend(bare, backlog=1).payload))


def test_a_tombstone_explains_a_gap() -> None:
    message = tombstone_message(TOPICS, 3, first=5, last=9, count=4, reason="evicted")

    assert decode(message.payload) == {
        "v": 1,
        "station": "station_7",
        "epoch": 3,
        "first": 5,
        "last": 9,
        "count": 4,
        "reason": "evicted",
    }


def test_last_verdict_is_the_same_bytes() -> None:
    verdict = verdict_message(TOPICS, PASS, 0, 1)

    assert last_message(TOPICS, verdict).payload == verdict.payload


def test_a_crop_is_raw_jpeg_with_the_identity_of_its_verdict() -> None:
    (message,) = crop_messages(TOPICS, FAIL, 3, 99)

    assert message.payload == CROP.jpeg
    assert message.content_type == "image/jpeg"
    assert dict(message.user_properties) == {
        "id": "station_7-3-99",
        "epoch": "3",
        "seq": "99",
        "k": "0",
        "sha256": CROP.sha256,
        "x": "1",
        "y": "2",
        "w": "60",
        "h": "80",
    }


@pytest.mark.parametrize("status", list(Status))
def test_status_is_one_bare_word(status: Status) -> None:
    message = status_message(TOPICS, status)

    assert message.payload == status.value.encode()
    assert message.content_type == "text/plain"


def test_an_alarm_tells_since_when_and_why() -> None:
    message = alarm_message(
        TOPICS, "source_away", active=False, severity=Severity.WARNING, since_s=1.5, text="no frame\n" + "x" * 999
    )

    payload = decode(message.payload)
    assert payload["active"] == 0
    assert payload["severity"] == "warning"
    assert payload["since"] == "1970-01-01T00:00:01.500Z"
    assert len(message.payload) <= MAX_VERDICT_BYTES


def test_health_leaves_out_what_is_not_a_number() -> None:
    message = health_message(TOPICS, {"fps": 12.5, "p99_ms": math.nan, "backlog": 3, "device": "CPU"})

    assert decode(message.payload) == {"v": 1, "fps": 12.5, "backlog": 3, "device": "CPU"}
