"""Metrics to the bytes of a Sparkplug B payload, and commands back. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from edge.publishers.sparkplug.schema import payload_class

REBIRTH = "Node Control/Rebirth"

Value = bool | int | float | str | None


class DataType(IntEnum):
    """Of Sparkplug 3.0, section 6.4.16, those that we use."""

    INT32 = 3
    INT64 = 4
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12
    DATETIME = 13  # milliseconds since 1970-01-01 UTC


_VALUE_FIELDS = {
    DataType.INT32: "int_value",
    DataType.INT64: "long_value",
    DataType.DOUBLE: "double_value",
    DataType.BOOLEAN: "boolean_value",
    DataType.STRING: "string_value",
    DataType.DATETIME: "long_value",
}
_UNSIGNED_BITS = {DataType.INT32: 32, DataType.INT64: 64, DataType.DATETIME: 64}


@dataclass(frozen=True, slots=True)
class Metric:
    """One tag's value at one time."""

    name: str
    datatype: DataType
    value: Value  # None: null
    timestamp_ms: int | None  # since 1970-01-01 UTC; None only in a death
    historical: bool = False  # not the current value


def encode(metrics: tuple[Metric, ...], *, timestamp_ms: int, seq: int | None, describe: bool = False) -> bytes:
    """The payload of one message.

    Args:
        metrics: in chronological order.
        timestamp_ms: when it is sent, milliseconds since 1970-01-01 UTC.
        seq: 0 to 255; None in a death of the edge node.
        describe: with data types, as births and deaths of the edge node have them.

    Raises:
        ValueError: an integer does not fit its data type.
    """
    payload = payload_class()(timestamp=timestamp_ms)
    if seq is not None:
        payload.seq = seq
    for metric in metrics:
        encoded = payload.metrics.add(name=metric.name)
        if metric.timestamp_ms is not None:
            encoded.timestamp = metric.timestamp_ms
        if describe:
            encoded.datatype = metric.datatype
        if metric.historical:
            encoded.is_historical = True
        if metric.value is None:
            encoded.is_null = True
        else:
            setattr(encoded, _VALUE_FIELDS[metric.datatype], _encoded(metric))
    return bytes(payload.SerializeToString())


def asks_for_rebirth(payload: bytes) -> bool:
    """Whether the command sets `Node Control/Rebirth`.

    Raises:
        ValueError: it is no Sparkplug B payload.
    """
    from google.protobuf.message import DecodeError  # noqa: PLC0415 — only there with the extra

    command = payload_class()()
    try:
        command.ParseFromString(payload)
    except DecodeError as error:
        raise ValueError("not a Sparkplug B payload") from error
    return any(metric.name == REBIRTH and metric.boolean_value for metric in command.metrics)


def _encoded(metric: Metric) -> bool | int | float | str:
    """The value as its field takes it: signed integers go as unsigned ones, in two's complement."""
    value = metric.value
    assert value is not None
    bits = _UNSIGNED_BITS.get(metric.datatype)
    if bits is None:
        return value
    assert isinstance(value, int)
    if not -(1 << bits - 1) <= value < 1 << bits - 1:
        raise ValueError(f"{metric.name}: {value} does not fit {metric.datatype.name}")
    return value % (1 << bits)
