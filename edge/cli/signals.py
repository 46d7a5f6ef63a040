"""Signals as events."""

from __future__ import annotations

import os
import signal
import threading


def stop_on_signal() -> threading.Event:
    """Set by SIGTERM, SIGINT and, unless it is ignored, SIGHUP."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        _set_on(number, stop)
    _set_unless_ignored(signal.SIGHUP, stop)
    return stop


def service_signals() -> tuple[threading.Event, threading.Event]:
    """What stops the service, and what makes it reload: SIGHUP, unless that is the end of a terminal."""
    stop, reload = stop_on_signal(), threading.Event()
    if not os.isatty(0):
        _set_unless_ignored(signal.SIGHUP, reload)
    return stop, reload


def _set_unless_ignored(number: signal.Signals, event: threading.Event) -> None:
    """Under nohup a signal stays ignored."""
    if signal.getsignal(number) is not signal.SIG_IGN:
        _set_on(number, event)


def _set_on(number: signal.Signals, event: threading.Event) -> None:
    signal.signal(number, lambda *_: event.set())
