"""The verdict's payload as one strict model: it reads what stations say, and writes `edge/verdict.schema.json`. Pure.

A station builds its payloads without it: a frame does not wait for a check of what we say ourselves. Tests hold every
payload to this model. `python -m edge.protocol.verdict_payload` prints the schema.
"""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


def _whole(value: object) -> object:
    """A literal takes whatever equals it, true and 1.0 too, which are other types in JSON."""
    if type(value) is not int:
        raise ValueError("expected an integer")
    return value


Version = Annotated[Literal[1], BeforeValidator(_whole)]
Bit = Annotated[Literal[0, 1], BeforeValidator(_whole)]
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]

_Rules = dict[str, dict[str, Any]]  # of JSON Schema, by key

# What the value of one key says about others: (key, value, rules of the others).
_CONSEQUENCES: tuple[tuple[str, int | str, _Rules], ...] = (
    ("verdict", "PASS", {"ok": {"const": 1}, "reason": {"const": ""}}),
    ("verdict", "FAIL", {"ok": {"const": 0}, "reason": {"const": ""}}),
    ("verdict", "NO_RESULT", {"ok": {"const": 0}, "reason": {"minLength": 1}, "score": {"const": 0}}),
    (
        "defects",
        0,
        {
            **{key: {"const": 0} for key in ("d0_x", "d0_y", "d0_w", "d0_h", "d0_score")},
            "crop_sha256": {"const": ""},
        },
    ),
)


class VerdictPayload(BaseModel):
    """Version 1; a key that is missing, unknown, null or of another type is refused."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    v: Version = Field(description="Version of this schema.")
    id: str = Field(
        pattern="^[A-Za-z0-9_-]{1,60}-[0-9]+-[0-9]+$",
        description="Key of the verdict: station, epoch and seq joined by '-'. A repeated id is the same verdict "
        "delivered again.",
    )
    epoch: Count = Field(description="Numbering of seq: grows whenever seq begins anew.")
    seq: Count = Field(
        description="Counts the station's verdicts within the epoch; a gap is a verdict that was not delivered."
    )
    ts: str = Field(
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$",
        description="When the frame was captured: RFC 3339, UTC, milliseconds.",
    )
    time: float = Field(description="The same moment in seconds since 1970-01-01 UTC, to the millisecond.")
    station: str = Field(pattern="^[A-Za-z0-9_-]{1,60}$", description="Name of the station, as in the topic.")
    recipe: str = Field(
        max_length=48,
        description="Name of the recipe that judged the frame, as it was asked for, or the bundle's own. At most 48 "
        "bytes; a longer name loses its middle.",
    )
    model: str = Field(max_length=12, description="First 12 hexadecimal digits of the bundle's identity.")
    part_id: str = Field(
        max_length=64,
        description="The part's id, or the frame's file name when it has none. At most 64 bytes; a longer one loses "
        "its middle.",
    )
    trigger_id: str = Field(
        max_length=64,
        description="Id of the trigger that asked for this frame; empty when free running. At most 64 bytes.",
    )
    frame: Count = Field(description="Number of the frame at its source, from 0; a gap is a dropped frame.")
    verdict: Literal["PASS", "FAIL", "NO_RESULT"] = Field(
        description="The answer. NO_RESULT: the part was not judged and must not be taken for good."
    )
    ok: Bit = Field(description="1 for PASS, otherwise 0.")
    reason: Literal["", "deadline_missed", "camera_stale", "image_unusable", "overrun", "internal_error"] = Field(
        description="Why there is NO_RESULT; empty for PASS and FAIL."
    )
    score: float = Field(
        description="Anomaly score of the frame: higher is worse; a distance between patch embeddings, without unit; "
        "never clamped. 0 for NO_RESULT."
    )
    threshold: float = Field(description="FAIL when score is greater; same scale as score.")
    latency_ms: float = Field(description="Milliseconds from capture to this verdict.")
    simulated: Bit = Field(description="1: drawn by the simulated line; not a real part.")
    backlog: Bit = Field(description="1: sent late, after an outage.")
    defects: Count = Field(description="Number of regions of the anomaly map above the pixel threshold.")
    d0_x: Count = Field(description="Left edge of the worst defect, in the frame's pixels; 0 without defects.")
    d0_y: Count = Field(description="Upper edge of the worst defect, in the frame's pixels; 0 without defects.")
    d0_w: Count = Field(description="Width of the worst defect, in the frame's pixels; 0 without defects.")
    d0_h: Count = Field(description="Height of the worst defect, in the frame's pixels; 0 without defects.")
    d0_score: float = Field(description="Highest value of the anomaly map in the worst defect; 0 without defects.")
    crop_sha256: str = Field(
        pattern="^([0-9a-f]{64})?$",
        description="sha256 of the JPEG on /crop/0, which shows the worst defect; empty when there is no crop.",
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        for key, value, rules in _CONSEQUENCES:
            if getattr(self, key) == value:
                for other, rule in rules.items():
                    self._check(other, rule, f"{key} {value}")
        return self

    def _check(self, key: str, rule: dict[str, Any], cause: str) -> None:
        value = getattr(self, key)
        if value != rule.get("const", value) or ("minLength" in rule and len(value) < rule["minLength"]):
            raise ValueError(f"{key}: {value!r} contradicts {cause}")


def verdict_schema() -> dict[str, Any]:
    """JSON Schema, draft 2020-12, of the payload."""
    written = VerdictPayload.model_json_schema()
    properties = {
        key: {name: value for name, value in rule.items() if name != "title"}
        for key, rule in written["properties"].items()
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:patchline:verdict:1",
        "title": "Patchline verdict, version 1",
        "description": "One answer to one frame, published on <root>/<site>/<line>/<station>/verdict: a flat object of "
        "at most 1024 bytes in UTF-8. Keys never change type, are never missing and never null.",
        "type": "object",
        "properties": properties,
        "required": written["required"],
        "additionalProperties": False,
        "allOf": [
            {
                "if": {"properties": {key: {"const": value}}, "required": [key]},
                "then": {"properties": rules},
            }
            for key, value, rules in _CONSEQUENCES
        ],
    }


def schema_text() -> str:
    """`edge/verdict.schema.json`, whole."""
    return json.dumps(verdict_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
