"""What is counted, logged and published of an answer is the same."""

from __future__ import annotations

import dataclasses
import logging
import math

import pytest

from edge.health.statistics import Statistics
from edge.health.supervision import Heartbeat
from edge.line.answers import Answers
from edge.line.buffer import Buffer, WhenFull
from edge.line.drain import Drain
from edge.protocol.messages import verdict_payload
from edge.records import Outcome, Reason, Verdict
from tests.edge.protocol.test_messages import FAIL, NO_RESULT, PASS


def make(capacity: int = 10, drain_timeout_s: float = 60.0) -> tuple[Answers, Buffer[Verdict], Statistics, Drain]:
    verdicts: Buffer[Verdict] = Buffer(capacity, WhenFull.BLOCK)
    statistics, drain = Statistics(), Drain(drain_timeout_s)
    return Answers(verdicts, statistics, drain), verdicts, statistics, drain


@pytest.mark.parametrize(
    "verdict",
    [
        dataclasses.replace(PASS, threshold=math.inf),
        dataclasses.replace(PASS, score=math.nan),
        dataclasses.replace(FAIL, defects=(dataclasses.replace(FAIL.defects[0], peak_score=math.nan),)),
    ],
    ids=["threshold", "score", "peak"],
)
def test_an_answer_that_is_published_as_no_result_is_counted_and_logged_as_one(
    verdict: Verdict, caplog: pytest.LogCaptureFixture
) -> None:
    answers, verdicts, statistics, _ = make()
    answers.give(verdict, Heartbeat())
    passed_on = verdicts.get(0)
    assert passed_on is not None
    payload = verdict_payload("station", passed_on, 1, 1)
    assert (payload["verdict"], passed_on.outcome) == ("NO_RESULT", Outcome.NO_RESULT)
    assert passed_on.crops == ()
    values = statistics.take()
    expected = {"frames": 1, "pass": 0, "fail": 0, "no_result": 1, "no_result_internal_error": 1}
    assert {name: values[name] for name in expected} == expected
    assert caplog.messages == ["frames cannot be judged"]


def test_reasons_are_logged_when_they_change_and_not_for_every_frame(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    answers, *_ = make(capacity=100)
    stale = dataclasses.replace(NO_RESULT, reason=Reason.CAMERA_STALE)
    for verdict in (PASS, NO_RESULT, NO_RESULT, stale, PASS, FAIL):
        answers.give(verdict, Heartbeat())
    reasons = [getattr(record, "fields", {})["reason"] for record in caplog.records]
    assert reasons == ["deadline_missed", "camera_stale", "none"]


def test_an_answer_without_room_until_draining_is_over_is_admitted() -> None:
    answers, _, _, drain = make(capacity=1, drain_timeout_s=0.0)
    answers.give(PASS, Heartbeat())
    drain.begin()
    answers.give(PASS, Heartbeat())
    assert answers.lost == 1
