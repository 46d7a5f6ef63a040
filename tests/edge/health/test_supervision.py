from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.health.supervision import Heartbeat, SystemdNotifier, stalled


def test_a_thread_without_a_beat_for_longer_than_the_limit_is_stalled() -> None:
    silent, lively = Heartbeat(), Heartbeat()
    time.sleep(0.05)
    lively.beat()
    assert lively.age_s() < silent.age_s()
    between = (lively.age_s() + silent.age_s()) / 2
    assert stalled({"capture": silent, "inspect": lively}, between) == ("capture",)


def test_nobody_is_stalled_within_the_limit() -> None:
    assert stalled({"capture": Heartbeat()}, 3600) == ()


def listen(address: str) -> socket.socket:
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.settimeout(10)
    receiver.bind(address)
    return receiver


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_hears_every_state(tmp_path: Path, *, abstract: bool) -> None:
    name = f"patchline-test-{uuid.uuid4()}" if abstract else str(tmp_path / "notify")
    shown, bound = (f"@{name}", f"\0{name}") if abstract else (name, name)
    with listen(bound) as receiver:
        notifier = SystemdNotifier({"NOTIFY_SOCKET": shown})
        for state in ("READY=1", "WATCHDOG=1", "STOPPING=1"):
            notifier.notify(state)
            assert receiver.recv(100) == state.encode()


@pytest.mark.parametrize(
    "environment",
    [lambda _: {}, lambda _: {"NOTIFY_SOCKET": ""}, lambda directory: {"NOTIFY_SOCKET": str(directory / "gone")}],
)
def test_where_systemd_does_not_listen_nothing_happens(
    tmp_path: Path, environment: Callable[[Path], dict[str, str]]
) -> None:
    SystemdNotifier(environment(tmp_path)).notify("READY=1")
    assert list(tmp_path.iterdir()) == []
