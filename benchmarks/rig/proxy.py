"""A TCP proxy that does to a connection what networks do, while the test goes on.

One thread for each connection carries both directions. `weather` says how; it may be changed at any time and holds
for connections that are open already.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
TICK_S = 0.02  # how late a change of weather may be noticed
LARGEST_READ = 65_536
ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends a reset


@dataclass(frozen=True, slots=True)
class Weather:
    """What becomes of bytes. The default is a good network."""

    delay_s: float = 0.0  # before what was read at once is passed on
    bytes_per_s: float = 0.0  # at the most, each way; 0: no limit
    piece_bytes: int = LARGEST_READ  # how many are passed on at once: 1 is byte by byte
    black_hole: bool = False  # connections are accepted and stay, nothing passes


class ChaosProxy:
    """Forwards connections from a free port of `host` to `target`."""

    def __init__(self, target: tuple[str, int], host: str = HOST) -> None:
        """Listen."""
        self.host = host
        self.weather = Weather()
        self.connections = 0  # accepted so far
        self._target = target
        self._cuts = 0  # a connection that has seen fewer than this is reset
        self._budget: int | None = None  # bytes toward the target until the next cut
        self._nonsense = b""
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []
        self._port = 0
        self._listener = self._listen()
        self._acceptor = threading.Thread(target=self._accept)
        self._acceptor.start()

    @property
    def port(self) -> int:
        """Where it listens; the same for its whole life."""
        return self._port

    def cut(self) -> None:
        """Reset every connection, in both directions."""
        self._cuts += 1

    def cut_after(self, count: int) -> None:
        """Reset every connection as soon as `count` more bytes went to the target; not one byte more goes."""
        self._budget = count

    def inject(self, nonsense: bytes) -> None:
        """Say this to the next client that something is passed on to, before that and in the target's name."""
        self._nonsense = nonsense

    def refuse(self) -> None:
        """Stop accepting: connections are refused. Those that are open stay."""
        self._listener.shutdown(socket.SHUT_RDWR)  # closing alone would wait for the thread that accepts
        self._listener.close()

    def accept(self) -> None:
        """Accept again, on the same port."""
        self._listener = self._listen()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        for thread in (self._acceptor, *self._threads):
            thread.join()
        self._listener.close()

    def _listen(self) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.host, self._port))
        listener.listen()
        listener.settimeout(TICK_S)
        self._port = int(listener.getsockname()[1])
        return listener

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:  # closed: we refuse
                self._closing.wait(TICK_S)
                continue
            self.connections += 1
            thread = threading.Thread(target=self._carry, args=(client, self._cuts))
            self._threads.append(thread)
            thread.start()

    def _carry(self, client: socket.socket, cuts: int) -> None:
        with client, contextlib.suppress(OSError), self._reach(client, cuts) as target:
            other = {client: target, target: client}
            while not self._ended(cuts):
                if self.weather.black_hole:
                    time.sleep(TICK_S)
                    continue
                for source in select.select(list(other), [], [], TICK_S)[0]:
                    data = source.recv(max(1, self.weather.piece_bytes))
                    if not data:  # closed in order by one side: pass it on
                        other[source].shutdown(socket.SHUT_WR)
                        return
                    self._pass_on(data, other[source], to_target=source is client, cuts=cuts)
            for stream in other:
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)

    def _reach(self, client: socket.socket, cuts: int) -> socket.socket:
        """Connect to the target, as late as the black hole ends."""
        while self.weather.black_hole and not self._ended(cuts):
            time.sleep(TICK_S)
        try:
            target = socket.create_connection(self._target, timeout=TICK_S * 50)
        except OSError:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
            raise
        for stream in (client, target):
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream.settimeout(TICK_S)
        return target

    def _ended(self, cuts: int) -> bool:
        return self._closing.is_set() or cuts != self._cuts

    def _pass_on(self, data: bytes, sink: socket.socket, *, to_target: bool, cuts: int) -> None:
        weather = self.weather
        pause_s = weather.delay_s + (len(data) / weather.bytes_per_s if weather.bytes_per_s else 0)
        if pause_s:
            self._closing.wait(pause_s)
        if to_target and self._budget is not None:
            data, self._budget = data[: self._budget], max(0, self._budget - len(data))
        if not to_target and self._nonsense:
            data, self._nonsense = self._nonsense + data, b""
        self._send(data, sink, cuts)
        if to_target and self._budget == 0:
            self._budget = None
            self.cut()

    def _send(self, data: bytes, sink: socket.socket, cuts: int) -> None:
        """All of it, however slowly the other side reads, unless the connection is cut."""
        rest = memoryview(data)
        while rest and not self._ended(cuts):
            with contextlib.suppress(TimeoutError):
                rest = rest[sink.send(rest) :]
