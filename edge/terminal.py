"""What people see on standard error: notes, errors, and the progress of long work.

Progress is a bar on a terminal and plain lines elsewhere.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from edge.errors import PatchlineError

_PLAIN_INTERVAL_S = 10.0


def say(text: str) -> None:
    """One line for people."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(text, markup=False, emoji=False)


def complain(text: str) -> None:
    """One error."""
    sys.stderr.write(f"error: {text}\n")
    sys.stderr.flush()


def run_app(command: Callable[[], None]) -> None:
    """Run a command line: an expected error becomes one line and its documented exit code."""
    try:
        command()
    except PatchlineError as error:
        complain(str(error))
        _forget_unread_output()
        sys.exit(error.exit_code)


def _forget_unread_output() -> None:
    """Let Python not fail a second time, with an exit code of its own, over a reader that has gone."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def phase(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """A phase of `total` steps; the function it yields takes the number done so far."""
    if sys.stderr.isatty():
        with _bar() as progress:
            task = progress.add_task(name, total=total)
            yield lambda done: progress.update(task, completed=done)
            progress.update(task, completed=total)
    else:
        line = _PlainLine(name, total)
        line.print(0)
        yield line.update
        line.print(total)


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


class _PlainLine:
    def __init__(self, name: str, total: int) -> None:
        self._name = name
        self._total = total
        self._started = self._printed = time.monotonic()

    def update(self, done: int) -> None:
        if time.monotonic() - self._printed >= _PLAIN_INTERVAL_S:
            self.print(done)

    def print(self, done: int) -> None:
        self._printed = time.monotonic()
        elapsed = self._printed - self._started
        sys.stderr.write(f"{self._name}: {done}/{self._total}, {elapsed:.0f} s\n")
        sys.stderr.flush()
