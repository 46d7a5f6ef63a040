"""The session on its own. Tests named `test_tck_id_…` cover that assertion of Sparkplug 3.0."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.protocol.messages import verdict_payload
from edge.publishers.sparkplug.metrics import VERDICT_TYPES
from edge.publishers.sparkplug.session import Moment, Session
from edge.publishers.sparkplug.topics import SparkplugTopics
from edge.records import Box, Defect, FrameIdentity, Message, Outcome, Scalar, Verdict
from tests.edge.publishers.sparkplug.host import NCMD, STATE, decode, rebirth_request, state, value_of

TOPICS = SparkplugTopics(group="plant", edge_node="line3-camera2", device="camera2")
WITH_HOST = SparkplugTopics(group="plant", edge_node="line3-camera2", device="camera2", primary_host="scada")


def verdict(seq: int, epoch: int = 1) -> dict[str, Scalar]:
    one = Verdict(
        identity=FrameIdentity(sequence=seq, captured_at_s=1000.0 + seq, captured_monotonic_s=0.0, part_id="½ ✓"),
        outcome=Outcome.FAIL,
        score=2.5,
        threshold=1.5,
        recipe="bottle",
        model="0123456789ab",
        defects=(Defect(Box(1, 2, 3, 4), 12, 2.5),),
        latency_ms=12.5,
    )
    return verdict_payload("camera2", one, epoch, seq)


def at(monotonic_s: float) -> Moment:
    return Moment(wall_ms=1_700_000_000_000 + round(monotonic_s * 1000), monotonic_s=monotonic_s)


def new_session(topics: SparkplugTopics = TOPICS, **values: Any) -> Session:
    return Session(topics, version="1.2.3", **values)


def connected(topics: SparkplugTopics = TOPICS, **values: Any) -> Session:
    session = new_session(topics, **values)
    session.connect()
    session.open()
    return session


def online(**values: Any) -> Session:
    session = connected(**values)
    session.due(at(0))
    return session


def reconnect(session: Session) -> None:
    session.close()
    session.connect()
    session.open()


def kinds(messages: list[Message]) -> list[str]:
    return [message.topic.split("/")[2] for message in messages]


def values(message: Message) -> dict[str, Any]:
    return {metric.name: value_of(metric) for metric in decode(message.payload).metrics}


def verdict_seqs(messages: list[Message]) -> list[int]:
    return [values(message)["seq"] for message in messages if "/DDATA/" in message.topic]


def historical(message: Message) -> set[bool]:
    return {metric.is_historical for metric in decode(message.payload).metrics}


# Births.


def test_tck_id_payloads_dbirth_order() -> None:
    session = connected()
    session.note_health({"fps": 1.0}, at(0))
    session.take(verdict(1), is_backlog=False)
    messages = session.due(at(0))
    assert kinds(messages) == ["NBIRTH", "DBIRTH", "DDATA"]
    assert [decode(message.payload).seq for message in messages] == [0, 1, 2]


def test_tck_id_topics_nbirth_metrics() -> None:
    session = connected()
    session.note_health({"fps": 1.5, "frames": 7, "device": "CPU", "temperature_c": float("nan")}, at(0))
    birth = decode(session.due(at(0))[0].payload)
    assert {(one.name, one.datatype, value_of(one)) for one in birth.metrics} == {
        ("bdSeq", 4, 0),
        ("Node Control/Rebirth", 11, False),
        ("Properties/Software", 12, "Patchline"),
        ("Properties/Version", 12, "1.2.3"),
        ("Health/fps", 10, 1.5),
        ("Health/frames", 4, 7),
        ("Health/device", 12, "CPU"),
        ("Health/temperature_c", 10, None),
    }
    assert all(one.HasField("timestamp") for one in birth.metrics)


def test_tck_id_topics_dbirth_metric_reqs() -> None:
    birth = connected().due(at(0))[1]
    session = online()
    session.take(verdict(1), is_backlog=False)
    [data] = session.due(at(0))
    assert values(birth).keys() == values(data).keys()


def test_tck_id_operational_behavior_data_publish_dbirth_values() -> None:
    assert set(values(connected().due(at(0))[1]).values()) == {None}
    session = online()
    session.take(verdict(3), is_backlog=False)
    reconnect(session)
    birth = session.due(at(1))[1]
    assert values(birth)["seq"] == 3
    assert historical(birth) == {False}


def test_a_verdict_from_the_backlog_is_never_the_current_value() -> None:
    session = connected()
    session.take(verdict(1), is_backlog=True)
    _, birth, data = session.due(at(0))
    assert values(birth)["seq"] is None
    assert historical(data) == {True}


def test_tck_id_operational_behavior_data_commands_rebirth_value() -> None:
    [rebirth] = [one for one in decode(connected().due(at(0))[0].payload).metrics if one.name == "Node Control/Rebirth"]
    assert (rebirth.datatype, rebirth.boolean_value, rebirth.HasField("alias")) == (11, False, False)


def test_tck_id_case_sensitivity_metric_names() -> None:
    for message in connected().due(at(0)):
        names = [name.lower() for name in values(message)]
        assert len(names) == len(set(names))


# Numbers.


def test_tck_id_message_flow_edge_node_birth_publish_will_message_payload_bdseq() -> None:
    session = new_session()
    numbers = []
    for _ in range(258):
        will = decode(session.will(at(0)).payload)
        [metric] = will.metrics
        assert (metric.name, metric.datatype) == ("bdSeq", 4)
        numbers.append(metric.long_value)
        reconnect(session)
        assert values(session.due(at(0))[0])["bdSeq"] == metric.long_value
    assert numbers == [*range(256), 0, 1]


def test_tck_id_topics_nbirth_bdseq_increment() -> None:
    session = new_session()
    assert values(session.will(at(0)))["bdSeq"] == 0
    assert values(session.will(at(1)))["bdSeq"] == 0  # nobody answered: there was no CONNECT
    session.connect()
    assert values(session.will(at(2)))["bdSeq"] == 1


def test_tck_id_topics_ndeath_payload() -> None:
    session = online(next_bdseq=41)
    for death in (new_session(next_bdseq=41).will(at(0)), session.farewell(at(1))[-1]):
        payload = decode(death.payload)
        assert death.topic == "spBv1.0/plant/NDEATH/line3-camera2"
        assert values(death) == {"bdSeq": 41}
        assert not payload.HasField("seq")
        assert death.qos == 1


@given(st.lists(st.sampled_from(["verdict", "health", "away", "back", "rebirth"]), max_size=600))
def test_tck_id_payloads_sequence_num_incrementing(events: list[str]) -> None:
    session = online(rebirth_interval_s=0)
    expected = 2
    for number, event in enumerate(events):
        match event:
            case "verdict":
                session.take(verdict(number), is_backlog=False)
            case "health":
                session.note_health({"frames": number}, at(0))
            case "away" | "back":
                session.set_device(present=event == "back")
            case "rebirth":
                session.hear(NCMD, rebirth_request(), retained=False)
        for message in session.due(at(0)):
            seq = decode(message.payload).seq
            assert seq == (0 if "/NBIRTH/" in message.topic else expected)
            expected = (seq + 1) % 256
        session.confirm(session.unconfirmed)


def test_tck_id_payloads_ddata_seq_inc() -> None:
    session = online(capacity=1000)
    for seq in range(600):
        session.take(verdict(seq), is_backlog=False)
    numbers = [decode(message.payload).seq for message in session.due(at(0), limit=600)]
    assert numbers == [(2 + index) % 256 for index in range(600)]


# Data.


@pytest.mark.parametrize("described", [True, False])
def test_tck_id_payloads_metric_datatype_not_req(described: bool) -> None:
    """By default the types are there all the same: Tahu's decoder for JavaScript reads null without."""
    session = online(describe_data=described)
    session.take(verdict(1), is_backlog=False)
    session.note_health({"fps": 2.0}, at(1))
    session.due(at(3))
    session.note_health({"fps": 3.0}, at(4))
    (message,) = session.due(at(5))
    (metric,) = decode(message.payload).metrics
    assert metric.HasField("datatype") == described
    session.take(verdict(2), is_backlog=False)
    (message,) = session.due(at(6))
    written = {metric.name: metric.datatype for metric in decode(message.payload).metrics}
    assert written == (VERDICT_TYPES if described else dict.fromkeys(VERDICT_TYPES, 0))


def test_tck_id_payloads_name_birth_data_requirement() -> None:
    session = online()
    session.take(verdict(7), is_backlog=False)
    [data] = session.due(at(9))
    payload = decode(data.payload)
    assert payload.timestamp == at(9).wall_ms  # sent
    assert {metric.timestamp for metric in payload.metrics} == {1_007_000}  # captured


def test_tck_id_operational_behavior_data_publish_nbirth_change() -> None:
    session = online(rebirth_interval_s=0)
    session.note_health({"fps": 1.0, "frames": 1}, at(1))
    session.due(at(1))
    session.note_health({"fps": 1.0, "frames": 2}, at(2))
    [data] = session.due(at(2))
    assert values(data) == {"Health/frames": 2}
    session.note_health({"fps": 1.0, "frames": 2}, at(3))
    assert session.due(at(3)) == []


def test_tck_id_operational_behavior_data_publish_nbirth() -> None:
    """A health value that no birth has declared gets a birth first."""
    session = online(rebirth_interval_s=0)
    session.note_health({"no_result_overrun": 1}, at(1))
    messages = session.due(at(1))
    assert kinds(messages) == ["NBIRTH", "DBIRTH"]
    assert values(messages[0])["Health/no_result_overrun"] == 1


def test_the_type_of_a_health_value_never_changes() -> None:
    session = connected(rebirth_interval_s=0)
    session.note_health({"a": 1, "b": 1.5, "c": "x"}, at(0))
    session.due(at(0))
    session.note_health({"a": 2.6, "b": 2, "c": 3}, at(1))
    [data] = session.due(at(1))
    assert [(one.name, one.WhichOneof("value")) for one in decode(data.payload).metrics] == [
        ("Health/a", "long_value"),
        ("Health/b", "double_value"),
        ("Health/c", "string_value"),
    ]
    session.note_health({"a": "none", "b": "none"}, at(2))
    [data] = session.due(at(2))
    assert values(data) == {"Health/a": None, "Health/b": None}


def test_what_waited_is_sent_as_history_after_what_is_current() -> None:
    session = connected()
    for seq in (1, 2, 3):
        session.take(verdict(seq), is_backlog=False)
    messages = session.due(at(0), limit=1)
    session.take(verdict(4), is_backlog=False)
    messages += session.due(at(0))
    assert verdict_seqs(messages) == [1, 4, 2, 3]
    assert [historical(message) for message in messages[2:]] == [{True}, {False}, {True}, {True}]
    assert [values(message)["backlog"] for message in messages[2:]] == [True, False, True, True]


def test_what_was_not_confirmed_is_sent_again_as_history_in_order() -> None:
    session = online()
    for seq in (1, 2, 3):
        session.take(verdict(seq), is_backlog=False)
        session.due(at(0))
    session.confirm(1)
    session.take(verdict(4), is_backlog=False)
    reconnect(session)
    messages = session.due(at(5))
    assert verdict_seqs(messages) == [2, 3, 4]
    assert [historical(message) for message in messages[2:]] == [{True}] * 3
    session.confirm(3)
    assert session.kept == 0


def test_no_more_is_kept_than_there_is_room_for() -> None:
    session = connected(capacity=2)
    assert [session.take(verdict(seq), is_backlog=False) for seq in (1, 2, 3)] == [True, True, False]
    session.due(at(0))
    assert not session.take(verdict(3), is_backlog=False)
    session.confirm(1)
    assert session.take(verdict(3), is_backlog=False)


@given(st.lists(st.sampled_from(["take", "due", "confirm", "lose", "away", "back", "offline", "online"]), max_size=200))
def test_every_verdict_taken_is_confirmed_or_kept_whatever_happens(events: list[str]) -> None:
    session = connected(WITH_HOST, capacity=20)
    clock = taken = confirmed = 0
    for event in [*events, "online", "back", "due"]:
        clock += 10
        match event:
            case "take":
                taken += session.take(verdict(clock), is_backlog=False)
            case "due":
                session.due(at(clock), limit=3)
            case "confirm":
                confirmed += session.unconfirmed
                session.confirm(session.unconfirmed)
            case "lose":
                reconnect(session)
            case "away" | "back":
                session.set_device(present=event == "back")
            case "offline" | "online":
                session.hear(STATE, state(online=event == "online", timestamp=clock), retained=False)
                if session.must_leave:
                    reconnect(session)
        assert confirmed + session.kept == taken
        assert session.kept <= 20


# The device.


def test_tck_id_operational_behavior_device_ddeath() -> None:
    session = online()
    session.set_device(present=False)
    [death] = session.due(at(1))
    assert death.topic == "spBv1.0/plant/DDEATH/line3-camera2/camera2"
    assert decode(death.payload).seq == 2
    assert decode(death.payload).timestamp == at(1).wall_ms
    session.take(verdict(1), is_backlog=False)
    assert session.due(at(2)) == []
    session.set_device(present=True)
    messages = session.due(at(3))
    assert kinds(messages) == ["DBIRTH", "DDATA"]
    assert historical(messages[1]) == {True}


def test_a_verdict_that_the_death_of_the_device_overtakes_is_history() -> None:
    session = online()
    session.take(verdict(1), is_backlog=False)
    session.set_device(present=False)
    assert kinds(session.due(at(1))) == ["DDEATH"]
    session.set_device(present=True)
    assert historical(session.due(at(2))[1]) == {True}


def test_a_device_that_is_away_is_not_born() -> None:
    session = connected()
    session.set_device(present=False)
    assert kinds(session.due(at(0))) == ["NBIRTH"]


# Commands.


def test_tck_id_operational_behavior_data_commands_rebirth_action_1() -> None:
    session = online(rebirth_interval_s=2.0)
    session.hear(NCMD, rebirth_request(), retained=False)
    session.take(verdict(1), is_backlog=False)
    session.note_health({"fps": 1.0}, at(1))
    assert session.due(at(1.9)) == []
    assert kinds(session.due(at(2))) == ["NBIRTH", "DBIRTH", "DDATA"]


def test_tck_id_operational_behavior_data_commands_rebirth_action_3() -> None:
    session = connected(next_bdseq=9)
    session.due(at(0))
    session.hear(NCMD, rebirth_request(), retained=False)
    birth = session.due(at(10))[0]
    assert values(birth)["bdSeq"] == 9
    assert decode(birth.payload).seq == 0


def test_many_requests_give_one_birth_an_interval() -> None:
    session = online(rebirth_interval_s=2.0)
    births = 0
    for tick in range(100):  # ten seconds
        session.hear(NCMD, rebirth_request(), retained=False)
        births += kinds(session.due(at(tick / 10))).count("NBIRTH")
    assert births == 4


def test_a_retained_command_is_not_obeyed() -> None:
    session = online(rebirth_interval_s=0)
    session.hear(NCMD, rebirth_request(), retained=True)
    assert session.due(at(10)) == []
    assert session.counters.ignored == 1


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xff\xff", rebirth_request(value=False), rebirth_request() + b"\x12\x00" * 2100],
    ids=["empty", "garbage", "false", "large"],
)
def test_a_command_that_makes_no_sense_is_counted_and_ignored(payload: bytes) -> None:
    session = online(rebirth_interval_s=0)
    session.hear(NCMD, payload, retained=False)
    assert session.due(at(10)) == []
    assert session.counters.ignored == 1


# The primary host.


def test_tck_id_message_flow_edge_node_birth_publish_phid_wait() -> None:
    session = connected(WITH_HOST)
    session.take(verdict(1), is_backlog=False)
    assert session.due(at(0)) == []
    session.hear(STATE, state(online=True, timestamp=5), retained=True)
    messages = session.due(at(1))
    assert kinds(messages) == ["NBIRTH", "DBIRTH", "DDATA"]
    assert historical(messages[2]) == {True}


def test_tck_id_message_flow_edge_node_birth_publish_phid_wait_id() -> None:
    session = connected(WITH_HOST)
    session.hear("spBv1.0/STATE/SCADA", state(online=True, timestamp=5), retained=True)
    assert session.due(at(0)) == []
    assert session.counters.ignored == 1


def test_tck_id_message_flow_edge_node_birth_publish_phid_wait_online() -> None:
    session = connected(WITH_HOST)
    session.hear(STATE, state(online=False, timestamp=5), retained=True)
    assert session.due(at(0)) == []
    assert not session.must_leave  # nothing was said yet: it stays and waits
    session.hear(STATE, state(online=True, timestamp=5), retained=False)
    assert kinds(session.due(at(1))) == ["NBIRTH", "DBIRTH"]


def test_tck_id_message_flow_edge_node_birth_publish_phid_wait_timestamp() -> None:
    session = connected(WITH_HOST)
    session.hear(STATE, state(online=False, timestamp=5), retained=True)
    session.hear(STATE, state(online=True, timestamp=4), retained=False)
    assert session.due(at(0)) == []
    reconnect(session)
    session.hear(STATE, state(online=True, timestamp=4), retained=True)
    assert session.due(at(1)) == []
    session.hear(STATE, state(online=True, timestamp=6), retained=False)
    assert kinds(session.due(at(2))) == ["NBIRTH", "DBIRTH"]


def test_the_host_must_say_again_that_it_is_online_after_a_reconnect() -> None:
    session = connected(WITH_HOST)
    session.hear(STATE, state(online=True, timestamp=5), retained=True)
    session.due(at(0))
    reconnect(session)
    assert session.due(at(1)) == []
    session.hear(STATE, state(online=True, timestamp=5), retained=True)
    assert kinds(session.due(at(2))) == ["NBIRTH", "DBIRTH"]


def test_a_state_that_comes_before_the_answer_to_the_subscription_counts() -> None:
    session = new_session(WITH_HOST)
    session.connect()
    session.hear(STATE, state(online=True, timestamp=5), retained=True)
    assert session.due(at(0)) == []
    session.open()
    assert kinds(session.due(at(0))) == ["NBIRTH", "DBIRTH"]


def test_tck_id_message_flow_edge_node_birth_publish_phid_offline() -> None:
    session = connected(WITH_HOST)
    session.hear(STATE, state(online=True, timestamp=5), retained=True)
    session.due(at(0))
    session.hear(STATE, state(online=False, timestamp=5), retained=False)
    assert session.must_leave
    session.take(verdict(1), is_backlog=False)
    assert session.due(at(1)) == []
    assert kinds(session.farewell(at(1))) == ["DDEATH", "NDEATH"]
    assert not session.must_leave


def test_tck_id_operational_behavior_edge_node_termination_host_offline_timestamp() -> None:
    session = connected(WITH_HOST)
    session.hear(STATE, state(online=True, timestamp=5), retained=True)
    session.due(at(0))
    session.hear(STATE, state(online=False, timestamp=4), retained=False)
    assert not session.must_leave


@pytest.mark.parametrize(
    "payload",
    [
        b"ONLINE",
        b"{}",
        b'{"online":true}',
        b'{"online":1,"timestamp":9}',
        b'{"online":true,"timestamp":NaN}',
        b"[" * 4096,
    ],
    ids=lambda payload: repr(payload[:32]),
)
def test_a_malformed_state_is_counted_and_ignored(payload: bytes) -> None:
    session = connected(WITH_HOST)
    session.hear(STATE, payload, retained=True)
    assert session.due(at(0)) == []
    assert session.counters.ignored == 1


# Leaving.


def test_tck_id_operational_behavior_edge_node_intentional_disconnect_ndeath() -> None:
    session = online()
    messages = session.farewell(at(1))
    assert kinds(messages) == ["DDEATH", "NDEATH"]
    assert decode(messages[0].payload).seq == 2


def test_a_session_that_was_never_born_says_only_its_death() -> None:
    assert kinds(connected(WITH_HOST).farewell(at(1))) == ["NDEATH"]
