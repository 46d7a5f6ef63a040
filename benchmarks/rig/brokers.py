"""Real brokers, on free ports of loopback: mosquitto, the embedded one, and one that records.

`RecordingBroker` is the oracle for what the others do not show: it notes every message before it answers, how
many were unanswered at once, and answers with the reason code a test asks for.
"""

from __future__ import annotations

import contextlib
import select
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from demo.broker import HOST, EmbeddedBroker, free_port

__all__ = [
    "HOST",
    "Certificates",
    "Doorkeeper",
    "EmbeddedBroker",
    "Mosquitto",
    "Received",
    "RecordingBroker",
    "Subscriber",
]

PATIENCE_S = 20.0


def find_mosquitto() -> str | None:
    """Debian keeps it in /usr/sbin, which is not in every user's PATH."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Fail with `what` unless `condition` becomes true in time."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S:g} s in vain: {what}"
        time.sleep(0.01)


@dataclass(frozen=True)
class Certificates:
    """Two authorities and what the first of them signed, made by openssl."""

    directory: Path

    @classmethod
    def make(cls, directory: Path) -> Certificates:
        """Make them in `directory`."""
        certificates = cls(directory)
        for authority in ("ca", "other-ca"):
            certificates._run(
                f"req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 2 "
                f"-subj /CN={authority} -keyout {authority}.key -out {authority}.crt"
            )
        certificates._sign("localhost", "subjectAltName=DNS:localhost", "-days 2")
        certificates._sign("elsewhere", "subjectAltName=DNS:elsewhere.example", "-days 2")
        certificates._sign("station", "subjectAltName=DNS:station", "-days 2")
        certificates._sign("expired", "subjectAltName=DNS:localhost", "-days -1")
        return certificates

    def path(self, name: str) -> Path:
        """Of a key or certificate."""
        return self.directory / name

    def _sign(self, name: str, extension: str, validity: str) -> None:
        self._run(
            f"req -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -subj /CN={name} "
            f"-keyout {name}.key -out {name}.csr"
        )
        self.path("extension").write_text(extension)
        self._run(
            f"x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial {validity} "
            f"-extfile extension -out {name}.crt"
        )

    def _run(self, arguments: str) -> None:
        subprocess.run(["openssl", *arguments.split()], cwd=self.directory, check=True, capture_output=True, timeout=30)


class Mosquitto:
    """A mosquitto on one port, which survives restarts as its persistent state does."""

    def __init__(self, directory: Path, *lines: str, listener: str = "allow_anonymous true") -> None:
        self.host = HOST
        self.port = free_port()
        self._log = directory / "mosquitto.log"
        self._configuration = directory / "mosquitto.conf"
        self._configuration.write_text(
            "\n".join(
                [
                    *lines,
                    "user root",  # started by root it would become a user who cannot read our files
                    "persistence true",
                    f"persistence_location {directory}/",
                    "autosave_on_changes true",
                    "autosave_interval 1",
                    f"listener {self.port} {HOST}",
                    listener,
                    "",
                ]
            )
        )
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it (again), on the same port, and wait until it listens."""
        program = find_mosquitto()
        assert program is not None, "mosquitto is not installed"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([program, "-c", self._configuration], stdout=log, stderr=log)
        wait_until(self._answers, f"mosquitto does not listen: {self._log.read_text()}")

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """SIGTERM."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE_S)
            self._process = None

    def freeze(self) -> None:
        """SIGSTOP: connections stay, nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def log(self) -> str:
        """What it has written so far."""
        return self._log.read_text()

    def contacts(self) -> int:
        """Connections so far, ours of the start included."""
        return self.log().count("onnection from")  # "New connection from", "Client connection from … failed"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        try:
            socket.create_connection((HOST, self.port), timeout=1).close()
        except OSError:
            return False
        return True


class Doorkeeper:
    """Stands before a broker, shows all that clients send, and passes it on or closes the door on them.

    Args:
        port: of the broker on loopback.
        admit: called with bytes before the broker gets them; False: it never does, and the connection ends.
    """

    def __init__(self, port: int, admit: Callable[[bytes], bool]) -> None:
        self.host = HOST
        self._target = port
        self._admit = admit
        self._listener = socket.create_server((HOST, 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        for thread in self._threads[1:]:
            thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._carry, args=(client,)))
                self._threads[-1].start()

    def _carry(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection((HOST, self._target)) as broker:
            while True:
                for source in select.select([client, broker], [], [])[0]:
                    data = source.recv(65_536)
                    if not data or (source is client and not self._admit(data)):
                        return
                    (broker if source is client else client).sendall(data)


Broker = Mosquitto | EmbeddedBroker


class Place(Protocol):
    """Where a broker listens."""

    @property
    def host(self) -> str: ...

    @property
    def port(self) -> int: ...


class Subscriber:
    """A client that keeps what it receives. Its session survives the broker's restarts."""

    def __init__(self, broker: Place, topic_filter: str = "#") -> None:
        self.messages: list[MQTTMessage] = []
        self._filter = topic_filter
        self._subscribed = threading.Event()
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"subscriber-{id(self)}",
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=True,
        )
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe(self._filter, qos=1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = lambda _client, _userdata, message: self.messages.append(message)
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho leaves it out
        properties.SessionExpiryInterval = 600
        # mosquitto 2.0.11 does not persist a session that began with a clean start, whatever its expiry.
        self._client.connect(broker.host, broker.port, clean_start=False, properties=properties)
        self._client.loop_start()
        assert self._subscribed.wait(PATIENCE_S), "the broker does not answer the subscription"

    def payloads(self, suffix: str) -> list[bytes]:
        """What came on topics ending in `suffix`, in order."""
        return [bytes(message.payload) for message in list(self.messages) if message.topic.endswith(suffix)]

    def wait_for(self, count: int, suffix: str) -> list[bytes]:
        """The payloads on `suffix`, once there are `count`."""
        wait_until(lambda: len(self.payloads(suffix)) >= count, f"{count} messages on {suffix}, got {self.messages}")
        return self.payloads(suffix)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@dataclass(frozen=True)
class Received:
    """One PUBLISH as the broker got it."""

    connection: int  # counted from 1
    topic: str
    payload: bytes
    qos: int
    retain: bool
    packet_id: int


CLOSE = -1  # an answer that is none: the connection is closed
SILENCE = -2  # an answer that never comes
QUIET_S = 0.02


class RecordingBroker:
    """Records every PUBLISH, then answers it, as late as a client with a full window lets it.

    Args:
        answer: reason code for a message, `CLOSE` or `SILENCE`.
        limits: packed properties of the CONNACK.
        accept: reason code of the CONNACK.
        then: called when a message was answered, before anything more is read. If it cannot write, the
            connection has ended, whatever else there was to read.
    """

    def __init__(
        self,
        answer: Callable[[Received], int] = lambda _: 0,
        limits: bytes = b"",
        accept: int = 0,
        then: Callable[[Received, socket.socket], None] = lambda _received, _connection: None,
    ) -> None:
        self.host = HOST
        self.received: list[Received] = []
        self.largest_unanswered = 0
        self.largest_packet = 0
        self.connections = 0
        self.farewells: list[int] = []  # reason codes of the DISCONNECTs that came
        self._answer = answer
        self._connack = connack(limits, accept)
        self._then = then
        self._open: list[socket.socket] = []
        self._listener = socket.create_server((HOST, 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def topics(self, suffix: str) -> list[bytes]:
        """Payloads on topics ending in `suffix`, in order of first arrival, repetitions left out."""
        return list(dict.fromkeys(one.payload for one in list(self.received) if one.topic.endswith(suffix)))

    def cut(self) -> None:
        """Reset every connection, as a killed broker does."""
        for connection in list(self._open):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with contextlib.suppress(OSError):  # it has ended meanwhile
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        self.cut()
        for thread in self._threads[1:]:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection, self.connections))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        unanswered: list[Received] = []
        buffer = bytearray()
        try:
            while True:
                ready, _, _ = select.select([connection], [], [], QUIET_S if unanswered else None)
                if not ready:
                    if not self._answer_all(connection, unanswered):
                        return
                    continue
                data = connection.recv(65_536)
                if not data:
                    return
                buffer += data
                while (packet := _take_packet(buffer)) is not None:
                    self._handle(connection, number, packet, unanswered)
        except OSError:
            return
        finally:
            self._open.remove(connection)
            connection.close()

    def _handle(
        self, connection: socket.socket, number: int, packet: tuple[int, bytes], unanswered: list[Received]
    ) -> None:
        first, body = packet
        self.largest_packet = max(self.largest_packet, _packet_bytes(body))
        match first >> 4:
            case PacketTypes.CONNECT:
                connection.sendall(self._connack)
            case PacketTypes.PUBLISH:
                received = _parse_publish(number, first, body)
                self.received.append(received)
                if received.qos:
                    unanswered.append(received)
                    self.largest_unanswered = max(self.largest_unanswered, len(unanswered))
            case PacketTypes.PINGREQ:
                connection.sendall(b"\xd0\0")
            case PacketTypes.DISCONNECT:
                self.farewells.append(body[0] if body else 0)

    def _answer_all(self, connection: socket.socket, unanswered: list[Received]) -> bool:
        while unanswered:
            received = unanswered.pop(0)
            code = self._answer(received)
            if code == CLOSE:
                return False
            if code != SILENCE:
                connection.sendall(struct.pack("!BBHB", 0x40, 3, received.packet_id, code))
                self._then(received, connection)
        return True


def connack(limits: bytes = b"", code: int = 0) -> bytes:
    """A CONNACK that accepts, or says why not by `code`, with packed properties."""
    body = bytes([0, code, len(limits)]) + limits
    return b"\x20" + bytes([len(body)]) + body


def _take_packet(buffer: bytearray) -> tuple[int, bytes] | None:
    length = 0
    for position in range(1, min(5, len(buffer))):
        length += (buffer[position] & 0x7F) << 7 * (position - 1)
        if buffer[position] < 0x80:
            end = position + 1 + length
            if len(buffer) < end:
                return None
            packet = (buffer[0], bytes(buffer[position + 1 : end]))
            del buffer[:end]
            return packet
    return None


def _packet_bytes(body: bytes) -> int:
    length_field = next(size for size in range(1, 5) if len(body) < 128**size)
    return 1 + length_field + len(body)


def _parse_publish(connection: int, first: int, body: bytes) -> Received:
    (topic_length,) = struct.unpack_from("!H", body)
    position = 2 + topic_length
    topic = body[2:position].decode()
    qos = first >> 1 & 3
    packet_id = 0
    if qos:
        (packet_id,) = struct.unpack_from("!H", body, position)
        position += 2
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho leaves it out
    _, length = properties.unpack(body[position:])  # type: ignore[no-untyped-call]  # paho leaves it out
    return Received(connection, topic, body[position + length :], qos, bool(first & 1), packet_id)
