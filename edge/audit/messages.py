"""What a subscriber hears, read with suspicion: station's messages as records, anything else as `Unusable`. Pure.

Whatever arrives, `read_message` gives a record and raises nothing: an audit that stops at a strange message
proves nothing about the ones after it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from edge.protocol.messages import MAX_VERDICT_BYTES, SCHEMA_VERSION, verdict_id
from edge.protocol.topics import Status
from edge.protocol.verdict_payload import VerdictPayload
from edge.records import Outcome, Reason
from edge.settings.values import TOPIC_LEVEL

BASE_LEVELS = 4  # <root>/<site>/<line>/<station>
# What an audit subscribes to, below the base. `/verdict/last`, `/health` and `/cmd` promise nothing.
SUFFIXES = ("verdict", "tombstone", "status", "alarm/+")
CROP_SUFFIX = "crop/+"

_LARGEST_INTEGER = 2**63 - 1
_LATEST_S = 253_402_300_800  # the year 10000
_LARGEST_CONTROL_BYTES = 4096  # of a tombstone or an alarm; ours have less than a quarter
_MAY_CHANGE = frozenset({"backlog", "crop_sha256"})  # sent late; its picture was given up meanwhile
_WORD = re.compile(r"[a-z0-9_]{1,40}")
_NUMBER = re.compile(r"[0-9]{1,19}")


@dataclass(frozen=True, slots=True)
class Heard:
    """One PUBLISH as it came."""

    topic: str
    payload: bytes
    received_at_s: float  # wall clock of this machine, seconds since 1970-01-01 UTC
    redelivered: bool = False  # the broker says that it had sent it to us before
    retained: bool = False  # the broker kept it for whoever subscribes: nobody sent it now
    packet_id: int = 0
    user_properties: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class HeardVerdict:
    """One verdict that keeps to the schema."""

    base: str
    epoch: int
    seq: int
    captured_at_s: float  # wall clock of the station
    latency_ms: float  # from capture to the verdict, measured by the station
    outcome: Outcome
    reason: Reason
    backlog: bool
    crop_sha256: str  # empty: no crop is announced
    digest: bytes  # of all that stays the same when the same verdict comes again


@dataclass(frozen=True, slots=True)
class HeardCrop:
    """One picture of a defect."""

    base: str
    epoch: int
    seq: int
    index: int  # k-th defect, from 0
    sha256: str  # of the bytes that came
    intact: bool  # that is also what the station says


@dataclass(frozen=True, slots=True)
class Tombstone:
    """Verdicts that the station had to give up: they will not come."""

    base: str
    epoch: int
    first: int
    last: int
    count: int  # how many of `first` to `last`: fewer than all only where the station had to join ranges
    reason: str


@dataclass(frozen=True, slots=True)
class HeardStatus:
    """Whether the station is there."""

    base: str
    status: Status


@dataclass(frozen=True, slots=True)
class HeardAlarm:
    """An alarm, raised or over."""

    base: str
    code: str
    active: bool


@dataclass(frozen=True, slots=True)
class Unusable:
    """Not of ours (`foreign`), or ours and malformed (`verdict`, `tombstone`, `status`, `alarm`, `crop`)."""

    kind: str
    problem: str


Message = HeardVerdict | HeardCrop | Tombstone | HeardStatus | HeardAlarm | Unusable


class _Malformed(Exception):  # noqa: N818 — never leaves this module
    """What is wrong with a message."""


def read_message(heard: Heard) -> Message:
    """What `heard` says; `Unusable` when it is none of the messages that an audit knows, or breaks their rules."""
    levels = heard.topic.split("/")
    base, suffix = "/".join(levels[:BASE_LEVELS]), levels[BASE_LEVELS:]
    readers: dict[str, Callable[[str, Heard], Message]] = {
        "verdict": _read_verdict,
        "tombstone": _read_tombstone,
        "status": _read_status,
        "alarm": _read_alarm,
        "crop": _read_crop,
    }
    depth = 2 if suffix and suffix[0] in {"alarm", "crop"} else 1
    ours = all(re.fullmatch(TOPIC_LEVEL, level) for level in levels[:BASE_LEVELS])
    if not ours or len(suffix) != depth or suffix[0] not in readers:
        return Unusable("foreign", f"{heard.topic}: no topic of a station")
    if heard.retained and suffix[0] not in {"status", "alarm"}:
        return Unusable(suffix[0], f"{heard.topic}: is retained, which a station never asks for; clear it")
    try:
        return readers[suffix[0]](base, heard)
    except _Malformed as problem:
        return Unusable(suffix[0], f"{heard.topic}: {problem}")


def _read_verdict(base: str, heard: Heard) -> HeardVerdict:
    values = _read_object(heard.payload, MAX_VERDICT_BYTES)
    _check_payload(values)
    _check_sense(base, values)
    return HeardVerdict(
        base=base,
        epoch=values["epoch"],
        seq=values["seq"],
        captured_at_s=values["time"],
        latency_ms=values["latency_ms"],
        outcome=Outcome(values["verdict"]),
        reason=Reason(values["reason"]),
        backlog=bool(values["backlog"]),
        crop_sha256=values["crop_sha256"],
        digest=_digest(values),
    )


def _read_tombstone(base: str, heard: Heard) -> Tombstone:
    values = _read_object(heard.payload, _LARGEST_CONTROL_BYTES)
    numbers = [values.get(key) for key in ("epoch", "first", "last", "count")]
    if values.get("v") != SCHEMA_VERSION:
        raise _Malformed(f"v: expected {SCHEMA_VERSION}, got {values.get('v')!r}")
    if values.get("station") != _station(base):
        raise _Malformed(f"station: expected {_station(base)} as in the topic, got {values.get('station')!r}")
    if not all(_is_count(number) for number in numbers):
        raise _Malformed(f"epoch, first, last, count: expected integers from 0, got {numbers}")
    epoch, first, last, count = (int(number) for number in numbers if number is not None)
    if not 1 <= count <= last - first + 1:
        raise _Malformed(f"count: expected 1 to {last - first + 1} for {first} to {last}, got {count}")
    return Tombstone(base, epoch, first, last, count, _word(values, "reason"))


def _read_status(base: str, heard: Heard) -> HeardStatus:
    try:
        return HeardStatus(base, Status(heard.payload.decode("ascii")))
    except ValueError:
        raise _Malformed(f"expected one of {', '.join(Status)}, got {heard.payload[:40]!r}") from None


def _read_alarm(base: str, heard: Heard) -> HeardAlarm:
    values = _read_object(heard.payload, _LARGEST_CONTROL_BYTES)
    code, active = _word(values, "code"), values.get("active")
    if not heard.topic.endswith(f"/alarm/{code}"):
        raise _Malformed(f"code: expected the topic's last level, got {code}")
    if not _is_count(active) or active not in {0, 1}:
        raise _Malformed(f"active: expected 0 or 1, got {active!r}")
    return HeardAlarm(base, code, bool(active))


def _read_crop(base: str, heard: Heard) -> HeardCrop:
    values = dict(heard.user_properties)
    numbers = [values.get(key, "") for key in ("epoch", "seq", "k")]
    if not all(_NUMBER.fullmatch(number) and int(number) <= _LARGEST_INTEGER for number in numbers):
        raise _Malformed(f"user properties epoch, seq, k: expected integers, got {numbers}")
    epoch, seq, index = map(int, numbers)
    if values.get("id") != verdict_id(_station(base), epoch, seq):
        raise _Malformed(f"user property id: expected {verdict_id(_station(base), epoch, seq)}, got {values.get('id')}")
    if heard.topic.rpartition("/")[2] != str(index):
        raise _Malformed(f"user property k: expected the topic's last level, got {index}")
    sha256 = hashlib.sha256(heard.payload).hexdigest()
    return HeardCrop(base, epoch, seq, index, sha256, intact=values.get("sha256") == sha256)


def _read_object(payload: bytes, limit: int) -> dict[str, Any]:
    if len(payload) > limit:
        raise _Malformed(f"expected at most {limit} bytes, got {len(payload)}")
    try:
        values = json.loads(payload.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise _Malformed(f"expected a JSON object, got {payload[:40]!r} ({error})") from None
    if not isinstance(values, dict):
        raise _Malformed(f"expected a JSON object, got {payload[:40]!r}")
    return values


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _check_payload(values: Mapping[str, Any]) -> None:
    """By the model that also writes the schema."""
    known = VerdictPayload.model_fields.keys()
    if values.keys() != known:
        raise _Malformed(f"missing or unknown keys: {sorted(values.keys() ^ known)}")
    try:
        VerdictPayload.model_validate(values)
    except ValidationError as error:
        raise _Malformed(_explain(error)) from None


def _explain(error: ValidationError) -> str:
    """What is wrong with the first key that is."""
    problem = error.errors(include_url=False, include_context=False)[0]
    text = problem["msg"].removeprefix("Value error, ")
    if not problem["loc"]:
        return text  # two keys contradict each other
    for said, meant in (("Input should be", "expected"), ("String should", "expected to")):
        text = text.replace(said, meant)
    return f"{problem['loc'][0]}: {text}, got {problem['input']!r}"


def _check_sense(base: str, values: Mapping[str, Any]) -> None:
    """What one key says about another."""
    station = values["station"]
    if station != _station(base):
        raise _Malformed(f"station: expected {_station(base)} as in the topic, got {station}")
    if not 0 <= values["time"] <= _LATEST_S:
        raise _Malformed(f"time: expected seconds since 1970 up to the year 9999, got {values['time']}")
    if values["id"] != verdict_id(station, values["epoch"], values["seq"]):
        raise _Malformed(f"id: expected station, epoch and seq joined by '-', got {values['id']}")


def _digest(values: Mapping[str, Any]) -> bytes:
    lasting = {key: value for key, value in values.items() if key not in _MAY_CHANGE}
    return hashlib.blake2b(json.dumps(lasting, sort_keys=True).encode(), digest_size=8).digest()


def _word(values: Mapping[str, Any], key: str) -> str:
    word = values.get(key)
    if not isinstance(word, str) or not _WORD.fullmatch(word):
        raise _Malformed(f"{key}: expected a word in lower case, got {word!r}")
    return word


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST_INTEGER


def _station(base: str) -> str:
    return base.rpartition("/")[2]
