"""The recording broker itself: an MQTT 5 broker that writes every message to disk before it answers.

`python -m benchmarks.rig.broker_server HOST PORT LOG MANNERS_AS_JSON` runs it. It delivers nothing to anybody.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import IO, Any

from benchmarks.rig.broker_log import FAILURE, Entry, EntryKind, Log

RECEIVE_MAXIMUM, MAXIMUM_PACKET_SIZE = 0x21, 0x27  # properties of a CONNACK, MQTT 5, section 3.2.2.3
FAREWELL = 0x00  # the only reason of a DISCONNECT that takes the will back
TAKE_OVER_S = 30.0  # longest wait for the end of a connection whose client is back already


class Packet(IntEnum):
    """Control packets of MQTT 5, section 2.1.2."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14


@dataclass(frozen=True, slots=True)
class Refusal:
    """A reason code for the messages on topics that end in `suffix`: the first `times` of them, or all."""

    suffix: str
    code: int
    times: int | None = None


@dataclass(frozen=True, slots=True)
class Manners:
    """How the broker behaves. Limits of 0 are not announced."""

    receive_maximum: int = 0
    max_packet_bytes: int = 0
    connect_code: int = 0  # of every CONNACK
    refusals: tuple[Refusal, ...] = ()
    answer_delay_s: float = 0.0  # before the PUBACKs of one read

    def encoded(self) -> str:
        """As the process takes them."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def decoded(cls, text: str) -> Manners:
        """The reverse of `encoded`."""
        values = json.loads(text)
        values["refusals"] = tuple(Refusal(**refusal) for refusal in values["refusals"])
        return cls(**values)


def bind(host: str, port: int) -> socket.socket:
    """A socket of this port, which others of ours may have, too; the one that listens gets the connections."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind((host, port))
    return bound


class _Journal:
    """The log file: several lines, then one fsync."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._file: IO[bytes] = path.open("ab", buffering=0)
        self.connections = Log.read(path).count(EntryKind.CONNECT)
        whole = path.read_bytes().rfind(b"\n") + 1
        self._file.truncate(whole)

    def write(self, *entries: Entry) -> None:
        """Return when they are on disk."""
        lines = b"".join(json.dumps(dataclasses.asdict(entry)).encode() + b"\n" for entry in entries)
        with self._lock:
            self._file.write(lines)
            os.fsync(self._file.fileno())

    def next_connection(self) -> int:
        with self._lock:
            self.connections += 1
            return self.connections


class _Refusals:
    """Counts how often each refusal may still be said, over all connections."""

    def __init__(self, refusals: tuple[Refusal, ...]) -> None:
        self._lock = threading.Lock()
        self._left = [(refusal, refusal.times) for refusal in refusals]

    def code(self, topic: str) -> int:
        with self._lock:
            for position, (refusal, left) in enumerate(self._left):
                if topic.endswith(refusal.suffix) and left != 0:
                    self._left[position] = refusal, None if left is None else left - 1
                    return refusal.code
        return 0


@dataclass(slots=True, eq=False)
class _Session:
    """One connection."""

    stream: socket.socket
    number: int
    will: Entry | None = None
    answers: list[bytes] = field(default_factory=list)  # PUBACKs to send after the fsync
    entries: list[Entry] = field(default_factory=list)  # lines to write before them
    ended: threading.Event = field(default_factory=threading.Event)  # its will, if any, is out


class _Server:
    """Threads over blocking sockets: one for each connection."""

    def __init__(self, listener: socket.socket, journal: _Journal, manners: Manners) -> None:
        self._listener = listener
        self._journal = journal
        self._manners = manners
        self._refusals = _Refusals(manners.refusals)
        self._lock = threading.Lock()
        self._sessions: dict[str, _Session] = {}  # by client id

    def run(self) -> None:
        while True:
            stream, _ = self._listener.accept()
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            session = _Session(stream, self._journal.next_connection())
            threading.Thread(target=self._serve, args=(session,), daemon=True).start()

    def _serve(self, session: _Session) -> None:
        buffer = bytearray()
        with contextlib.suppress(OSError):  # a broken connection or a client silent for 1.5 keep-alives
            while data := session.stream.recv(262_144):
                buffer += data
                goes_on = all(self._handle(session, *packet) for packet in _take_packets(buffer))
                self._answer(session)
                if not goes_on:
                    break
        self._end(session)

    def _answer(self, session: _Session) -> None:
        """First the disk, then the client."""
        if session.entries:
            self._journal.write(*session.entries)
        if session.answers:
            time.sleep(self._manners.answer_delay_s)
            session.stream.sendall(b"".join(session.answers))
        session.entries.clear()
        session.answers.clear()

    def _handle(self, session: _Session, first: int, body: bytes) -> bool:
        """False: the connection ends."""
        match first >> 4:
            case Packet.CONNECT:
                return self._welcome(session, body)
            case Packet.PUBLISH:
                self._receive(session, first, body)
            case Packet.PINGREQ:
                session.answers.append(bytes([Packet.PINGRESP << 4, 0]))
            case Packet.DISCONNECT:
                if not body or body[0] == FAREWELL:
                    session.will = None
                return False
        return True

    def _welcome(self, session: _Session, body: bytes) -> bool:
        keepalive_s, client_id, will = _parse_connect(body)
        self._take_over(client_id, session)
        code = self._manners.connect_code
        self._journal.write(Entry(EntryKind.CONNECT, time.monotonic(), session.number, code=code))
        session.stream.sendall(_connack(self._manners))
        if code >= FAILURE:
            return False
        session.will = will
        session.stream.settimeout(1.5 * keepalive_s or None)
        return True

    def _take_over(self, client_id: str, session: _Session) -> None:
        """A client id has one connection: the older one ends, and says its will before the new one says anything."""
        with self._lock:
            older = self._sessions.get(client_id)
            self._sessions[client_id] = session
        if older is not None:
            with contextlib.suppress(OSError):  # it has ended by itself
                older.stream.shutdown(socket.SHUT_RDWR)
            older.ended.wait(TAKE_OVER_S)

    def _receive(self, session: _Session, first: int, body: bytes) -> None:
        topic, packet_id, payload = _parse_publish(first, body)
        qos = first >> 1 & 3
        code = self._refusals.code(topic) if qos else 0
        session.entries.append(
            _entry(
                EntryKind.PUBLISH,
                topic,
                payload,
                connection=session.number,
                qos=qos,
                retain=bool(first & 1),
                duplicate=bool(first & 8),
                packet_id=packet_id,
                code=code,
                unanswered=1 + sum(entry.qos > 0 for entry in session.entries),
            )
        )
        if qos:
            session.answers.append(struct.pack("!BBHB", Packet.PUBACK << 4, 3, packet_id, code))

    def _end(self, session: _Session) -> None:
        last = [Entry(EntryKind.END, time.monotonic(), session.number)]
        if session.will is not None:
            last.append(dataclasses.replace(session.will, at_s=time.monotonic(), connection=session.number))
        self._journal.write(*last)
        session.stream.close()
        session.ended.set()


def _entry(kind: EntryKind, topic: str, payload: bytes, **values: Any) -> Entry:
    try:
        text: str | None = payload.decode()
    except UnicodeDecodeError:
        text = None
    sha256 = hashlib.sha256(payload).hexdigest()
    return Entry(kind, time.monotonic(), topic=topic, text=text, size=len(payload), sha256=sha256, **values)


def _connack(manners: Manners) -> bytes:
    properties = b""
    if manners.receive_maximum:
        properties += struct.pack("!BH", RECEIVE_MAXIMUM, manners.receive_maximum)
    if manners.max_packet_bytes:
        properties += struct.pack("!BI", MAXIMUM_PACKET_SIZE, manners.max_packet_bytes)
    body = bytes([0, manners.connect_code, len(properties)]) + properties
    return bytes([Packet.CONNACK << 4, len(body)]) + body


def _take_packets(buffer: bytearray) -> Iterator[tuple[int, bytes]]:
    """Whole packets at the beginning of `buffer`, taken out of it: first byte and body."""
    while len(buffer) >= 2:
        length, start = _read_number(buffer, 1)
        if start == 0 or len(buffer) < start + length:
            return
        packet = buffer[0], bytes(buffer[start : start + length])
        del buffer[: start + length]
        yield packet


def _read_number(data: bytes | bytearray, position: int) -> tuple[int, int]:
    """A variable byte integer and where it ends; (0, 0) if it is not whole."""
    value = 0
    for count, byte in enumerate(data[position : position + 4]):
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            return value, position + count + 1
    return 0, 0


def _read_field(data: bytes, position: int) -> tuple[bytes, int]:
    """Bytes with their length before them, and where they end."""
    (length,) = struct.unpack_from("!H", data, position)
    return data[position + 2 : position + 2 + length], position + 2 + length


def _skip_properties(data: bytes, position: int) -> int:
    length, position = _read_number(data, position)
    return position + length


def _parse_connect(body: bytes) -> tuple[int, str, Entry | None]:
    """Keep-alive in seconds, client id, will."""
    _, position = _read_field(body, 0)
    _, flags, keepalive_s = struct.unpack_from("!BBH", body, position)
    client_id, position = _read_field(body, _skip_properties(body, position + 4))
    if not flags & 0x04:
        return keepalive_s, client_id.decode(), None
    topic, position = _read_field(body, _skip_properties(body, position))
    payload, _ = _read_field(body, position)
    will = _entry(EntryKind.WILL, topic.decode(), payload, qos=flags >> 3 & 3, retain=bool(flags & 0x20))
    return keepalive_s, client_id.decode(), will


def _parse_publish(first: int, body: bytes) -> tuple[str, int, bytes]:
    """Topic, packet id (0 at QoS 0), payload."""
    topic, position = _read_field(body, 0)
    packet_id = 0
    if first & 0x06:
        (packet_id,) = struct.unpack_from("!H", body, position)
        position += 2
    return topic.decode(), packet_id, body[_skip_properties(body, position) :]


def main() -> None:
    """Listen on HOST PORT and write LOG with the MANNERS, for ever: the four arguments."""
    host, port, log, manners = sys.argv[1:]
    journal = _Journal(Path(log))
    journal.write(Entry(EntryKind.START, time.monotonic()))
    listener = bind(host, int(port))
    listener.listen()
    print("listening", flush=True)
    _Server(listener, journal, Manners.decoded(manners)).run()


if __name__ == "__main__":
    main()
