"""Who is let in, and whose verdict counts."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from edge.line.gate import Gate
from edge.protocol.commands import Trigger
from edge.records import Frame, FrameIdentity, Reason
from edge.settings.sections import InspectionSettings

FREE = InspectionSettings()
TRIGGERED = InspectionSettings(trigger="command", deadline_ms=500, max_triggers=2)


class Clock:
    """Monotonic seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def frame(sequence: int, captured_s: float) -> Frame:
    identity = FrameIdentity(sequence=sequence, captured_at_s=0.0, captured_monotonic_s=captured_s, part_id="own")
    return Frame(identity, np.zeros((1, 1, 3), np.uint8))


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_free_running_every_frame_passes_and_every_verdict_counts(clock: Clock) -> None:
    gate = Gate(FREE, live=True, clock=clock)
    captured = frame(1, 0.0)

    assert gate.wants_frame(0)
    admitted = gate.admit(captured)
    assert admitted is not None
    assert admitted.identity == captured.identity
    assert gate.why_late(captured.identity) == ""
    assert gate.claim(captured.identity)
    assert gate.report() == {"paused": 0, "frames_skipped": 0}


def test_free_running_a_deadline_counts_from_the_capture(clock: Clock) -> None:
    gate = Gate(InspectionSettings(deadline_ms=500), live=True, clock=clock)
    identity = frame(1, clock.now_s).identity

    clock.now_s += 0.5
    assert gate.why_late(identity) == ""
    clock.now_s += 0.001
    assert gate.why_late(identity) == "not judged within 500 ms"
    assert gate.claim(identity)  # it is answered, by NO_RESULT


def test_paused_a_live_source_is_read_and_its_frames_are_skipped(clock: Clock) -> None:
    gate = Gate(FREE, live=True, clock=clock)
    gate.pause(paused=True)

    assert gate.wants_frame(0)
    assert gate.admit(frame(1, 0.0)) is None
    assert gate.report() == {"paused": 1, "frames_skipped": 1}
    gate.pause(paused=False)
    assert gate.admit(frame(2, 0.0)) is not None


def test_paused_files_wait_until_resumed(clock: Clock) -> None:
    gate = Gate(FREE, live=False, clock=clock)
    gate.pause(paused=True)
    assert not gate.wants_frame(0)

    threading.Timer(0.05, lambda: gate.pause(paused=False)).start()
    assert gate.wants_frame(20)


def test_triggered_files_wait_for_a_trigger(clock: Clock) -> None:
    gate = Gate(TRIGGERED, live=False, clock=clock)
    assert not gate.wants_frame(0)

    assert gate.trigger(Trigger(trigger_id="17"), clock.now_s) == ""
    assert gate.wants_frame(0)
    assert gate.admit(frame(1, clock.now_s)) is not None
    assert not gate.wants_frame(0)


def test_triggered_only_the_frame_that_a_trigger_waits_for_passes(clock: Clock) -> None:
    gate = Gate(TRIGGERED, live=True, clock=clock)
    assert gate.admit(frame(1, clock.now_s)) is None
    gate.trigger(Trigger(trigger_id="17", part_id="bottle"), clock.now_s)

    assert gate.admit(frame(2, clock.now_s - 0.1)) is None
    admitted = gate.admit(frame(3, clock.now_s + 0.1))
    assert admitted is not None
    assert (admitted.identity.trigger_id, admitted.identity.part_id) == ("17", "bottle")
    assert gate.admit(frame(4, clock.now_s + 0.2)) is None
    assert gate.claim(admitted.identity)
    assert not gate.claim(admitted.identity)
    assert gate.report() == {
        "paused": 0,
        "frames_skipped": 3,
        "triggers": 1,
        "triggers_open": 0,
        "verdicts_too_late": 1,
    }


def test_at_the_deadline_the_trigger_is_missed_and_its_verdict_does_not_count(clock: Clock) -> None:
    gate = Gate(TRIGGERED, live=True, clock=clock)
    gate.trigger(Trigger(trigger_id="17"), clock.now_s)
    admitted = gate.admit(frame(1, clock.now_s))
    assert admitted is not None
    assert gate.patience_s(10) == 0.5
    assert gate.why_late(admitted.identity) == ""

    clock.now_s += 0.5
    assert gate.patience_s(10) == 0
    assert gate.why_late(admitted.identity) == "not judged within 500 ms"
    assert not gate.claim(admitted.identity)
    (miss,) = gate.take_missed()
    assert (miss.frame, miss.reason) == (admitted.identity, Reason.DEADLINE_MISSED)
    assert gate.take_missed() == []


@pytest.mark.parametrize(
    ("settings", "prepare", "complaint"),
    [
        (FREE, lambda _: None, "inspection.trigger is free"),
        (TRIGGERED, lambda gate: gate.pause(paused=True), "paused"),
        (TRIGGERED, lambda gate: gate.end_capture(), "stopping"),
        (TRIGGERED, lambda gate: gate.trigger(Trigger(trigger_id="17"), 100.0), "not answered yet"),
    ],
)
def test_a_trigger_that_cannot_be_answered_is_refused(
    settings: InspectionSettings, prepare: object, complaint: str
) -> None:
    gate = Gate(settings, live=True, clock=Clock())
    assert callable(prepare)
    prepare(gate)

    assert complaint in gate.trigger(Trigger(trigger_id="17"), 100.0)


def test_what_was_accepted_before_a_pause_is_still_judged(clock: Clock) -> None:
    gate = Gate(TRIGGERED, live=True, clock=clock)
    gate.trigger(Trigger(trigger_id="17"), clock.now_s)
    gate.pause(paused=True)

    admitted = gate.admit(frame(1, clock.now_s))
    assert admitted is not None
    assert gate.claim(admitted.identity)


def test_the_end_answers_whoever_waits_and_whoever_was_not_judged(clock: Clock) -> None:
    gate = Gate(TRIGGERED, live=True, clock=clock)
    gate.trigger(Trigger(trigger_id="1"), clock.now_s)
    gate.admit(frame(1, clock.now_s))
    gate.trigger(Trigger(trigger_id="2"), clock.now_s)
    gate.trigger(Trigger(trigger_id="3"), clock.now_s)

    gate.end_capture()
    gate.end_inspection()
    answers = {miss.ticket.trigger_id: miss.reason for miss in gate.take_missed()}
    assert answers == {"1": Reason.INTERNAL_ERROR, "2": Reason.CAMERA_STALE, "3": Reason.OVERRUN}
