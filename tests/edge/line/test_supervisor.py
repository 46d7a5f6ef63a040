"""The supervisor of a line whose threads do as the test says."""

from __future__ import annotations

import logging
import socket
import threading
from pathlib import Path

import pytest

from benchmarks.rig.brokers import PATIENCE_S, wait_until
from edge.delivery.opening import open_delivery
from edge.health.alarms import Alarms, Conditions
from edge.health.statistics import Statistics
from edge.health.supervision import Heartbeat, SystemdNotifier
from edge.line.opening import station_topics
from edge.line.supervisor import Supervisor
from edge.line.threads import Threads
from edge.records import Values
from edge.settings.tree import Settings

SERVICE = {"health_interval_s": 0.2, "stall_timeout_s": 3.0}


def test_the_watchdog_is_fed_while_there_is_progress_and_every_change_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    settings = Settings.model_validate({"publish": ["jsonl"], "service": SERVICE})
    topics, stop, hangs, ends = station_topics(settings), threading.Event(), threading.Event(), threading.Event()
    published: list[Values] = []
    ticks: list[int] = []
    away = threading.Event()

    def loop(heartbeat: Heartbeat) -> None:
        while not ends.wait(0.01):
            if not hangs.is_set():
                heartbeat.beat()

    with (
        open_delivery(settings, topics, Statistics()) as delivery,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd,
    ):
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(PATIENCE_S)
        fed: list[bytes] = []

        def listen() -> None:
            while not ends.is_set():
                fed.append(systemd.recv(100))

        threads = Threads(stop)
        threads.start("inspect", loop)
        supervisor = Supervisor(
            settings.service,
            threads,
            delivery,
            Alarms(settings.alarms),
            conditions=lambda: Conditions(source_away=away.is_set()),
            collect=lambda: {"frames": 7},
            publish=published.append,
        )
        notifier = SystemdNotifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        thread = threading.Thread(target=supervisor.run, args=(stop, notifier, lambda: ticks.append(1)))
        thread.start()
        listener = threading.Thread(target=listen)
        listener.start()
        wait_until(lambda: len(fed) > 2, "the watchdog is fed")
        hangs.set()
        away.set()
        wait_until(lambda: caplog.messages.count("no progress") == 1, "the hang is said")
        hung_since = len(ticks)
        wait_until(lambda: len(ticks) > hung_since + 3, "what was fed before is heard")
        fed_before = len(fed)
        wait_until(lambda: len(ticks) > hung_since + 8, "it is not said again")
        assert len(fed) == fed_before
        hangs.clear()
        wait_until(lambda: caplog.messages.count("progress again") == 1, "its end is said")
        wait_until(lambda: len(published) > 2, "statistics are published")
        stop.set()
        thread.join(PATIENCE_S)
        ends.set()
        notifier.notify("STOPPING=1")
        listener.join(PATIENCE_S)
    assert caplog.messages.count("no progress") == caplog.messages.count("alarm raised") == 1
    assert published[0] == {"frames": 7}
