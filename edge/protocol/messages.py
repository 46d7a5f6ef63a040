"""Verdicts and what else a station says, as topics and payloads. Pure: nothing here knows the time.

A verdict is one flat JSON object whose keys never change type and whose booleans are 0 or 1, so that PLC
clients and SCADA systems read it; `verdict.schema.json` describes it. It always fits into 1024 bytes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from edge.protocol.text import bounded, printable
from edge.protocol.topics import StationTopics, Status
from edge.records import Box, Crop, Defect, Message, Outcome, Reason, Scalar, Severity, Verdict

SCHEMA_VERSION = 1
MAX_VERDICT_BYTES = 1024
# UTF-8 bytes, JSON escapes included. Every other field at its longest takes 814 bytes (64-bit integers, a
# station of 60 characters), so a verdict can never pass MAX_VERDICT_BYTES. Long names lose their middle.
RECIPE_BYTES = 48
PART_ID_BYTES = 64
TRIGGER_ID_BYTES = 64
MODEL_BYTES = 12
ALARM_TEXT_BYTES = 400

EPOCH_START = datetime(1970, 1, 1, tzinfo=UTC)


def verdict_id(station: str, epoch: int, seq: int) -> str:
    """The key by which a subscriber recognises a verdict and its crops."""
    return f"{station}-{epoch}-{seq}"


def verdict_payload(
    station: str, verdict: Verdict, epoch: int, seq: int, *, backlog: bool = False
) -> dict[str, Scalar]:
    """`verdict` as flat keys, in the order of the schema.

    Args:
        station: the station's name, validated by the settings.
        verdict: one frame's answer. A score or threshold that is not finite can only be answered by
            NO_RESULT, whatever its outcome says.
        epoch: grows when the numbering of `seq` begins anew.
        seq: counts the station's verdicts within the epoch.
        backlog: sent late, after an outage.
    """
    judged = without_invalid_numbers(verdict)
    frame = judged.identity
    milliseconds = round(frame.captured_at_s * 1000)
    return {
        "v": SCHEMA_VERSION,
        "id": verdict_id(station, epoch, seq),
        "epoch": epoch,
        "seq": seq,
        "ts": _rfc3339(milliseconds),
        "time": milliseconds / 1000,
        "station": station,
        "recipe": bounded(judged.recipe, RECIPE_BYTES),
        "model": bounded(judged.model, MODEL_BYTES),
        "part_id": bounded(frame.part_id or frame.name, PART_ID_BYTES),
        "trigger_id": bounded(frame.trigger_id, TRIGGER_ID_BYTES),
        "frame": frame.sequence,
        "verdict": judged.outcome.value,
        "ok": int(judged.outcome is Outcome.PASS),
        "reason": judged.reason.value,
        "score": float(judged.score),
        "threshold": float(judged.threshold),
        "latency_ms": round(_finite(judged.latency_ms), 3),
        "simulated": int(frame.simulated),
        "backlog": int(backlog),
        "defects": len(judged.defects),
        **_worst_defect(judged.defects),
        "crop_sha256": next((crop.sha256 for crop in judged.crops if crop.index == 0), ""),
    }


def without_invalid_numbers(verdict: Verdict) -> Verdict:
    """The verdict as it can be said: with a number that is not finite nothing is known, and the answer is NO_RESULT."""
    numbers = (verdict.score, verdict.threshold, *(defect.peak_score for defect in verdict.defects))
    if all(math.isfinite(number) for number in numbers):
        return verdict
    return dataclasses.replace(
        verdict,
        outcome=Outcome.NO_RESULT,
        reason=verdict.reason or Reason.INTERNAL_ERROR,
        score=0.0,
        threshold=_finite(verdict.threshold),
        defects=(),
        crops=(),
    )


def verdict_message(topics: StationTopics, verdict: Verdict, epoch: int, seq: int, *, backlog: bool = False) -> Message:
    """`verdict` for `/verdict`: QoS 1, not retained."""
    payload = verdict_payload(topics.name, verdict, epoch, seq, backlog=backlog)
    return Message(topic=topics.verdict, payload=encode(payload), qos=1)


def amend(verdict: Message, **fields: Scalar) -> Message:
    """The same verdict with other values of these fields, which it has; what is no JSON object stays as it is."""
    with contextlib.suppress(ValueError):
        values = json.loads(verdict.payload)
        if isinstance(values, dict) and values.keys() >= fields.keys():
            return dataclasses.replace(verdict, payload=encode({**values, **fields}))
    return verdict


def announces_crop(verdict: Message) -> bool:
    """The verdict names the picture that follows on `/crop/0`."""
    return amend(verdict, crop_sha256="").payload != verdict.payload


def tombstone_message(topics: StationTopics, epoch: int, *, first: int, last: int, count: int, reason: str) -> Message:
    """Verdicts that were given up and will not come, so that a gap is explained: QoS 1, not retained.

    Args:
        topics: the station's topics.
        epoch: whose numbers these are.
        first: the first `seq` of the range.
        last: the last one.
        count: how many of the range were given up; the others were delivered.
        reason: one of the program's own words: `evicted`, `memory_full`.
    """
    payload: dict[str, Scalar] = {
        "v": SCHEMA_VERSION,
        "station": topics.name,
        "epoch": epoch,
        "first": first,
        "last": last,
        "count": count,
        "reason": reason,
    }
    return Message(topic=topics.tombstone, payload=encode(payload), qos=1)


def last_message(topics: StationTopics, verdict: Message) -> Message:
    """The same verdict for late joiners: QoS 0, retained, outside the delivery promise."""
    return dataclasses.replace(verdict, topic=topics.last, qos=0, retain=True)


def crop_messages(topics: StationTopics, verdict: Verdict, epoch: int, seq: int) -> tuple[Message, ...]:
    """The verdict's crops, raw JPEG, with the verdict's identity in their user properties."""
    return tuple(_crop_message(topics, crop, epoch, seq) for crop in verdict.crops)


def status_message(topics: StationTopics, status: Status) -> Message:
    """`status` as plain text: QoS 1, retained."""
    return Message(
        topic=topics.status,
        payload=status.value.encode("ascii"),
        qos=1,
        retain=True,
        content_type="text/plain",
    )


def alarm_message(
    topics: StationTopics, code: str, *, active: bool, severity: Severity, since_s: float, text: str
) -> Message:
    """One alarm, raised (`active`) or over: QoS 1, retained.

    Args:
        topics: the station's topics.
        code: last topic level, one of the program's own words such as `source_away`.
        active: True while it lasts.
        severity: how urgent it is.
        since_s: when it was raised, seconds since 1970-01-01 UTC.
        text: for people; cut to 400 bytes.
    """
    payload: dict[str, Scalar] = {
        "v": SCHEMA_VERSION,
        "code": code,
        "active": int(active),
        "severity": severity.value,
        "since": _rfc3339(round(since_s * 1000)),
        "text": bounded(text, ALARM_TEXT_BYTES),
    }
    return Message(topic=topics.alarm(code), payload=encode(payload), qos=1, retain=True)


def health_message(topics: StationTopics, values: Mapping[str, Scalar], *, retain: bool = False) -> Message:
    """Statistics as flat JSON: QoS 0. A number that is not finite is left out."""
    payload: dict[str, Scalar] = {"v": SCHEMA_VERSION}
    payload.update({key: _clean(value) for key, value in values.items() if not _is_invalid(value)})
    return Message(topic=topics.health, payload=encode(payload), qos=0, retain=retain)


def encode(payload: Mapping[str, Scalar]) -> bytes:
    """Compact JSON in UTF-8."""
    text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8")


def _worst_defect(defects: tuple[Defect, ...]) -> dict[str, Scalar]:
    worst = defects[0] if defects else Defect(box=Box(0, 0, 0, 0), area=0, peak_score=0.0)
    return {
        "d0_x": worst.box.x,
        "d0_y": worst.box.y,
        "d0_w": worst.box.width,
        "d0_h": worst.box.height,
        "d0_score": float(worst.peak_score),
    }


def _crop_message(topics: StationTopics, crop: Crop, epoch: int, seq: int) -> Message:
    properties = {
        "id": verdict_id(topics.name, epoch, seq),
        "epoch": epoch,
        "seq": seq,
        "k": crop.index,
        "sha256": crop.sha256,
        "x": crop.box.x,
        "y": crop.box.y,
        "w": crop.box.width,
        "h": crop.box.height,
    }
    return Message(
        topic=topics.crop(crop.index),
        payload=crop.jpeg,
        qos=1,
        content_type="image/jpeg",
        user_properties=tuple((key, str(value)) for key, value in properties.items()),
    )


def _rfc3339(milliseconds: int) -> str:
    moment = EPOCH_START + timedelta(milliseconds=milliseconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _finite(value: float) -> float:
    return float(value) if math.isfinite(value) else 0.0


def _is_invalid(value: Scalar) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _clean(value: Scalar) -> Scalar:
    return printable(value) if isinstance(value, str) else value
