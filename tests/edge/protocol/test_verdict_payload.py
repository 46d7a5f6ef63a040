"""The model of a verdict's payload, the schema that it writes, and the payloads that a station sends agree."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import edge
from edge.protocol.messages import verdict_message, verdict_payload
from edge.protocol.verdict_payload import VerdictPayload, schema_text
from edge.records import Outcome, Reason, Verdict
from tests.edge.protocol.test_messages import FAIL, NO_RESULT, PASS, TOPICS, VALIDATOR, verdicts

FILE = Path(edge.__file__).with_name("verdict.schema.json")


def test_the_schema_that_is_shipped_is_what_the_model_writes() -> None:
    assert FILE.read_text(encoding="utf-8") == schema_text()
    module = "edge.protocol.verdict_payload"
    done = subprocess.run([sys.executable, "-m", module], capture_output=True, text=True, check=True)
    assert done.stdout == schema_text()


@given(verdicts, st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1), st.booleans())
def test_every_payload_of_a_station_keeps_to_the_model_in_its_order(
    verdict: Verdict, epoch: int, seq: int, backlog: bool
) -> None:
    payload = json.loads(verdict_message(TOPICS, verdict, epoch, seq, backlog=backlog).payload)
    assert VerdictPayload.model_validate(payload).model_dump() == payload
    assert list(payload) == list(VerdictPayload.model_fields)


def test_the_words_of_the_model_are_those_of_the_records() -> None:
    for key, words in (("verdict", Outcome), ("reason", Reason)):
        assert set(get_args(VerdictPayload.model_fields[key].annotation)) == {word.value for word in words}


BASES = {verdict.outcome: verdict_payload("station_7", verdict, 5, 9) for verdict in (PASS, FAIL, NO_RESULT)}
KEYS = sorted(BASES[Outcome.PASS])
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 2),
    st.integers(),
    st.sampled_from([word.value for word in (*Outcome, *Reason)]),
    st.text(max_size=70).filter(
        lambda text: not text.endswith("\n")
    ),  # which Python's $ overlooks, and JSON's does not
    st.floats(allow_nan=False, allow_infinity=False).filter(lambda number: not number.is_integer()),
)


@given(st.sampled_from(list(BASES.values())), st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3))
def test_the_model_refuses_what_the_schema_refuses_and_nothing_else(
    base: dict[str, Any], changes: dict[str, object]
) -> None:
    assert accepts(base | changes) == VALIDATOR.is_valid(base | changes)


def accepts(values: dict[str, Any]) -> bool:
    try:
        VerdictPayload.model_validate(values)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize("key", ["v", "ok", "backlog"])
@pytest.mark.parametrize("value", [True, 1.0])
def test_what_only_equals_a_number_is_refused(key: Literal["v", "ok", "backlog"], value: object) -> None:
    assert accepts(BASES[Outcome.PASS])
    assert not accepts(BASES[Outcome.PASS] | {key: value})
