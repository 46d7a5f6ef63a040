"""The recording broker as tests hold it: a process of its own, the oracle of the fault tests.

What it acknowledged is in its log, whoever is killed when. It can be killed, frozen and started again on the same port
with other manners; its log goes on.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.rig.broker_log import Entry, EntryKind, Log, parse_lines
from benchmarks.rig.broker_server import Manners, Refusal, bind

__all__ = ["BrokerProcess", "Entry", "EntryKind", "Log", "Manners", "Refusal"]

_ROOT = Path(__file__).resolve().parents[2]

HOST = "127.0.0.1"
PATIENCE_S = 30.0


class BrokerProcess:
    """The broker as tests hold it: on one port and one log through any number of starts."""

    def __init__(self, log: Path, manners: Manners | None = None, host: str = HOST) -> None:
        """Start it."""
        self.path = log
        self.host = host
        self.manners = manners or Manners()
        # Bound here, never listened on, and kept: the port stays ours while the broker is dead.
        self._reservation = bind(host, 0)
        self.port = int(self._reservation.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None
        self._entries: list[Entry] = []  # of the lines read so far
        self._offset = 0  # where they end
        self.start()

    @property
    def log(self) -> Log:
        """What it has written so far."""
        with self.path.open("rb") as stream:
            stream.seek(self._offset)
            data = stream.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._entries += parse_lines(whole)
        self._offset += len(whole)
        return Log(tuple(self._entries))

    def start(self, manners: Manners | None = None) -> None:
        """Start it (again), with other `manners` if given."""
        assert self._process is None, "the broker runs already"
        self.manners = manners or self.manners
        command = [sys.executable, "-m", "benchmarks.rig.broker_server", self.host, str(self.port), str(self.path)]
        self._process = subprocess.Popen([*command, self.manners.encoded()], cwd=_ROOT, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"listening\n", "the broker does not start"

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None

    def restart(self, manners: Manners | None = None) -> None:
        """Kill it and start it again."""
        self.kill()
        self.start(manners)

    def freeze(self) -> None:
        """SIGSTOP: connections stay, nothing is read or answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def wait_for(self, condition: Callable[[Log], bool], what: str, patience_s: float = PATIENCE_S) -> Log:
        """The log as soon as `condition` holds; fails with `what` if it does not in time."""
        deadline = time.monotonic() + patience_s
        while not condition(log := self.log):
            assert time.monotonic() < deadline, f"waited {patience_s:g} s in vain: {what}; last: {log.entries[-3:]}"
            time.sleep(0.05)
        return log

    def close(self) -> None:
        """End it and give up its port."""
        self.kill()
        self._reservation.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
