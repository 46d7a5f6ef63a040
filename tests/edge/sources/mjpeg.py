"""A camera for tests: MJPEG over HTTP on loopback, which can be told to misbehave."""

from __future__ import annotations

import base64
import socket
import threading
import time
from enum import Enum, auto
from types import TracebackType
from typing import Self

import cv2
import numpy as np

FRAME_S = 0.02


class Mood(Enum):
    STREAM = auto()
    HANG = auto()  # connections stay open, nothing is sent any more
    CLOSE = auto()  # every connection is closed
    GARBAGE = auto()  # random bytes instead of frames
    CUT = auto()  # every second frame has 55 % of its bytes
    HUGE = auto()  # headers that announce 16,000 × 16,000 pixels
    FREEZE = auto()  # the last picture again and again, also to those who connect anew


class MjpegCamera:
    """Frame n is grey with brightness n modulo 200. `frames` limits how many are sent, repetitions not counted."""

    def __init__(self, size: tuple[int, int] = (48, 64), login: str = "", frames: int | None = None) -> None:
        self.mood = Mood.STREAM
        self.size = size
        self.sent = 0
        self.repeated = 0
        self._frames = frames
        self._login = login
        self._port = 0
        self._listener: socket.socket | None = None
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._port}/video"

    def __enter__(self) -> Self:
        self.switch_on()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.switch_off()

    def switch_on(self) -> None:
        self._stop = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._listener.settimeout(0.05)
        self._port = self._listener.getsockname()[1]
        self._spawn(self._accept, self._listener, self._stop)

    def switch_off(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)
        self._threads.clear()
        assert self._listener is not None
        self._listener.close()

    def _spawn(self, target: object, *arguments: object) -> None:
        assert callable(target)
        thread = threading.Thread(target=target, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            self._spawn(self._answer, connection, stop)

    def _answer(self, connection: socket.socket, stop: threading.Event) -> None:
        connection.settimeout(5)
        with connection:
            try:
                request = connection.recv(4096)
                if request and self._admitted(connection, request):
                    self._stream(connection, stop)
            except OSError:
                return  # the client went away

    def _admitted(self, connection: socket.socket, request: bytes) -> bool:
        token = base64.b64encode(self._login.encode())
        if not self._login or b"Authorization: Basic " + token in request:
            return True
        connection.sendall(
            b'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm="camera"\r\n'
            b"Content-Length: 0\r\nConnection: close\r\n\r\n"
        )
        return False

    def _stream(self, connection: socket.socket, stop: threading.Event) -> None:
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n")
        random = np.random.default_rng(0)
        while not stop.wait(FRAME_S):
            if self.mood is Mood.CLOSE:
                return
            if self.mood is Mood.GARBAGE:
                connection.sendall(random.bytes(5000))
            elif self.mood in {Mood.STREAM, Mood.CUT, Mood.HUGE} and self.sent != self._frames:
                connection.sendall(self._part(self.sent))
                self.sent += 1
            elif self.mood is Mood.FREEZE:
                connection.sendall(self._part(self.sent - 1))
                self.repeated += 1

    def _part(self, number: int) -> bytes:
        _, encoded = cv2.imencode(".jpg", np.full((*self.size, 3), number % 200, np.uint8))
        jpeg = encoded.tobytes()
        if self.mood is Mood.CUT and number % 2:
            jpeg = jpeg[: len(jpeg) * 55 // 100]
        if self.mood is Mood.HUGE:
            height = jpeg.index(b"\xff\xc0") + 5  # behind marker, length and precision
            jpeg = jpeg[:height] + 2 * (16_000).to_bytes(2, "big") + jpeg[height + 4 :]
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
        return head.encode() + jpeg + b"\r\n"


def wait_until(holds: object, limit_s: float = 20) -> None:
    """Wait for `holds()`; the limit is a broken test's, not a measurement."""
    assert callable(holds)
    end_s = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.01)
