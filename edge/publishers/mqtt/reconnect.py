"""One connection after the other, for as long as nobody says stop: back-off, wake-ups, one line for each change."""

from __future__ import annotations

import contextlib
import logging
import random
import socket
import threading
from collections.abc import Callable
from time import monotonic

from edge.errors import SettingsError
from edge.publishers.mqtt.credentials import explain

FIRST_DELAY_S = 0.25
LONGEST_DELAY_S = 15.0
STABLE_S = 10.0  # a connection that lasted this long starts the back-off anew


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


def keep_connected(
    hold: Callable[[], None],
    part: Callable[[], None],
    say: Callable[[int, str], None],
    closing: threading.Event,
    *,
    address: str,
    log: logging.Logger,
) -> None:
    """Hold one connection after the other until `closing` is set.

    Args:
        hold: connects, and stays until the connection ends; raises SettingsError, OSError or ValueError.
        part: called after each, whatever ended it.
        say: told (level, state) why there is none.
        closing: ends the back-off too.
        address: of the broker.
        log: gets the traceback of a fault of ours.
    """
    delay_s = FIRST_DELAY_S
    while not closing.is_set():
        began_s = monotonic()
        try:
            hold()
        except SettingsError as error:
            say(logging.ERROR, str(error))
        except (OSError, ValueError) as error:
            say(logging.WARNING, f"cannot connect: {explain(error)}")
        except Exception:
            log.exception("%s: the connection ended by a fault of ours", address)
        part()
        if monotonic() - began_s >= STABLE_S:
            delay_s = FIRST_DELAY_S
        closing.wait(jittered(delay_s))
        delay_s = min(2 * delay_s, LONGEST_DELAY_S)


def jittered(delay_s: float) -> float:
    """Between half of `delay_s` and all of it, so that stations do not return in step."""
    return delay_s * random.uniform(0.5, 1.0)  # noqa: S311 — spreads load; nothing is secret
