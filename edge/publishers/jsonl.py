"""Where messages go: the seam between the service and a broker, and the publisher that needs none."""

from __future__ import annotations

from typing import IO

from edge.errors import DeliveryError
from edge.records import Message


class JsonLinesPublisher:
    """Verdicts as JSON lines, as they go to `/verdict` when they are live; other messages are passed over."""

    def __init__(self, stream: IO[bytes]) -> None:
        """Write to `stream`, which stays the caller's: `sys.stdout.buffer`, or a file opened for bytes."""
        self._stream = stream

    @property
    def alive(self) -> bool:
        """There is nothing that could die."""
        return True

    def report(self) -> dict[str, int]:
        """Nothing is counted: every line is written or the service ends."""
        return {}

    def send(self, message: Message, timeout_s: float) -> bool:  # noqa: ARG002 — a write waits by itself
        """Write one line at once.

        Raises:
            DeliveryError: the reader has gone, or the disk is full.
        """
        if message.topic.rpartition("/")[2] != "verdict":
            return True
        try:
            self._stream.write(message.payload + b"\n")
            self._stream.flush()
        except OSError as error:
            raise DeliveryError(
                f"verdicts as JSON lines: cannot write ({error.strerror}): the reader of standard output has "
                "gone or its disk is full; keep the reader running, or publish over mqtt alone"
            ) from error
        return True

    def flush(self, timeout_s: float) -> bool:  # noqa: ARG002 — nothing is ever held
        """Every line is flushed when it is written."""
        return True

    def close(self, timeout_s: float) -> None:
        """Nothing to release: the stream belongs to the caller."""
