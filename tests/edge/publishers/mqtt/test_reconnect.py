from __future__ import annotations

import logging
import select
import threading
from collections.abc import Callable

import pytest

from edge.errors import SettingsError
from edge.publishers.mqtt.reconnect import FIRST_DELAY_S, LONGEST_DELAY_S, Wakeup, jittered, keep_connected

LOG = logging.getLogger("test.keeping")


class Closing(threading.Event):
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


def keep(hold: Callable[[], None], rounds: int) -> tuple[list[str], list[float], int]:
    """What was said, the pauses, and how often it parted."""
    said: list[str] = []
    parted: list[None] = []
    closing = Closing(rounds)
    keep_connected(
        hold,
        lambda: parted.append(None),
        lambda level, state: said.append(f"{logging.getLevelName(level)} {state}"),
        closing,
        address="broker:1883",
        log=LOG,
    )
    return said, closing.waits, len(parted)


def test_pauses_grow_up_to_a_limit_while_nobody_answers() -> None:
    def refuse() -> None:
        raise ConnectionRefusedError(111, "Connection refused")

    said, waits, parted = keep(refuse, 12)
    assert set(said) == {"WARNING cannot connect: Connection refused"}
    assert parted == 12
    for number, waited in enumerate(waits):
        full = min(FIRST_DELAY_S * 2**number, LONGEST_DELAY_S)
        assert full / 2 <= waited <= full


def test_unusable_files_are_an_error_and_tried_again() -> None:
    def unusable() -> None:
        raise SettingsError("mqtt.ca_file: cannot be used")

    said, _, parted = keep(unusable, 3)
    assert said == ["ERROR mqtt.ca_file: cannot be used"] * 3
    assert parted == 3


def test_a_fault_of_ours_leaves_its_traceback_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def stumble() -> None:
        raise KeyError("ours")

    with caplog.at_level(logging.ERROR, LOG.name):
        said, _, parted = keep(stumble, 2)
    assert said == []
    assert parted == 2
    assert "broker:1883: the connection ended by a fault of ours" in caplog.text
    assert "KeyError: 'ours'" in caplog.text


def test_nothing_begins_when_it_is_closing_already() -> None:
    closing = threading.Event()
    closing.set()

    def begin() -> None:
        raise AssertionError

    keep_connected(begin, begin, lambda *_: None, closing, address="broker:1883", log=LOG)


def test_a_wake_up_ends_a_wait_and_never_blocks() -> None:
    wakeup = Wakeup()
    assert select.select([wakeup.receiver], [], [], 0)[0] == []
    for _ in range(100_000):  # far more than a socket holds
        wakeup.send()
    assert select.select([wakeup.receiver], [], [], 0)[0] == [wakeup.receiver]
    wakeup.close()
    wakeup.send()


def test_delays_are_spread() -> None:
    assert len({jittered(1.0) for _ in range(10)}) > 1
