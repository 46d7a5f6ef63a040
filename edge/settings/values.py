"""What single settings may be, and a table of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from edge.records import DEVICE_PATTERN, DEVICES

# The topic alphabet: safe in every broker, PLC client and file name.
TOPIC_LEVEL = r"^[A-Za-z0-9_-]{1,60}$"
# Sparkplug 3.0, section 4.1: any UTF-8 but + / #. Control characters are left out too: no host shows them.
SPARKPLUG_ID = r"^[^+/#\x00-\x1f\x7f]{0,60}$"
# An answer's topic is chosen by whoever sends a command: nothing in it may upset a broker.
RESPONSE_PREFIX = r"^([A-Za-z0-9_.-]+/)*$"
MQTT_STRING_BYTES = 65_535  # MQTT 5, section 1.5.4
MQTT_SECONDS = 2**32 - 1  # MQTT 5: expiry intervals are four bytes; the largest of a session means for ever
# More than any machine has cores; OpenVINO starts two to four threads for each one asked for.
MOST_THREADS = 256
LARGEST_SIDE = 65_535  # of a frame: JPEG's own limit
YEAR_S = 365 * 86_400

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def _printable(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("expected printable characters")
    if len(text.encode("utf-8", "surrogateescape")) > MQTT_STRING_BYTES:
        raise ValueError(f"expected at most {MQTT_STRING_BYTES} bytes, got {len(text)} characters")
    return text


def _device(name: str) -> str:
    if re.fullmatch(DEVICE_PATTERN, name) is None:
        raise ValueError(f"expected {DEVICES}")
    return name


# A text that goes to a broker, a camera or a log.
Text = Annotated[str, AfterValidator(_printable)]
Device = Annotated[str, AfterValidator(_device)]
TopicLevel = Annotated[str, Field(pattern=TOPIC_LEVEL)]
SparkplugId = Annotated[str, Field(pattern=SPARKPLUG_ID)]
# A product's name in every verdict, which has at most a kilobyte.
RecipeName = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_printable)]
# A name or an address, of which a URL is neither.
Host = Annotated[str, Field(pattern=r"^[^\s/@\x00-\x1f\x7f]{0,253}$")]
Threads = Annotated[int, Field(ge=0, le=MOST_THREADS)]
Pixels = Annotated[int, Field(ge=32, le=LARGEST_SIDE)]


class Section(BaseModel):
    """A table of the settings file."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, table: object) -> object:
        """Python takes `true` for 1: a port of `true` would be port 1."""
        if not isinstance(table, Mapping):
            return table
        numbers = {name for name, info in cls.model_fields.items() if _is_number(info.annotation)}
        return {key: _spoken(value) if key in numbers else value for key, value in table.items()}


def _spoken(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


def _is_number(annotation: object) -> bool:
    return annotation is int or annotation is float or any(_is_number(part) for part in get_args(annotation))
