from __future__ import annotations

import threading

from edge.health.supervision import Heartbeat
from edge.line.buffer import Buffer, WhenFull
from edge.line.drain import Drain, hand_over


def test_whoever_begins_first_sets_the_end() -> None:
    drain = Drain(60.0)
    ends_at_s = drain.begin()
    assert drain.begin() == ends_at_s
    assert not drain.over


def test_what_is_not_begun_is_never_over_and_then_only_at_the_end() -> None:
    drain = Drain(0.0)
    over = [drain.over]
    drain.begin()
    over.append(drain.over)
    assert over == [False, True]


def test_handing_over_waits_for_room_and_gives_up_when_draining_is_over() -> None:
    buffer: Buffer[int] = Buffer(1, WhenFull.BLOCK)
    drain = Drain(0.0)
    assert hand_over(buffer, 1, Heartbeat(), drain)
    waiting = threading.Thread(target=hand_over, args=(buffer, 2, Heartbeat(), drain))
    waiting.start()
    assert buffer.get(60.0) == 1
    waiting.join(60.0)
    assert len(buffer) == 1
    drain.begin()
    assert not hand_over(buffer, 3, Heartbeat(), drain)
    assert buffer.get(0) == 2
