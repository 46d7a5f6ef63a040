"""Where messages go: the seam between the service and a broker, and the publisher that needs none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, Protocol

from edge.errors import DeliveryError
from edge.records import Message


class Publisher(Protocol):
    """Takes messages in order and delivers them.

    Called from one thread. What `send` took is delivered at least once or counted as refused; what it did
    not take stays with the caller.
    """

    @property
    def alive(self) -> bool:
        """False: what it runs on has died, and nothing will be delivered any more."""
        ...

    def report(self) -> dict[str, int]:
        """Its counters, as `/health` and the log show them."""
        ...

    def send(self, message: Message, timeout_s: float) -> bool:
        """Take `message`. False: there was no room within `timeout_s` seconds, so the caller keeps it.

        Raises:
            DeliveryError: nothing can be delivered any more.
        """
        ...

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything taken is settled. False: `timeout_s` seconds were not enough."""
        ...

    def close(self, timeout_s: float) -> None:
        """Deliver what was taken for up to `timeout_s` seconds, then release everything. May be called twice."""
        ...


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a message that `send` took: final, one for each."""

    message: Message  # the very object that was sent
    reason_code: int  # of MQTT 5; below 0x80: the broker has it

    @property
    def accepted(self) -> bool:
        """True: the broker has it."""
        return self.reason_code < 0x80


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
