"""An MQTT 5 broker that comes with pip: `iotcore` (rumqttd) in a child process, on loopback only.

For the demo and the tests. It keeps everything in memory, forgets sessions when they end, and closes the
connection without a reason where mosquitto would answer with one: a production line wants mosquitto.
"""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from iotcore import Broker

HOST = "127.0.0.1"
PORT_ATTEMPTS = 5
# A subscriber that falls behind by more than segments · segment size loses the oldest messages.
CONFIGURATION = """\
id = 0

[router]
id = 0
max_connections = 100
max_outgoing_packet_count = 200
max_segment_size = 16777216
max_segment_count = 4

[v5.1]
name = "v5"
listen = "{host}:{port}"
next_connection_delay_ms = 1

    [v5.1.connections]
    connection_timeout_ms = 5000
    max_payload_size = 2097152
    max_inflight_count = 100
    dynamic_filters = true
"""


class EmbeddedBroker:
    """A running broker, from construction to `close`. Its process also ends when this one does."""

    def __init__(self, port: int = 0) -> None:
        """Listen on `port` of loopback; 0: any free one.

        Raises:
            OSError: the port is taken.
            RuntimeError: the broker does not come up.
        """
        self.host = HOST
        self._directory = tempfile.TemporaryDirectory(prefix="patchline-broker-")
        try:
            self._broker = self._start(port) if port else self._start_on_free_port()
        except BaseException:
            self._directory.cleanup()
            raise

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._broker.port

    def close(self) -> None:
        """End the broker and release its port. May be called twice."""
        self._broker.stop()
        self._directory.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start_on_free_port(self) -> Broker:
        for _ in range(PORT_ATTEMPTS - 1):
            try:
                return self._start(free_port())
            except (OSError, RuntimeError):
                continue  # another process took the port between the look and the start
        return self._start(free_port())

    def _start(self, port: int) -> Broker:
        path = Path(self._directory.name, "broker.toml")
        path.write_text(CONFIGURATION.format(host=HOST, port=port), encoding="utf-8")
        return Broker(config_path=str(path)).start()


def free_port() -> int:
    """A port of loopback on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
