from __future__ import annotations

import logging
import select
import threading
from collections.abc import Callable, Sequence

import pytest

from benchmarks.rig.brokers import wait_until
from edge.errors import DeliveryError, SettingsError
from edge.publishers.mqtt.connection import Connection
from edge.publishers.mqtt.events import Event
from edge.publishers.mqtt.reconnect import (
    FIRST_DELAY_S,
    LONGEST_DELAY_S,
    BackOff,
    ConnectionThread,
    Wakeup,
    keep_connected,
)

LOG = logging.getLogger("test.reconnect")


class Ending(threading.Event):
    """Waits no time at all, remembers for how long it should have, and is set after so many waits."""

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self.waits: list[float] = []
        self.rounds = rounds

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        if len(self.waits) == self.rounds:
            self.set()
        return self.is_set()


class Speaker:
    """Never gets as far as a connection."""

    packets = 1

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self.complaints: list[str] = []
        self.parted = 0
        self._connect = connect

    def connect(self) -> Connection:
        return self._connect()

    def take(self, events: Sequence[Event], connection: Connection) -> None:  # noqa: ARG002
        raise AssertionError

    def work(self, connection: Connection) -> bool:  # noqa: ARG002
        raise AssertionError

    def patience_s(self) -> float:
        raise AssertionError

    def part(self) -> None:
        self.parted += 1

    def complain(self, error: SettingsError | OSError | ValueError) -> None:
        self.complaints.append(str(error))


def failing(error: Exception) -> Speaker:
    def fail() -> Connection:
        raise error

    return Speaker(fail)


@pytest.mark.parametrize(
    "error",
    [ConnectionRefusedError(111, "refused"), SettingsError("mqtt.ca_file: cannot be used"), ValueError("no name")],
)
def test_pauses_grow_up_to_a_limit_while_there_is_no_connection(error: Exception) -> None:
    speaker, ending = failing(error), Ending(12)
    keep_connected(speaker, ending)

    assert speaker.complaints == [str(error)] * 12
    assert speaker.parted == 12
    for number, waited in enumerate(ending.waits):
        full = min(FIRST_DELAY_S * 2**number, LONGEST_DELAY_S)
        assert full / 2 <= waited <= full


def test_what_waiting_does_not_mend_ends_it() -> None:
    speaker = failing(DeliveryError("not authorized"))
    with pytest.raises(DeliveryError, match="not authorized"):
        keep_connected(speaker, threading.Event())
    assert speaker.parted == 1


def test_a_fault_of_ours_leaves_its_traceback_and_ends_no_thread(caplog: pytest.LogCaptureFixture) -> None:
    speaker = failing(KeyError("ours"))
    thread = ConnectionThread("test", LOG, "broker:1883")
    thread.start(speaker)
    wait_until(lambda: speaker.parted >= 2, "it tries again")
    thread.close(1.0)

    assert not thread.alive
    assert speaker.complaints == []
    assert "broker:1883: the connection ended by a fault of ours" in caplog.text
    assert "KeyError: 'ours'" in caplog.text


def test_nothing_begins_when_it_is_over_already() -> None:
    ending = threading.Event()
    ending.set()
    speaker = failing(AssertionError())

    keep_connected(speaker, ending)
    assert speaker.parted == 0


def test_a_wake_up_ends_a_wait_and_never_blocks() -> None:
    wakeup = Wakeup()
    assert select.select([wakeup.receiver], [], [], 0)[0] == []
    for _ in range(100_000):  # far more than a socket holds
        wakeup.send()
    assert select.select([wakeup.receiver], [], [], 0)[0] == [wakeup.receiver]
    wakeup.close()
    wakeup.send()


def test_pauses_are_spread_and_begin_anew() -> None:
    firsts = set()
    for _ in range(10):
        back_off = BackOff()
        for _ in range(20):
            back_off.next_s()
        back_off.reset()
        firsts.add(back_off.next_s())
    assert len(firsts) > 1
    assert max(firsts) <= FIRST_DELAY_S
