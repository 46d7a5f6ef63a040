"""What people see on standard error: notes, errors, and the progress of long work.

Progress is a bar on a terminal and plain lines elsewhere.
"""

from __future__ import annotations

import os
import resource
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

from edge.errors import PatchlineError, SettingsError

# Loading the libraries takes 850 MB of addresses, teaching thirty small pictures 1.8 GB, on two cores.
LEAST_ADDRESS_SPACE = 2 << 30
_PLAIN_INTERVAL_S = 5.0
_TABLE_WIDTH = 120
# Speed is averaged over so long: the rounds of a large coreset's selection take many seconds each.
_SPEED_OVER_S = 120.0


def say(text: str) -> None:
    """One line for people."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(text, markup=False, emoji=False)


def table_console() -> Console:
    """Standard output for tables: as wide as the terminal, or, in files and pipes, wide enough for ours."""
    return Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else _TABLE_WIDTH)


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
    except MemoryError as error:
        complain(f"memory ran out ({str(error) or 'nothing says for what'}); give less at once, or this machine more")
        _forget_unread_output()
        sys.exit(PatchlineError.exit_code)


def refuse_small_address_space() -> None:
    """Refuse what `ulimit -v` leaves if libraries would crash in it, wordlessly and while they are loaded.

    Raises:
        SettingsError: it is below `LEAST_ADDRESS_SPACE`.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < LEAST_ADDRESS_SPACE:
        raise SettingsError(
            f"ulimit -v leaves this process {limit >> 20} MiB of addresses; expected {LEAST_ADDRESS_SPACE >> 20} or "
            "more, as native libraries reserve far more than they use; raise it, and bound memory itself (MemoryMax)"
        )


def _forget_unread_output() -> None:
    """Let Python not fail a second time, with an exit code of its own, over a reader that has gone."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def phase(name: str, total: int, *, exact: bool = False) -> Iterator[Callable[[int], None]]:
    """A phase of `total` steps; the function it yields takes the number done so far.

    At the end all steps are done; `exact`: as many as were told, which may be fewer.
    """
    if sys.stderr.isatty():
        with _bar() as progress:
            task = progress.add_task(name, total=total)
            told = _Told(lambda done: progress.update(task, completed=done))
            yield told
            progress.update(task, completed=told.last if exact else total)
    else:
        line = _PlainLine(name, total)
        line.print(0)
        told = _Told(line.update)
        yield told
        line.print(told.last if exact else total)


class _Told:
    """Shows how much is done, and remembers it."""

    def __init__(self, show: Callable[[int], None]) -> None:
        self.last = 0
        self._show = show

    def __call__(self, done: int) -> None:
        self.last = done
        self._show(done)


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        speed_estimate_period=_SPEED_OVER_S,
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
        sys.stderr.write(progress_line(self._name, done, self._total, self._printed - self._started) + "\n")
        sys.stderr.flush()


def progress_line(name: str, done: int, total: int, elapsed_s: float) -> str:
    """Where a phase stands after `elapsed_s`; the time left is estimated as if all steps took equally long."""
    line = f"{name}: {done}/{total}, {elapsed_s:.0f} s"
    if not 0 < done < total:
        return line
    return f"{line}, {100 * done // total} %, about {_duration(elapsed_s * (total - done) / done)} left"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"
