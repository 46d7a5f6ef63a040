"""Watches the running line: feeds systemd's watchdog while there is progress, raises alarms, reports statistics."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from edge.delivery.delivery import Delivery
from edge.health.alarms import Alarms, Conditions
from edge.health.supervision import SystemdNotifier
from edge.line.threads import Threads
from edge.records import Values
from edge.settings.sections import ServiceSettings

log = logging.getLogger("patchline.service")

_TICK_S = 1.0


class Supervisor:
    """For one thread, which is none of those that it watches."""

    def __init__(
        self,
        settings: ServiceSettings,
        threads: Threads,
        delivery: Delivery,
        alarms: Alarms,
        *,
        conditions: Callable[[], Conditions],
        collect: Callable[[], Values],
        publish: Callable[[Values], None],
    ) -> None:
        """For one line.

        Args:
            settings: how often, and how long without progress.
            threads: what is watched.
            delivery: what is watched, and tells everybody of alarms.
            alarms: the station's.
            conditions: what alarms are judged by, now.
            collect: the statistics, now; those of an interval begin anew.
            publish: tells them to whoever listens.
        """
        self._settings = settings
        self._threads = threads
        self._delivery = delivery
        self._alarms = alarms
        self._conditions = conditions
        self._collect = collect
        self._publish = publish
        self._stalled: tuple[str, ...] = ()

    def run(self, stop: threading.Event, notifier: SystemdNotifier, at_tick: Callable[[], None]) -> None:
        """Until `stop` is set; `at_tick` is called about once a second."""
        interval_s = self._settings.health_interval_s
        self._look_for_alarms()
        report_at_s = time.monotonic() + interval_s
        while not stop.wait(min(_TICK_S, interval_s)):
            self._look_for_progress(notifier)
            self._look_for_alarms()
            at_tick()
            if time.monotonic() >= report_at_s:
                report_at_s += interval_s
                self.report("statistics")

    def report(self, title: str) -> None:
        """Log the statistics, and publish them."""
        values = self._collect()
        log.info(title, extra={"fields": values})
        self._publish(values)

    def _look_for_progress(self, notifier: SystemdNotifier) -> None:
        limit_s = self._settings.stall_timeout_s
        before = self._stalled
        self._stalled = self._threads.without_progress(limit_s) + self._delivery.without_progress(limit_s)
        if not self._stalled:
            notifier.notify("WATCHDOG=1")
        if self._stalled != before:
            level, text = (logging.ERROR, "no progress") if self._stalled else (logging.INFO, "progress again")
            log.log(level, text, extra={"fields": {"stalled": ",".join(self._stalled) or "none"}})

    def _look_for_alarms(self) -> None:
        for change in self._alarms.look(self._conditions(), time.monotonic(), time.time()):
            self._delivery.deliver_alarm(change)
        self._delivery.deliver_waiting_alarms()
