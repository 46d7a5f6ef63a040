"""One connection after the other, for as long as nobody says stop: back-off, wake-ups, one thread."""

from __future__ import annotations

import contextlib
import logging
import random
import socket
import threading
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Protocol

from edge.errors import PatchlineError, SettingsError
from edge.publishers.mqtt.connection import FAREWELL_S, Connection
from edge.publishers.mqtt.events import Event
from edge.publishers.mqtt.reporter import STABLE_S

FIRST_DELAY_S = 0.25
LONGEST_DELAY_S = 15.0
TICK_S = 0.5  # how late the keep-alive may be noticed


class BackOff:
    """Pauses that grow, and are spread so that stations do not return in step."""

    def __init__(self) -> None:
        self._delay_s = FIRST_DELAY_S

    def next_s(self) -> float:
        """Between half of this pause and all of it; the next one is twice as long."""
        delay_s, self._delay_s = self._delay_s, min(2 * self._delay_s, LONGEST_DELAY_S)
        return delay_s * random.uniform(0.5, 1.0)  # noqa: S311 — spreads load; nothing is secret

    def reset(self) -> None:
        """All is well: begin anew."""
        self._delay_s = FIRST_DELAY_S


class Wakeup:
    """Ends the network thread's waiting from any thread."""

    def __init__(self) -> None:
        self.receiver, self._sender = socket.socketpair()
        self.receiver.setblocking(False)
        self._sender.setblocking(False)

    def send(self) -> None:
        """A byte to the receiver."""
        with contextlib.suppress(OSError):  # full: it is awake already; closed: nobody is left to wake
            self._sender.send(b"\0")

    def close(self) -> None:
        """Nobody waits any more."""
        self._sender.close()
        self.receiver.close()


class Speaker(Protocol):
    """Who speaks over the connections. Called from one thread."""

    packets: int  # read at once, if they are there already

    def connect(self) -> Connection:
        """Begin the next connection.

        Raises:
            SettingsError: a certificate, key or password file cannot be used.
            OSError: nobody answers, or not whom we trust.
            ValueError: the host is no valid name.
        """
        ...

    def take(self, events: Sequence[Event], connection: Connection) -> None:
        """What has happened."""
        ...

    def work(self, connection: Connection) -> bool:
        """Say what is due. False: this connection is of no use any more."""
        ...

    def patience_s(self) -> float:
        """How long to wait for the network."""
        ...

    def part(self) -> None:
        """There is no connection any more, whatever ended it."""
        ...

    def complain(self, error: SettingsError | OSError | ValueError) -> None:
        """There is no connection, and why."""
        ...


class Ending(Protocol):
    """When it is enough; `threading.Event` is one."""

    def is_set(self) -> bool:
        """Now."""
        ...

    def wait(self, timeout: float) -> bool:
        """Up to so many seconds."""
        ...


def keep_connected(speaker: Speaker, ending: Ending, hold: Callable[[Speaker], None] | None = None) -> None:
    """Hold one connection after the other until `ending` is set.

    Args:
        speaker: who speaks.
        ending: ends the back-off too.
        hold: instead of `hold_connection`.

    Raises:
        PatchlineError: the speaker's own, other than SettingsError.
    """
    back_off = BackOff()
    while not ending.is_set():
        began_s = monotonic()
        try:
            (hold or hold_connection)(speaker)
        except SettingsError as error:
            speaker.complain(error)
        except PatchlineError:
            raise
        except (OSError, ValueError) as error:
            speaker.complain(error)
        finally:
            speaker.part()
        if monotonic() - began_s >= STABLE_S:
            back_off.reset()
        if not ending.is_set():
            ending.wait(back_off.next_s())


def hold_connection(speaker: Speaker) -> None:
    """Connect, and stay until the connection ends; see `Speaker.connect` for the errors."""
    connection = speaker.connect()
    try:
        is_open = True
        while is_open:
            is_open = connection.loop(speaker.patience_s(), speaker.packets)
            speaker.take(connection.take_events(), connection)
            is_open = is_open and speaker.work(connection)
    finally:
        connection.abort()


class ConnectionThread:
    """The thread that keeps one speaker connected, from `start` to `close`."""

    def __init__(self, name: str, log: logging.Logger, address: str) -> None:
        """Not started yet.

        Args:
            name: of the thread.
            log: gets the traceback of a fault of ours.
            address: of the broker, for the log.
        """
        self.wakeup = Wakeup()
        self._name = name
        self._log = log
        self._address = address
        self._closing = threading.Event()
        self._close_by_s = 0.0
        self._thread: threading.Thread | None = None

    @property
    def alive(self) -> bool:
        """It is running; False before `start` and after `close`."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def closing(self) -> bool:
        """`close` was called."""
        return self._closing.is_set()

    @property
    def left_s(self) -> float:
        """How much of the time for closing is left; only while closing."""
        return max(0.0, self._close_by_s - monotonic())

    def start(self, speaker: Speaker) -> None:
        """Begin to connect."""
        self._thread = threading.Thread(target=self._run, args=(speaker,), name=self._name, daemon=True)
        self._thread.start()

    def patience_s(self) -> float:
        """`TICK_S`, but not beyond the end of closing."""
        return min(TICK_S, self.left_s) if self.closing else TICK_S

    def close(self, timeout_s: float) -> None:
        """End within `timeout_s` seconds, or a little more. May be called twice."""
        if not self._closing.is_set():
            self._close_by_s = monotonic() + timeout_s
            self._closing.set()
            self.wakeup.send()
        if self._thread is not None:
            self._thread.join(timeout_s + FAREWELL_S + 2 * TICK_S)
        if self.alive:
            self._log.warning("%s: still connecting; left behind", self._address)
            return
        self.wakeup.close()

    def _run(self, speaker: Speaker) -> None:
        keep_connected(speaker, self._closing, self._hold)

    def _hold(self, speaker: Speaker) -> None:
        try:
            hold_connection(speaker)
        except (PatchlineError, OSError, ValueError):
            raise
        except Exception:
            log = self._log
            log.exception("%s: the connection ended by a fault of ours", self._address)
