"""Every trigger that is accepted gets exactly one answer, whatever comes in whatever order."""

from __future__ import annotations

from collections import Counter

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge.line.triggers import Miss, Triggers
from edge.records import FrameIdentity, Reason

DEADLINE_S = 1.0
MOST = 3


def frame(sequence: int, captured_s: float, part_id: str = "") -> FrameIdentity:
    return FrameIdentity(sequence=sequence, captured_at_s=0.0, captured_monotonic_s=captured_s, part_id=part_id)


def reasons(missed: list[Miss]) -> list[tuple[str, Reason]]:
    return [(miss.ticket.trigger_id, miss.reason) for miss in missed]


def test_a_trigger_gets_the_first_frame_captured_after_it_and_that_frames_verdict() -> None:
    triggers = Triggers(DEADLINE_S, MOST)
    assert triggers.arrive("17", "bottle-17", arrived_s=5.0) is None

    assert triggers.take_frame(frame(1, captured_s=4.9)) is None
    taken = triggers.take_frame(frame(2, captured_s=5.1))
    assert taken is not None
    assert (taken.sequence, taken.trigger_id, taken.part_id) == (2, "17", "bottle-17")
    assert triggers.take_frame(frame(3, captured_s=5.2)) is None
    assert triggers.answer(taken, now_s=5.3)
    assert not triggers.answer(taken, now_s=5.3)
    assert len(triggers) == 0


def test_a_trigger_without_a_part_id_keeps_the_frames() -> None:
    triggers = Triggers(DEADLINE_S, MOST)
    triggers.arrive("17", "", arrived_s=5.0)

    taken = triggers.take_frame(frame(1, 5.0, part_id="sim-1"))
    assert taken is not None
    assert taken.part_id == "sim-1"


def test_no_frame_by_the_deadline_is_camera_stale() -> None:
    triggers = Triggers(DEADLINE_S, MOST)
    triggers.arrive("17", "", arrived_s=5.0)
    triggers.take_frame(frame(1, captured_s=4.0))

    assert triggers.expire(now_s=5.99) == []
    assert reasons(triggers.expire(now_s=6.0)) == [("17", Reason.CAMERA_STALE)]


def test_a_frame_that_is_not_judged_by_the_deadline_is_deadline_missed_and_its_verdict_too_late() -> None:
    triggers = Triggers(DEADLINE_S, MOST)
    triggers.arrive("17", "", arrived_s=5.0)
    taken = triggers.take_frame(frame(1, captured_s=5.5))
    assert taken is not None

    assert not triggers.answer(taken, now_s=6.0)  # late, even where the deadline itself has not been told yet
    (miss,) = triggers.expire(now_s=6.0)
    assert (miss.reason, miss.frame) == (Reason.DEADLINE_MISSED, taken)
    assert not triggers.answer(taken, now_s=6.1)


def test_a_late_verdict_does_not_answer_a_newer_trigger_of_the_same_id() -> None:
    triggers = Triggers(DEADLINE_S, MOST)
    triggers.arrive("17", "", arrived_s=5.0)
    old = triggers.take_frame(frame(1, captured_s=5.5))
    assert old is not None
    triggers.expire(now_s=6.0)
    triggers.arrive("17", "", arrived_s=6.1)
    new = triggers.take_frame(frame(2, captured_s=6.2))
    assert new is not None

    assert not triggers.answer(old, now_s=6.3)
    assert triggers.answer(new, now_s=6.4)


def test_two_triggers_never_share_a_frame_and_one_that_gets_none_for_that_is_overrun() -> None:
    triggers = Triggers(DEADLINE_S, MOST)
    triggers.arrive("1", "", arrived_s=5.0)
    triggers.arrive("2", "", arrived_s=5.1)
    taken = triggers.take_frame(frame(1, captured_s=5.2))
    assert taken is not None
    assert taken.trigger_id == "1"
    assert triggers.answer(taken, now_s=5.3)

    assert reasons(triggers.expire(now_s=7.0)) == [("2", Reason.OVERRUN)]


def test_one_trigger_too_many_is_answered_overrun_at_once() -> None:
    triggers = Triggers(DEADLINE_S, most=1)
    triggers.arrive("1", "", arrived_s=5.0)

    miss = triggers.arrive("2", "p", arrived_s=5.0)
    assert miss is not None
    assert (miss.ticket.trigger_id, miss.ticket.part_id, miss.reason) == ("2", "p", Reason.OVERRUN)
    assert len(triggers) == 1


class Line(RuleBasedStateMachine):
    """Any interleaving of triggers, frames, verdicts, deadlines and the end."""

    def __init__(self) -> None:
        super().__init__()
        self.triggers = Triggers(DEADLINE_S, MOST)
        self.now_s = 0.0
        self.frames = 0
        self.accepted = 0
        self.arrived_s: dict[str, float] = {}
        self.answers: Counter[str] = Counter()
        self.in_inspection: list[FrameIdentity] = []
        self.taken: list[str] = []
        self.ended = False

    @precondition(lambda self: not self.ended)
    @rule()
    def trigger_arrives(self) -> None:
        trigger_id = str(self.accepted)
        self.accepted += 1
        self.arrived_s[trigger_id] = self.now_s
        room = len(self.triggers) < MOST
        miss = self.triggers.arrive(trigger_id, "", self.now_s)
        assert (miss is None) == room
        if miss is not None:
            assert miss.reason is Reason.OVERRUN
            self.answers[trigger_id] += 1

    @precondition(lambda self: not self.ended)
    @rule(age_s=st.sampled_from([0.0, 0.1, 0.6]))
    def frame_comes(self, age_s: float) -> None:
        waiting = self.triggers.waiting
        taken = self.triggers.take_frame(frame(self.frames, self.now_s - age_s))
        self.frames += 1
        if taken is None:
            assert waiting == 0 or age_s > 0
            return
        assert self.triggers.waiting == waiting - 1
        assert self.arrived_s[taken.trigger_id] <= taken.captured_monotonic_s
        self.taken.append(taken.trigger_id)
        self.in_inspection.append(taken)

    @precondition(lambda self: self.in_inspection)
    @rule(which=st.integers(0, 99))
    def verdict_comes(self, which: int) -> None:
        identity = self.in_inspection.pop(which % len(self.in_inspection))
        due_s = self.arrived_s[identity.trigger_id] + DEADLINE_S
        counted = self.triggers.answer(identity, self.now_s)
        assert not (counted and self.now_s >= due_s)
        self.answers[identity.trigger_id] += counted

    @rule(by_s=st.sampled_from([0.01, 0.3, 1.5]))
    def time_passes(self, by_s: float) -> None:
        self.now_s += by_s

    @rule()
    def deadlines_are_told(self) -> None:
        self.count(self.triggers.expire(self.now_s))
        assert self.triggers.due_s is None or self.triggers.due_s > self.now_s

    @rule()
    def capture_ends(self) -> None:
        self.ended = True
        self.count(self.triggers.give_up_waiting("the end"))
        assert self.triggers.waiting == 0

    def count(self, missed: list[Miss]) -> None:
        for miss in missed:
            self.answers[miss.ticket.trigger_id] += 1

    @invariant()
    def never_two_answers_and_none_forgotten(self) -> None:
        assert all(count == 1 for count in self.answers.values() if count)
        assert self.answers.total() + len(self.triggers) == self.accepted
        assert len(self.triggers) <= MOST

    @invariant()
    def frames_go_to_triggers_in_order_of_arrival(self) -> None:
        assert self.taken == sorted(self.taken, key=int)

    def teardown(self) -> None:
        self.count(self.triggers.give_up("the end"))
        assert len(self.triggers) == 0
        assert self.answers == Counter({str(number): 1 for number in range(self.accepted)})


TestLine = Line.TestCase
