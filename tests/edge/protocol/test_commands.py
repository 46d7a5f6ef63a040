"""What a station makes of what anybody may send it."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.protocol.commands import (
    MAX_CORRELATION_BYTES,
    MAX_PAYLOAD_BYTES,
    Answer,
    Deduplicator,
    Ignored,
    Pause,
    Reader,
    Refusal,
    Request,
    Resume,
    SwitchRecipe,
    Trigger,
)
from edge.settings.sections import CommandName, CommandSettings
from tests.places import ROOT

BASE = "patchline/plant/line/station"
READER = Reader(CommandSettings(enabled=True), BASE)
SECRET = "hunter2"


def request(name: str = "pause", payload: bytes | object = b"", **values: object) -> Request:
    """A faultless request, apart from `values`."""
    encoded = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    faultless = Request(
        topic=f"{BASE}/cmd/{name}",
        payload=encoded,
        retained=False,
        response_topic=f"{BASE}/reply/plc1",
        correlation=b"\x00\xff1",
        received_s=1.0,
    )
    return replace(faultless, **values)  # type: ignore[arg-type]  # the fields' own types


def refusal(of: Request, reader: Reader = READER) -> str:
    outcome = reader.read(of)
    assert isinstance(outcome, Refusal), outcome
    return outcome.error


@pytest.mark.parametrize(
    ("name", "payload", "expected"),
    [
        ("trigger", {"trigger_id": "17"}, Trigger(trigger_id="17")),
        ("trigger", {"trigger_id": "17", "part_id": "Flasche ½"}, Trigger(trigger_id="17", part_id="Flasche ½")),
        ("trigger", {"trigger_id": "x" * 64, "part_id": ""}, Trigger(trigger_id="x" * 64)),
        ("recipe", {"name": "disc"}, SwitchRecipe(name="disc")),
        ("pause", b"", Pause()),
        ("pause", {}, Pause()),
        ("resume", b"{ }", Resume()),
    ],
)
def test_a_valid_payload_is_the_command(name: str, payload: object, expected: object) -> None:
    assert READER.read(request(name, payload)) == expected
    assert READER.why_unanswerable(request(name, payload)) == ""


@pytest.mark.parametrize(
    ("name", "payload", "complaint"),
    [
        ("trigger", b"", "trigger_id: Field required"),
        ("trigger", b"[1]", "expected a JSON object with the keys trigger_id, part_id"),
        ("trigger", b'{"trigger_id":', "not valid JSON"),
        ("trigger", b"\xff\xfe", "not valid JSON"),
        ("trigger", b"[" * 1000, "not valid JSON"),
        ("trigger", {"trigger_id": 17}, "trigger_id: Input should be a valid string"),
        ("trigger", {"trigger_id": ""}, "trigger_id: expected 1 to 64 bytes of printable text"),
        ("trigger", {"trigger_id": "ä" * 33}, "trigger_id: expected 1 to 64 bytes"),
        ("trigger", {"trigger_id": "a\nb"}, "trigger_id: expected 1 to 64 bytes of printable text"),
        ("trigger", {"trigger_id": "1", "part_id": None}, "part_id: Input should be a valid string"),
        ("trigger", {"trigger_id": "1", "image": "/etc/passwd"}, "unknown key; expected trigger_id, part_id"),
        ("recipe", {"path": "/bundles/disc"}, "unknown key; expected name"),
        ("recipe", {"name": "x" * 49}, "name: expected 1 to 48 bytes"),
        ("pause", {"for_s": 5}, "unknown key; expected none"),
        ("pause", b" " * (MAX_PAYLOAD_BYTES + 1), f"expected at most {MAX_PAYLOAD_BYTES} bytes, got 1025"),
        ("reboot", b"", "unknown or not allowed; commands.allow of this station: pause, recipe, resume, trigger"),
        ("pause/x", b"", "unknown or not allowed"),
    ],
)
def test_anything_else_is_refused_with_what_was_expected(name: str, payload: object, complaint: str) -> None:
    assert complaint in refusal(request(name, payload))


def test_only_what_the_settings_allow_is_a_command() -> None:
    reader = Reader(CommandSettings(enabled=True, allow=(CommandName.TRIGGER,)), BASE)

    assert isinstance(reader.read(request("trigger", {"trigger_id": "1"})), Trigger)
    assert refusal(request("pause"), reader) == "unknown or not allowed; commands.allow of this station: trigger"


def test_a_retained_command_is_refused() -> None:
    assert "retained" in refusal(request("pause", retained=True))


@given(
    st.binary(max_size=40) | st.text(max_size=40).map(lambda text: json.dumps({SECRET: text, text: SECRET}).encode())
)
def test_a_refusal_never_repeats_the_payload(payload: bytes) -> None:
    outcome = READER.read(request("trigger", payload))

    assert isinstance(outcome, Refusal)
    assert SECRET not in outcome.error
    assert SECRET not in repr(request("trigger", SECRET.encode()))


@pytest.mark.parametrize(
    "values",
    [
        {"response_topic": ""},
        {"correlation": b""},
        {"correlation": b"x" * (MAX_CORRELATION_BYTES + 1)},
        {"response_topic": "$SYS/x"},
        {"response_topic": f"{BASE}/reply/#"},
        {"response_topic": f"{BASE}/reply/+/x"},
        {"response_topic": f"{BASE}/reply/"},
        {"response_topic": f"{BASE}/reply/a//b"},
        {"response_topic": f"{BASE}/reply/a\n"},
        {"response_topic": f"{BASE}/reply/\x00"},
        {"response_topic": f"{BASE}/reply/" + "x" * 200},
        {"response_topic": f"{BASE}/verdict"},
        {"response_topic": "patchline/plant/line/other/cmd/pause"},
    ],
)
def test_an_answer_goes_only_where_it_can_do_no_harm(values: dict[str, object]) -> None:
    assert READER.why_unanswerable(request(**values)) != ""  # type: ignore[arg-type]  # fields of a request


def test_the_answers_place_is_a_setting_that_never_opens_the_stations_own_topics() -> None:
    reader = Reader(CommandSettings(enabled=True, response_prefix="patchline/"), BASE)

    assert reader.why_unanswerable(request(response_topic="patchline/answers/scada")) == ""
    assert reader.why_unanswerable(request(response_topic=f"{BASE}/reply/plc1")) == ""
    assert "own topics" in reader.why_unanswerable(request(response_topic=f"{BASE}/verdict"))
    assert "begin with patchline/" in reader.why_unanswerable(request(response_topic="other/answers"))


@pytest.mark.parametrize(
    ("allowed", "name", "values", "executed"),
    [
        (False, "trigger", {}, False),
        (True, "trigger", {}, True),
        (True, "pause", {}, False),
        (True, "trigger", {"correlation": b"1"}, False),  # somebody wants an answer, and cannot get it
        (True, "trigger", {"response_topic": "elsewhere"}, False),
    ],
)
def test_only_a_trigger_and_only_where_that_is_set_is_executed_without_anybody_to_answer(
    allowed: bool, name: str, values: dict[str, object], executed: bool
) -> None:
    reader = Reader(CommandSettings(enabled=True, triggers_without_reply=allowed), BASE)
    asked = request(name, {"trigger_id": "1"}, **{"response_topic": "", "correlation": b"", **values})
    assert (reader.why_unanswerable(asked) == "") == executed


def test_without_correlation_data_a_request_is_known_again_by_its_content() -> None:
    deduplicator = Deduplicator(CommandSettings(remember_s=60))
    values: dict[str, object] = {"response_topic": "", "correlation": b""}
    first, other = (request("trigger", {"trigger_id": number}, **values) for number in "12")
    assert deduplicator.recall(first, now_s=0) is None
    deduplicator.conclude(first, Answer())
    assert deduplicator.recall(first, now_s=1) == Answer()
    assert deduplicator.recall(other, now_s=2) is None
    assert deduplicator.recall(first, now_s=61) is None


def test_a_reply_is_flat_json_at_qos_1_with_the_correlation_data_that_came() -> None:
    reply = READER.reply(request("recipe"), Answer("no such recipe", "plate", "8292ba4f2c6e"))

    assert json.loads(reply.payload) == {
        "v": 1,
        "command": "recipe",
        "ok": 0,
        "error": "no such recipe",
        "recipe": "plate",
        "model": "8292ba4f2c6e",
    }
    assert (reply.topic, reply.qos, reply.retain) == (f"{BASE}/reply/plc1", 1, False)
    assert reply.correlation == b"\x00\xff1"
    assert json.loads(READER.reply(request("pause"), Answer()).payload)["ok"] == 1


# Again, too often, and late.


def test_a_request_that_comes_again_gets_the_answer_it_had() -> None:
    deduplicator = Deduplicator(CommandSettings(remember_s=60))
    first = request("pause")

    assert deduplicator.recall(first, now_s=0) is None
    assert isinstance(deduplicator.recall(first, now_s=1), Ignored)  # it is being executed
    deduplicator.conclude(first, Answer("because"))
    assert deduplicator.recall(request("pause"), now_s=2) == Answer("because")


def test_another_command_with_the_same_correlation_data_is_neither_executed_nor_called_done() -> None:
    deduplicator = Deduplicator(CommandSettings())
    deduplicator.recall(request("trigger", {"trigger_id": "1"}), now_s=0)
    deduplicator.conclude(request("trigger", {"trigger_id": "1"}), Answer())

    again = deduplicator.recall(request("trigger", {"trigger_id": "2"}), now_s=1)
    assert isinstance(again, Answer)
    assert "give every command its own" in again.error


@pytest.mark.parametrize("other", [{"correlation": b"2"}, {"response_topic": f"{BASE}/reply/plc2"}])
def test_requests_differ_by_sender_or_by_correlation_data(other: dict[str, object]) -> None:
    deduplicator = Deduplicator(CommandSettings())

    assert deduplicator.recall(request("pause"), now_s=0) is None
    assert deduplicator.recall(request("pause", **other), now_s=0) is None


def test_a_request_is_forgotten_in_time() -> None:
    deduplicator = Deduplicator(CommandSettings(remember_s=60))
    deduplicator.recall(request("pause"), now_s=0)
    deduplicator.conclude(request("pause"), Answer())

    assert deduplicator.recall(request("pause"), now_s=59.9) == Answer()
    assert deduplicator.recall(request("pause"), now_s=60) is None
    assert len(deduplicator) == 1


@given(st.lists(st.floats(0, 3), min_size=1, max_size=300), st.sampled_from([0.5, 1.0, 5.0]))
def test_never_more_commands_are_heard_than_the_rate_allows(pauses: list[float], per_s: float) -> None:
    deduplicator = Deduplicator(CommandSettings(max_per_s=per_s))
    heard: list[float] = []
    now_s = 100.0
    for pause in pauses:
        now_s += pause / 10
        if deduplicator.admit(now_s):
            heard.append(now_s)

    assert heard[0] == 100.0 + pauses[0] / 10
    most_at_once = max(1.0, per_s)
    for begin in range(len(heard)):
        for end in range(begin, len(heard)):
            assert end - begin + 1 <= most_at_once + (heard[end] - heard[begin]) * per_s + 1e-6


def test_a_sender_who_keeps_to_the_rate_is_always_heard() -> None:
    deduplicator = Deduplicator(CommandSettings(max_per_s=4))

    assert all(deduplicator.admit(number / 4) for number in range(100))


# The documentation.


def test_the_documents_examples_are_what_the_code_takes_and_sends() -> None:
    text = (ROOT / "docs" / "mqtt.md").read_text(encoding="utf-8")
    commands = re.findall(r"<!-- command: (\w+) -->\n```json\n(.*?)```", text, flags=re.DOTALL)
    (reply,) = re.findall(r"<!-- reply -->\n```json\n(.*?)```", text, flags=re.DOTALL)

    assert {name for name, _ in commands} == {"trigger", "recipe"}
    for name, payload in commands:
        assert not isinstance(READER.read(request(name, payload.encode())), Refusal)
    allow = (CommandName.TRIGGER, CommandName.PAUSE)
    reader = Reader(CommandSettings(allow=allow), BASE)
    refused = request("recipe", {"name": "disc"})
    assert json.loads(
        reader.reply(refused, Answer(refusal(refused, reader), "plate", "8292ba4f2c6e")).payload
    ) == json.loads(reply)
    defaults = CommandSettings()
    assert f"`commands.max_per_s` ({defaults.max_per_s:g})" in text
    assert f"`commands.remember_s` ({defaults.remember_s:g} s)" in text
