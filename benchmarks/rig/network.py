"""A network of one cable between a station in a network namespace of its own and a broker outside.

Needs the right to make namespaces (root); `available` says whether it is there.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from types import TracebackType
from typing import Self

NOBODY = "02:00:00:00:00:99"  # a hardware address that no interface here has
_numbers = itertools.count()


def available() -> bool:
    """Whether a namespace can be made here."""
    program = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None or os.geteuid() != 0:
        return False
    name = f"patchline-probe-{os.getpid()}"
    made = subprocess.run([program, "netns", "add", name], check=False, capture_output=True).returncode == 0
    if made:
        _ip("netns", "del", name)
    return made


class Cable:
    """A station's end in a namespace, ours outside, and one cable between them."""

    def __init__(self) -> None:
        """Plug it in."""
        number = next(_numbers)
        process = os.getpid()
        self.name = f"patchline-{process}-{number}"
        self._ours, self._theirs = f"pl{process % 100_000}h{number}", f"pl{process % 100_000}s{number}"
        net = f"10.{200 + number % 50}.{process // 64 % 256}.{process % 64 * 4}".rpartition(".")
        self.host = f"{net[0]}.{int(net[2]) + 1}"
        self._station = f"{net[0]}.{int(net[2]) + 2}"
        _ip("netns", "add", self.name)
        _ip("link", "add", self._ours, "type", "veth", "peer", "name", self._theirs, "netns", self.name)
        _ip("addr", "add", f"{self.host}/30", "dev", self._ours)
        _ip("link", "set", self._ours, "up")
        _ip("-n", self.name, "addr", "add", f"{self._station}/30", "dev", self._theirs)
        _ip("-n", self.name, "link", "set", self._theirs, "up")
        _ip("-n", self.name, "link", "set", "lo", "up")

    @property
    def prefix(self) -> tuple[str, ...]:
        """Runs a command at the station's end."""
        return (_program(), "netns", "exec", self.name)

    def pull_out(self) -> None:
        """Link down: nothing can be sent."""
        _ip("link", "set", self._ours, "down")

    def plug_in(self) -> None:
        """Link up again."""
        _ip("link", "set", self._ours, "up")

    def swallow(self) -> None:
        """A black hole: every packet, in both directions, goes to a hardware address that nobody has."""
        _ip("neigh", "replace", self._station, "lladdr", NOBODY, "dev", self._ours, "nud", "permanent")
        _ip("-n", self.name, "neigh", "replace", self.host, "lladdr", NOBODY, "dev", self._theirs, "nud", "permanent")

    def clear(self) -> None:
        """End the black hole."""
        _ip("neigh", "del", self._station, "dev", self._ours)
        _ip("-n", self.name, "neigh", "del", self.host, "dev", self._theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _ip("netns", "del", self.name)  # and with it both ends of the cable


def _program() -> str:
    return shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or "ip"


def _ip(*arguments: str) -> None:
    subprocess.run([_program(), *arguments], check=True, capture_output=True, timeout=30)
