"""Brokers that do harm in one way, for some connections, and are good afterwards."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edge.publishers.mqtt.words import ADVICE as REFUSALS

_HOST = "127.0.0.1"
_STREAMED_BYTES = 64 * 2**20  # of a packet of 256 MB, unless the connection ends before
_BAD_CONNECTIONS = 4  # of each broker, whatever they speak
_QUOTA_EXCEEDED = 0x97

CONNECT, PUBLISH, SUBSCRIBE, PINGREQ, DISCONNECT = 1, 3, 8, 12, 14


# The ways to do harm: each gets a packet of the client, and says whether the connection goes on.


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """One packet of a client's, for who answers badly."""

    stream: socket.socket
    kind: int
    body: bytes
    is_mqtt_5: bool
    dice: random.Random

    def accept(self, limits: bytes = b"") -> None:
        """A CONNACK that welcomes."""
        tail = bytes([len(limits)]) + limits if self.is_mqtt_5 else b""
        self.stream.sendall(bytes([0x20, 2 + len(tail), 0, 0]) + tail)

    @property
    def packet_id(self) -> bytes:
        """Of a PUBLISH at QoS 1."""
        (length,) = struct.unpack_from("!H", self.body)
        return self.body[2 + length : 4 + length]


Manner = Callable[[Moment], bool]


def _huge(moment: Moment) -> bool:
    """One packet of 256 MB."""
    moment.accept()
    moment.stream.sendall(b"\x30\xff\xff\xff\x7f\x00\x05n/cmd\x00")
    for _ in range(_STREAMED_BYTES >> 20):
        moment.stream.sendall(bytes(2**20))
    return False


def _quality_2(moment: Moment) -> bool:
    """A flood of messages that would have to be kept."""
    moment.accept()
    for number in range(1, 2000):
        payload = bytes(10_000)
        body = b"\x00\x05n/cmd" + struct.pack("!H", number) + (b"\0" if moment.is_mqtt_5 else b"") + payload
        moment.stream.sendall(b"\x34" + _variable(len(body)) + body)
    return False


def _garbage(moment: Moment) -> bool:
    """Bytes at random, before or after a welcome."""
    if moment.dice.random() < 0.7:
        moment.accept()
    moment.stream.sendall(moment.dice.randbytes(moment.dice.randrange(1, 2000)))
    return False


def _refusal(moment: Moment) -> bool:
    """A CONNACK that says no."""
    code = moment.dice.choice(sorted(REFUSALS)) if moment.is_mqtt_5 else moment.dice.randrange(1, 6)
    moment.stream.sendall(bytes([0x20, 3 if moment.is_mqtt_5 else 2, 0, code]) + (b"\0" if moment.is_mqtt_5 else b""))
    return False


def _quality_0(moment: Moment) -> bool:
    """Maximum QoS 0; and whoever publishes at QoS 1 all the same is thrown out, as the specification wants it."""
    if moment.kind == CONNECT:
        moment.accept(b"\x24\x00")
    return moment.kind != PUBLISH


def _second_welcome(moment: Moment) -> bool:
    if moment.kind in {CONNECT, PUBLISH}:
        moment.accept()
    return True


def _hang_up_on_message(moment: Moment) -> bool:
    if moment.kind == CONNECT:
        moment.accept()
    return moment.kind != PUBLISH or b"/verdict" not in moment.body


def _wrong_answers(moment: Moment) -> bool:
    """For messages that never were, of kinds that do not belong here; and none for those that are."""
    if moment.kind == CONNECT:
        moment.accept()
    elif moment.kind == PUBLISH:
        other = struct.pack("!H", moment.dice.randrange(1000, 65_536))
        moment.stream.sendall(
            b"\x40\x02" + other + b"\x50\x02" + other + b"\x70\x02" + other + b"\x90\x04" + other + b"\0\1"
        )
        return moment.dice.random() < 0.5
    return True


def _not_now(moment: Moment) -> bool:
    """A refusal for now, or with a code that does not exist."""
    if moment.kind == CONNECT:
        moment.accept()
    elif moment.kind == PUBLISH and moment.is_mqtt_5:
        code = moment.dice.choice([_QUOTA_EXCEEDED, 0x80, 0x83, 0xC7])
        moment.stream.sendall(b"\x40\x04" + moment.packet_id + bytes([code, 0]))
        return moment.dice.random() < 0.7
    return True


def _farewell(moment: Moment) -> bool:
    """DISCONNECT, with any reason."""
    moment.accept()
    if moment.is_mqtt_5:
        moment.stream.sendall(bytes([0xE0, 2, moment.dice.choice([0x00, 0x81, 0x8B, 0x8E, 0x93, 0x9C]), 0]))
    return False


MANNERS: dict[str, Manner] = {
    "a packet of 256 MB": _huge,
    "a flood at QoS 2": _quality_2,
    "garbage": _garbage,
    "refused CONNACK": _refusal,
    "Maximum QoS 0": _quality_0,
    "two CONNACKs": _second_welcome,
    "hangs up on a message": _hang_up_on_message,
    "wrong answers": _wrong_answers,
    "refused for now": _not_now,
    "DISCONNECT": _farewell,
}


class Broker:
    """Bad for some connections, then good: it acknowledges messages and grants subscriptions."""

    def __init__(self, manner: Manner, dice: random.Random) -> None:
        self.verdicts: list[dict[str, object]] = []  # as they came while it was good
        self.bad_connections = 0
        self._manner = manner
        self._dice = dice
        self._listener = socket.create_server((_HOST, 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept)]
        self._streams: list[socket.socket] = []
        self._threads[0].start()

    def seqs(self) -> list[int]:
        """Of the verdicts, in order of first arrival."""
        return list(dict.fromkeys(int(str(one["seq"])) for one in list(self.verdicts)))

    def close(self) -> None:
        """End everything."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        for stream in self._streams:
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                stream, _ = self._listener.accept()
                is_bad = self.bad_connections < _BAD_CONNECTIONS
                self.bad_connections += is_bad
                self._streams.append(stream)
                self._threads.append(threading.Thread(target=self._serve, args=(stream,), kwargs={"is_bad": is_bad}))
                self._threads[-1].start()

    def _serve(self, stream: socket.socket, *, is_bad: bool) -> None:
        is_mqtt_5 = True
        with stream, contextlib.suppress(OSError):
            for kind, body in _packets(stream):
                is_mqtt_5 = body[6] == 5 if kind == CONNECT else is_mqtt_5
                moment = Moment(stream, kind, body, is_mqtt_5, self._dice)
                if not (self._manner(moment) if is_bad else self._behave(moment)):
                    return

    def _behave(self, moment: Moment) -> bool:
        if moment.kind == CONNECT:
            moment.accept()
        elif moment.kind == PUBLISH:
            self._take(moment)
        elif moment.kind == SUBSCRIBE:
            granted = (b"\0" if moment.is_mqtt_5 else b"") + b"\1" * _filters(moment)
            moment.stream.sendall(bytes([0x90, 2 + len(granted)]) + moment.body[:2] + granted)
        elif moment.kind == PINGREQ:
            moment.stream.sendall(b"\xd0\0")
        return moment.kind != DISCONNECT

    def _take(self, moment: Moment) -> None:
        (length,) = struct.unpack_from("!H", moment.body)
        topic = moment.body[2 : 2 + length]
        if topic.endswith(b"/verdict"):
            self.verdicts.append(json.loads(moment.body[moment.body.index(b'{"v":') :]))
        if moment.is_mqtt_5 and not topic.endswith((b"/last", b"/health")):
            moment.stream.sendall(b"\x40\x02" + moment.packet_id)


def _packets(stream: socket.socket) -> Iterator[tuple[int, bytes]]:
    """What a client sends: kind and body."""
    reader = stream.makefile("rb")
    while first := reader.read(1):
        length = shift = 0
        while True:
            (byte,) = reader.read(1) or b"\0"
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        yield first[0] >> 4, reader.read(length)


def _filters(moment: Moment) -> int:
    """How many topic filters a SUBSCRIBE has."""
    rest, count = moment.body[3 if moment.is_mqtt_5 else 2 :], 0
    while rest:
        (length,) = struct.unpack_from("!H", rest)
        rest, count = rest[2 + length + 1 :], count + 1
    return count


def _variable(number: int) -> bytes:
    encoded = b""
    while True:
        number, low = divmod(number, 128)
        encoded += bytes([low | (0x80 if number else 0)])
        if not number:
            return encoded
