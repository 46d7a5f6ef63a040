"""Verdicts as JSON lines on standard output, for a program that reads them. Only a thread of its own waits for it.

A line is written only when the reader has room for it, so that the thread can end at any time; and never through a
buffer of Python's, which would wait for the reader at the end of the program.
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections import deque
from collections.abc import Mapping
from time import monotonic
from typing import IO

from edge.errors import DeliveryError
from edge.publishers.base import Numbered, OnAnswer
from edge.records import Message, Scalar

CAPACITY = 1000  # lines that wait for the reader: 1 MB
_TICK_S = 0.2  # how late the end may be noticed
_TAKEN = 0  # the reason code of success

log = logging.getLogger("patchline.jsonl")


class JsonLinesPublisher:
    """Verdicts as they go to `/verdict` when they are live; other messages are passed over. For any thread."""

    name = "jsonl"

    def __init__(self, stream: IO[bytes], capacity: int = CAPACITY) -> None:
        """Write to `stream`, which stays the caller's: `sys.stdout.buffer`, or a file opened for bytes.

        Args:
            stream: has a file descriptor; nobody else writes to it.
            capacity: lines that wait for the reader at the most.
        """
        stream.flush()
        self._descriptor = stream.fileno()
        self._capacity = capacity
        self._changed = threading.Condition()  # guards the rest
        self._lines: deque[tuple[bytes, OnAnswer | None]] = deque()  # the first of them is being written
        self._written = 0
        self._failure = ""
        self._close_by_s: float | None = None  # monotonic; None: open
        self._thread = threading.Thread(target=self._run, name="jsonl", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """The thread runs, or has said why it does not."""
        return self._thread.is_alive() or bool(self._failure)

    @property
    def trouble(self) -> str:
        """The reader has gone, or stands still; "": nothing."""
        with self._changed:
            if self._failure:
                return self._failure
            return "the reader of standard output stands still" if self._is_full() else ""

    def publish_health(self, values: Mapping[str, Scalar], *, source_present: bool) -> None:
        """There are no lines for it."""

    def report(self) -> dict[str, int]:
        """Counters."""
        with self._changed:
            return {"jsonl_written": self._written, "jsonl_waiting": len(self._lines)}

    def publish(self, numbered: Numbered, timeout_s: float) -> bool:
        """See `send`."""
        return self.send(numbered.message, timeout_s)

    def send(self, message: Message, timeout_s: float, on_answer: OnAnswer | None = None) -> bool:
        """Take one line. False: so many wait for the reader already, and for `timeout_s` seconds it took none.

        Raises:
            DeliveryError: the reader has gone, or the disk is full.
        """
        if message.topic.rpartition("/")[2] != "verdict":
            if on_answer is not None:
                on_answer(_TAKEN)
            return True
        with self._changed:
            self._changed.wait_for(lambda: not self._is_full() or self._failure, timeout_s)
            if self._failure:
                raise DeliveryError(self._failure)
            if self._is_full() or self._close_by_s is not None:
                return False
            self._lines.append((message.payload + b"\n", on_answer))
            self._changed.notify_all()
        return True

    def flush(self, timeout_s: float) -> bool:
        """Wait until every line is written. False: `timeout_s` seconds were not enough, or the reader has gone."""
        with self._changed:
            self._changed.wait_for(lambda: not self._lines or self._failure, timeout_s)
            return not self._lines

    def close(self, timeout_s: float) -> None:
        """Write what was taken for up to `timeout_s` seconds. May be called twice."""
        with self._changed:
            first_time = self._close_by_s is None
            if self._close_by_s is None:
                self._close_by_s = monotonic() + timeout_s
            self._changed.notify_all()
        self._thread.join(timeout_s + 2 * _TICK_S)
        if first_time and self._lines:
            log.warning("closed with %d lines that nobody has read", len(self._lines))

    def _is_full(self) -> bool:
        return len(self._lines) >= self._capacity

    # The thread.

    def _run(self) -> None:
        try:
            while (line := self._next()) is not None:
                if not self._write(line):
                    return
                self._forget_first()
        except OSError as error:
            with self._changed:
                self._failure = (
                    f"verdicts as JSON lines: cannot write ({error.strerror}): the reader of standard output has "
                    "gone or its disk is full; keep the reader running, or publish over mqtt alone"
                )
                self._changed.notify_all()

    def _next(self) -> bytes | None:
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._close_by_s is not None)
            return self._lines[0][0] if self._lines else None

    def _forget_first(self) -> None:
        with self._changed:
            _, on_answer = self._lines.popleft()
            self._written += 1
            self._changed.notify_all()
        if on_answer is not None:
            on_answer(_TAKEN)

    def _write(self, line: bytes) -> bool:
        """Write all of `line`. False: the time for closing is over."""
        ready = select.poll()
        ready.register(self._descriptor, select.POLLOUT)
        while line:
            if ready.poll(1000 * _TICK_S):
                # A pipe that is ready takes PIPE_BUF bytes, 4096, without waiting: more than one verdict.
                line = line[os.write(self._descriptor, line[: select.PIPE_BUF]) :]
            elif self._close_by_s is not None and monotonic() >= self._close_by_s:
                return False
        return True
