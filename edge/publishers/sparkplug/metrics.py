"""Verdicts and health as Sparkplug metrics, whose types never change. Pure.

A metric of a verdict is called like the key of the JSON verdict that it is taken from; docs/sparkplug.md lists them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from edge.protocol.text import printable
from edge.publishers.sparkplug.codec import REBIRTH, DataType, Metric, Value
from edge.records import Scalar

# All keys of the JSON verdict but `ts`, which says the same as `time` in words.
VERDICT_TYPES = {
    "v": DataType.INT32,
    "id": DataType.STRING,
    "epoch": DataType.INT64,
    "seq": DataType.INT64,
    "time": DataType.DATETIME,
    "station": DataType.STRING,
    "recipe": DataType.STRING,
    "model": DataType.STRING,
    "part_id": DataType.STRING,
    "trigger_id": DataType.STRING,
    "frame": DataType.INT64,
    "verdict": DataType.STRING,
    "ok": DataType.BOOLEAN,
    "reason": DataType.STRING,
    "score": DataType.DOUBLE,
    "threshold": DataType.DOUBLE,
    "latency_ms": DataType.DOUBLE,
    "simulated": DataType.BOOLEAN,
    "backlog": DataType.BOOLEAN,
    "defects": DataType.INT32,
    "d0_x": DataType.INT32,
    "d0_y": DataType.INT32,
    "d0_w": DataType.INT32,
    "d0_h": DataType.INT32,
    "d0_score": DataType.DOUBLE,
    "crop_sha256": DataType.STRING,
}
BDSEQ = "bdSeq"
HEALTH_FOLDER = "Health"


def verdict_metrics(values: Mapping[str, Scalar], *, historical: bool) -> tuple[Metric, ...]:
    """One verdict, at the time of its frame.

    Args:
        values: of `edge.protocol.messages.verdict_payload`.
        historical: sent late, so not the current value; `backlog` is then true.
    """
    time_ms = round(float(values["time"]) * 1000)
    said = {**values, "backlog": int(values["backlog"]) or historical}
    return tuple(
        Metric(name, datatype, _typed(said[name], datatype), time_ms, historical)
        for name, datatype in VERDICT_TYPES.items()
    )


def no_verdict_metrics(timestamp_ms: int) -> tuple[Metric, ...]:
    """All metrics of a verdict before the first one: null."""
    return tuple(Metric(name, datatype, None, timestamp_ms) for name, datatype in VERDICT_TYPES.items())


def node_metrics(bdseq: int, version: str, timestamp_ms: int) -> tuple[Metric, ...]:
    """What every birth of the edge node begins with."""
    return (
        bdseq_metric(bdseq, timestamp_ms),
        Metric(REBIRTH, DataType.BOOLEAN, value=False, timestamp_ms=timestamp_ms),
        Metric("Properties/Software", DataType.STRING, "Patchline", timestamp_ms),
        Metric("Properties/Version", DataType.STRING, version, timestamp_ms),
    )


def bdseq_metric(bdseq: int, timestamp_ms: int | None) -> Metric:
    """Which connection a birth and a death of the edge node belong to."""
    return Metric(BDSEQ, DataType.INT64, bdseq, timestamp_ms)


def health_metric(key: str, value: Scalar, declared: Metric | None, timestamp_ms: int) -> Metric:
    """One value of `/health`. The type of a number is that of its first value, `declared`, for good."""
    datatype = _type_of(value) if declared is None else declared.datatype
    return Metric(f"{HEALTH_FOLDER}/{key}", datatype, _typed(value, datatype), timestamp_ms)


def same_value(one: Metric, other: Metric) -> bool:
    """Whether only the time differs."""
    return replace(one, timestamp_ms=other.timestamp_ms) == other


def _type_of(value: Scalar) -> DataType:
    if isinstance(value, str):
        return DataType.STRING
    return DataType.INT64 if isinstance(value, int) else DataType.DOUBLE


def _typed(value: Scalar, datatype: DataType) -> Value:
    if datatype is DataType.STRING:
        return printable(str(value))
    if isinstance(value, str) or not math.isfinite(value):
        return None
    match datatype:
        case DataType.BOOLEAN:
            return bool(value)
        case DataType.DOUBLE:
            return float(value)
        case DataType.DATETIME:
            return round(value * 1000)
        case DataType.INT32 | DataType.INT64:
            return round(value)
