"""What an audit shows while it listens."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Protocol

from rich.console import Console
from rich.live import Live

from edge.audit.ledger import Ledger
from edge.audit.report import live_table, status_line
from edge.terminal import say

_TABLE_INTERVAL_S = 0.5


class View(Protocol):
    """Shows the ledger, now and then."""

    def __call__(self, ledger: Ledger) -> None:
        """The ledger has changed, or may have."""
        ...


@contextlib.contextmanager
def open_view(interval_s: float) -> Iterator[View]:
    """On a terminal a table that stays in place; elsewhere a line now and then."""
    if sys.stderr.isatty():
        with Live(console=Console(stderr=True), auto_refresh=False) as live:
            yield _Paced(_TABLE_INTERVAL_S, lambda ledger: live.update(live_table(ledger, "audit"), refresh=True))
    else:
        yield _Paced(interval_s, lambda ledger: say(status_line(ledger)))


class _Paced:
    """Shows the ledger at most once an interval."""

    def __init__(self, interval_s: float, show: View) -> None:
        self._interval_s = interval_s
        self._show = show
        self._due_at_s = time.monotonic() + interval_s

    def __call__(self, ledger: Ledger) -> None:
        if time.monotonic() >= self._due_at_s:
            self._due_at_s = time.monotonic() + self._interval_s
            self._show(ledger)
