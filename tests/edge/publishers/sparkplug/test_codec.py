from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sparkplub_b_packets.core import sparkplug_b_pb2 as published

from edge.publishers.sparkplug.codec import DataType, Metric, Value, asks_for_rebirth, encode
from edge.publishers.sparkplug.schema import payload_class
from tests.edge.publishers.sparkplug.host import decode, rebirth_request, value_of

INT64 = st.integers(-(2**63), 2**63 - 1)
UINT64 = st.integers(0, 2**63 - 1)
TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
VALUES: dict[DataType, st.SearchStrategy[Value]] = {
    DataType.INT32: st.integers(-(2**31), 2**31 - 1),
    DataType.INT64: INT64,
    DataType.DOUBLE: st.floats(allow_nan=False),
    DataType.BOOLEAN: st.booleans(),
    DataType.STRING: TEXT,
    DataType.DATETIME: UINT64,
}


@st.composite
def metrics(draw: st.DrawFn) -> Metric:
    datatype = draw(st.sampled_from(DataType))
    value = draw(st.none() | VALUES[datatype])
    return Metric(draw(TEXT), datatype, value, draw(st.none() | UINT64), draw(st.booleans()))


@given(st.lists(metrics(), max_size=8).map(tuple), UINT64, st.none() | st.integers(0, 255), st.booleans())
def test_the_published_schema_reads_exactly_what_was_written(
    written: tuple[Metric, ...], timestamp_ms: int, seq: int | None, describe: bool
) -> None:
    payload = decode(encode(written, timestamp_ms=timestamp_ms, seq=seq, describe=describe))
    assert payload.timestamp == timestamp_ms
    assert (payload.seq if payload.HasField("seq") else None) == seq
    read = [
        (
            metric.name,
            value_of(metric),
            metric.timestamp if metric.HasField("timestamp") else None,
            metric.is_historical,
            metric.datatype if metric.HasField("datatype") else None,
        )
        for metric in payload.metrics
    ]
    assert read == [
        (one.name, one.value, one.timestamp_ms, one.historical, int(one.datatype) if describe else None)
        for one in written
    ]


@given(st.lists(metrics(), max_size=8).map(tuple))
def test_the_published_schema_knows_every_field_that_is_written(written: tuple[Metric, ...]) -> None:
    payload = decode(encode(written, timestamp_ms=1, seq=0, describe=True))
    unknown = payload.SerializeToString()
    payload.DiscardUnknownFields()
    assert payload.SerializeToString() == unknown


def test_our_schema_is_a_part_of_the_published_one() -> None:
    ours, theirs = payload_class().DESCRIPTOR, published.Payload.DESCRIPTOR
    for message, reference in (
        (ours, theirs),
        (ours.nested_types_by_name["Metric"], theirs.nested_types_by_name["Metric"]),
    ):
        assert message.full_name == reference.full_name
        for field in message.fields:
            twin = reference.fields_by_name[field.name]
            assert (field.number, field.type) == (twin.number, twin.type)
            assert (field.containing_oneof is None) == (twin.containing_oneof is None)


@pytest.mark.parametrize("datatype", DataType)
def test_tck_id_payloads_metric_datatype_value(datatype: DataType) -> None:
    name = {"INT32": "Int32", "INT64": "Int64", "DATETIME": "DateTime"}.get(datatype.name, datatype.name.capitalize())
    assert published.DataType.Value(name) == datatype


@pytest.mark.parametrize(("datatype", "value"), [(DataType.INT32, 2**31), (DataType.INT64, -(2**63) - 1)])
def test_an_integer_that_does_not_fit_is_refused_instead_of_wrapped(datatype: DataType, value: int) -> None:
    with pytest.raises(ValueError, match=f"frame: {value} does not fit {datatype.name}"):
        encode((Metric("frame", datatype, value, 0),), timestamp_ms=0, seq=0)


def test_a_rebirth_request_written_by_the_published_schema_is_understood() -> None:
    assert asks_for_rebirth(rebirth_request())


@pytest.mark.parametrize(
    "command",
    [rebirth_request(value=False), rebirth_request(name="Node Control/Reboot"), b""],
    ids=["false", "another", "empty"],
)
def test_other_commands_ask_for_no_rebirth(command: bytes) -> None:
    assert not asks_for_rebirth(command)


def test_a_command_with_fields_that_we_do_not_know_is_understood() -> None:
    request = decode(rebirth_request())
    request.uuid = "0b5e"
    request.metrics[0].alias = 7
    request.metrics[0].metadata.description = "by hand"
    table = request.metrics.add(name="table")
    table.dataset_value.columns.append("a")
    assert asks_for_rebirth(request.SerializeToString())


@given(st.binary(max_size=64))
def test_any_bytes_are_a_command_or_a_value_error(payload: bytes) -> None:
    try:
        asks_for_rebirth(payload)
    except ValueError as error:
        assert str(error) == "not a Sparkplug B payload"  # noqa: PT017 — either outcome is right


WITHOUT_PROTOBUF = """
import sys
sys.modules["google"] = None
from edge.errors import SettingsError
from edge.settings.tree import MqttSettings, SparkplugSettings, StationSettings
from edge.publishers.sparkplug.publisher import SparkplugPublisher
try:
    SparkplugPublisher(SparkplugSettings(enabled=True), MqttSettings(), StationSettings())
except SettingsError as error:
    print(error)
"""


def test_without_protobuf_the_error_names_the_extra() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PROTOBUF], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == (
        "sparkplug.enabled: expected the protobuf package, got none installed: "
        "run pip install '.[sparkplug]' -c constraints.txt, or set sparkplug.enabled = false\n"
    )
