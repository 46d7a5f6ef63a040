"""Is the service alive? Heartbeats of its threads, and what systemd hears of them (sd_notify(3))."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping


class Heartbeat:
    """When a thread last made progress, or rightly had nothing to do."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def beat(self) -> None:
        """Say so."""
        self._last = time.monotonic()

    def age_s(self) -> float:
        """Seconds since the last beat."""
        return time.monotonic() - self._last


def stalled(heartbeats: Mapping[str, Heartbeat], limit_s: float) -> tuple[str, ...]:
    """Names of the threads without a beat for longer than `limit_s`."""
    return tuple(name for name, heartbeat in heartbeats.items() if heartbeat.age_s() > limit_s)


class SystemdNotifier:
    """Tells systemd READY, STOPPING and WATCHDOG; does nothing where systemd does not listen."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")

    def notify(self, state: str) -> None:
        """Send one state, such as `READY=1`. A socket that is gone is no reason to stop inspecting."""
        if not self._address:
            return
        # A leading @ means Linux' abstract namespace, written as a NUL byte in the address.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.sendto(state.encode(), address)
        except OSError:
            return
