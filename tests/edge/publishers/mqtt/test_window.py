from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge.publishers.mqtt.window import MAX_STRIKES, MAX_STRIKES_PROVEN, SMALL_BYTES, Held, Window
from edge.records import Message

LIMIT = 4
LARGE = 100_000  # bytes of a packet


def message(name: str) -> Message:
    return Message(topic=name, payload=b"", qos=1)


def hand_over(window: Window) -> list[Held]:
    """Everything the window lets go, with packet identifiers as a connection would give them."""
    sent = []
    while (held := window.next()) is not None:
        held.packet_id = id(held)
        sent.append(held)
    return sent


def names(sent: list[Held]) -> list[str]:
    return [held.message.topic for held in sent]


def filled(*topics: str, limit: int = LIMIT, size: int = LARGE) -> Window:
    window = Window(limit)
    for topic in topics:
        window.add(message(topic), size)
    return window


def test_messages_go_in_order_of_arrival_up_to_the_limit() -> None:
    window = filled("a", "b", "c", limit=2)

    assert names(hand_over(window)) == ["a", "b"]
    assert window.full


def test_an_answer_makes_room() -> None:
    window = filled("a", "b", "c", limit=2)
    first, _ = hand_over(window)

    assert first.packet_id is not None
    assert window.answered(first.packet_id) is first
    window.settle(first)

    assert names(hand_over(window)) == ["c"]
    assert len(window) == 2


def test_an_unknown_packet_identifier_answers_nothing() -> None:
    window = filled("a")
    hand_over(window)

    assert window.answered(-1) is None


def test_an_announcement_goes_before_everything() -> None:
    window = filled("a", "b")
    window.announce(message("online"), 30)

    assert names(hand_over(window)) == ["online", "a", "b"]


def test_what_is_put_back_goes_again_in_its_old_place() -> None:
    window = filled("a", "b", "c", limit=2)
    first, _ = hand_over(window)

    window.put_back(first)

    assert names(hand_over(window)) == ["a"]


def test_an_announcement_ends_with_its_connection() -> None:
    window = filled("a")
    window.announce(message("online"), 30)

    window.end_connection()

    assert names(hand_over(window)) == ["a"]


def test_after_a_lost_connection_the_unanswered_go_again_one_at_a_time_then_the_rest_together() -> None:
    window = filled("a", "b", limit=3)
    hand_over(window)
    window.end_connection()
    window.add(message("c"), LARGE)

    (first,) = hand_over(window)
    window.settle(first)
    (second,) = hand_over(window)
    window.add(message("d"), LARGE)
    window.settle(second)

    assert names([first, second]) == ["a", "b"]
    assert names(hand_over(window)) == ["c", "d"]


def test_a_message_that_ends_every_connection_is_given_up_and_its_neighbours_are_not() -> None:
    window = Window(LIMIT)
    for name, size in (("good", SMALL_BYTES), ("bad", LARGE), ("next", LARGE)):
        window.add(message(name), size)
    hand_over(window)
    assert window.end_connection() is None
    window.settle(hand_over(window)[0])

    ends = []
    for _ in range(MAX_STRIKES):
        assert names(hand_over(window)) == ["bad"]
        ends.append(window.end_connection())

    culprit = ends.pop()
    assert ends == [None, None]
    assert culprit is not None
    assert culprit.message.topic == "bad"
    assert names(hand_over(window)) == ["next"]


def strikes_until_given_up(window: Window, most: int) -> int:
    """Connections that end while one message alone is unanswered; `most`: it is not given up."""
    hand_over(window)
    window.end_connection()
    for strikes in range(1, most):
        hand_over(window)
        if window.end_connection() is not None:
            return strikes
    return most


def test_a_small_message_is_never_given_up_whatever_ends() -> None:
    assert strikes_until_given_up(filled("verdict", size=SMALL_BYTES), 1000) == 1000


def test_a_large_message_is_given_up_later_where_the_broker_took_one_as_large() -> None:
    assert strikes_until_given_up(filled("crop", size=SMALL_BYTES + 1), 1000) == MAX_STRIKES

    window = filled("crop", size=LARGE)
    window.settle(*hand_over(window))
    window.add(message("next"), LARGE)
    assert strikes_until_given_up(window, 1000) == MAX_STRIKES_PROVEN

    window.add(message("larger"), LARGE + 1)
    assert strikes_until_given_up(window, 1000) == MAX_STRIKES


def test_a_refusal_proves_nothing() -> None:
    window = filled("crop", size=LARGE)
    window.settle(*hand_over(window), accepted=False)
    window.add(message("next"), LARGE)

    assert strikes_until_given_up(window, 1000) == MAX_STRIKES


def test_connections_that_end_before_their_announcement_is_answered_blame_nobody() -> None:
    window = filled("a")
    hand_over(window)
    window.end_connection()

    for _ in range(2 * MAX_STRIKES):
        window.announce(message("online"), 30)
        assert names(hand_over(window)) == ["online"]
        assert window.end_connection() is None

    assert names(hand_over(window)) == ["a"]


def test_an_answer_is_owed_since_those_before_it_came() -> None:
    window = filled("a", "b", "c")
    assert window.owed_s(5.0) == 0

    first, second, third = hand_over(window)
    assert window.owed_s(10.0) == 0
    assert window.owed_s(17.0) == 7
    window.settle(first)
    assert window.owed_s(18.0) == 0
    window.settle(third)
    assert window.owed_s(24.0) == 6
    window.settle(second)
    assert window.owed_s(25.0) == 0


def test_what_is_taken_back_goes_again_all_at_once_and_is_never_blamed() -> None:
    window = filled("a", "b")
    for _ in range(2 * MAX_STRIKES):
        assert names(hand_over(window)) == ["a", "b"]
        assert window.take_back().message.topic == "a"
        assert window.end_connection() is None

    assert names(hand_over(window)) == ["a", "b"]


def test_a_suspect_that_is_taken_back_holds_up_nobody_any_more() -> None:
    window = filled("a")
    hand_over(window)
    window.end_connection()
    window.add(message("b"), LARGE)
    assert names(hand_over(window)) == ["a"]

    window.take_back()
    window.end_connection()

    assert names(hand_over(window)) == ["a", "b"]


def test_an_announcement_that_is_taken_back_ends_with_its_connection() -> None:
    window = filled("a")
    window.announce(message("online"), 30)
    hand_over(window)

    assert window.take_back().message.topic == "online"
    window.end_connection()

    assert names(hand_over(window)) == ["a"]


class AnyHistory(RuleBasedStateMachine):
    """Whatever brokers do, nothing is lost, repeated after its answer, or beyond the limit."""

    def __init__(self) -> None:
        super().__init__()
        self.window = Window(LIMIT)
        self.added = 0
        self.in_flight: list[Held] = []
        self.settled: list[int] = []
        self.first_sent: list[int] = []

    @precondition(lambda self: not self.window.full)
    @rule(size=st.sampled_from([SMALL_BYTES, SMALL_BYTES + 1, LARGE]))
    def send(self, size: int) -> None:
        self.window.add(message(str(self.added)), size)
        self.added += 1

    @rule()
    def pump(self) -> None:
        for held in hand_over(self.window):
            self.in_flight.append(held)
            number = int(held.message.topic)
            if number not in self.first_sent:
                self.first_sent.append(number)

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        held = self.in_flight.pop(data.draw(st.integers(0, len(self.in_flight) - 1)))
        self.window.settle(held)
        self.settled.append(int(held.message.topic))

    @precondition(lambda self: self.in_flight)
    @rule()
    def refuse_for_now(self) -> None:
        self.window.put_back(self.in_flight.pop(0))

    @rule()
    def lose_connection(self) -> None:
        self.in_flight.clear()
        culprit = self.window.end_connection()
        if culprit is not None:
            assert culprit.size > SMALL_BYTES
            self.settled.append(int(culprit.message.topic))

    @precondition(lambda self: self.in_flight)
    @rule()
    def give_up_connection(self) -> None:
        assert self.window.take_back() is self.in_flight[0]
        assert self.window.end_connection() is None
        self.in_flight.clear()

    @invariant()
    def never_beyond_the_limit(self) -> None:
        assert len(self.in_flight) <= LIMIT

    @invariant()
    def nothing_lost_or_settled_twice(self) -> None:
        assert len(set(self.settled)) == len(self.settled)
        assert len(self.window) + len(self.settled) == self.added

    @invariant()
    def first_sent_in_order_of_arrival(self) -> None:
        assert self.first_sent == list(range(len(self.first_sent)))


TestAnyHistory = AnyHistory.TestCase
