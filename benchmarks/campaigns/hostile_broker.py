"""Brokers that do harm, and what a station makes of each: its outbox, its MQTT 5 and its Sparkplug connection.

For some connections a broker behaves badly in one way, then well. Passed if then every verdict arrives, in order and
whole, none is a dead letter, memory stays bounded meanwhile, nothing of ours fails, and the log has lines, no flood.
"""

from __future__ import annotations

import contextlib
import json
import logging
import random
import socket
import struct
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.campaigns import CampaignError, Rows
from edge.delivery.delivery import Delivery
from edge.delivery.opening import open_delivery
from edge.health.statistics import Statistics
from edge.protocol.topics import StationTopics
from edge.publishers.mqtt.words import ADVICE as REFUSALS
from edge.records import Box, Crop, FrameIdentity, Verdict
from edge.records import Outcome as VerdictOutcome
from edge.settings.tree import Settings

COUNT = 60

_HOST = "127.0.0.1"
_AT_ONCE = 4  # attacks
_BAD_CONNECTIONS = 4  # of each attack, both protocols together
_VERDICTS = 6
_PATIENCE_S = 60.0
_STREAMED_BYTES = 64 * 2**20  # of a packet of 256 MB, unless the connection ends before
_MOST_GROWTH_BYTES = 48 * 2**20  # of the whole process: four stations, their threads and databases
_MOST_LINES = 12  # from WARNING on, for both connections of one attack: one for each change
_QUOTA_EXCEEDED = 0x97

CONNECT, PUBLISH, SUBSCRIBE, PINGREQ, DISCONNECT = 1, 3, 8, 12, 14


def run(count: int, seed: int) -> Rows:
    """Attack `count` stations."""
    attacks = [Attack(number, list(MANNERS)[number % len(MANNERS)], seed * 100_003 + number) for number in range(count)]
    log = _Log()
    memory = _Memory()
    with (
        log,
        memory,
        tempfile.TemporaryDirectory(prefix="patchline-hostile-") as scratch,
        ThreadPoolExecutor(_AT_ONCE) as pool,
    ):
        outcomes = list(pool.map(lambda attack: attack.make(Path(scratch)), attacks))
    memory.judge()
    log.judge(count)
    return [
        ("attacks", str(count)),
        *((f"of them: {name}", str(number)) for name, number in sorted(Counter(a.manner for a in attacks).items())),
        ("bad connections", str(sum(outcome.bad_connections for outcome in outcomes))),
        ("verdicts, all received in order", str(sum(outcome.received for outcome in outcomes))),
        ("lost, inverted, dead letters", "0, 0, 0"),
        ("verdicts repeated", str(sum(outcome.repeated for outcome in outcomes))),
        ("memory, growth at the most", f"{memory.growth >> 20} MB"),
        ("lines from WARNING on, in the mean", f"{log.lines / max(1, count):.1f}"),
        ("tracebacks", "0"),
    ]


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


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one attack."""

    received: int
    repeated: int
    bad_connections: int


@dataclass(frozen=True, slots=True)
class Attack:
    """On one station."""

    number: int
    manner: str
    seed: int

    def make(self, scratch: Path) -> Outcome:
        """Let a station deliver to a broker that is bad at first.

        Raises:
            CampaignError: a promise broke.
        """
        broker = Broker(MANNERS[self.manner], random.Random(self.seed))
        topics = StationTopics("patchline", "site", "line", f"station{self.number}")
        settings = Settings(
            mqtt={"port": broker.port, "keepalive_s": 5, "answer_timeout_s": 2},
            sparkplug={"enabled": True, "group": "g", "edge_node": f"n{self.number}"},
            outbox={
                "directory": scratch / str(self.number),
                "min_free_bytes": 0,
                "ballast_bytes": 0,
                "order": "strict",
            },
        )
        try:
            with open_delivery(settings, topics, Statistics()) as delivery:
                for frame in range(_VERDICTS):
                    delivery.deliver(_verdict(frame), 0)
                    time.sleep(0.2)
                self._wait(
                    lambda: len({one["seq"] for one in broker.verdicts}) == _VERDICTS, delivery, "verdicts arrive"
                )
                self._wait(lambda: delivery.report()["outbox_messages"] == 0, delivery, "the outbox is empty")
                self._wait(lambda: delivery.report()["sparkplug_born"] == 1, delivery, "the edge node is born")
                self._judge(delivery)
        finally:
            broker.close()
        return self._count(broker)

    def _count(self, broker: Broker) -> Outcome:
        firsts, seqs = broker.seqs(), [int(str(one["seq"])) for one in broker.verdicts]
        if firsts != list(range(1, _VERDICTS + 1)):
            raise CampaignError(f"{self}: verdicts arrived as {seqs}")
        return Outcome(len(firsts), len(seqs) - len(firsts), broker.bad_connections)

    def _judge(self, delivery: Delivery) -> None:
        if letters := delivery.report()["outbox_dead_letters"]:
            raise CampaignError(f"{self}: {letters} dead letters")
        if dead := delivery.without_progress(_PATIENCE_S):
            raise CampaignError(f"{self}: {', '.join(dead)} died")

    def _wait(self, condition: Callable[[], bool], delivery: Delivery, what: str) -> None:
        give_up_at_s = time.monotonic() + _PATIENCE_S
        while not condition():
            if time.monotonic() > give_up_at_s:
                raise CampaignError(f"{self}: waited {_PATIENCE_S:g} s until {what}: {delivery.report()}")
            time.sleep(0.02)


class _Memory:
    """How much this process grew, looked at while it is attacked."""

    def __init__(self) -> None:
        self.growth = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def judge(self) -> None:
        if self.growth > _MOST_GROWTH_BYTES:
            raise CampaignError(f"memory grew by {self.growth >> 20} MB")

    def __enter__(self) -> None:
        self._before = psutil.Process().memory_info().rss
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.05):
            self.growth = max(self.growth, psutil.Process().memory_info().rss - self._before)


class _Log(logging.Handler):
    """What people would be told."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines = 0
        self.tracebacks: list[str] = []
        self._logger = logging.getLogger("patchline")

    def emit(self, record: logging.LogRecord) -> None:
        self.lines += 1
        if record.exc_info:
            self.tracebacks.append(record.getMessage())

    def judge(self, attacks: int) -> None:
        if self.tracebacks:
            raise CampaignError(f"{len(self.tracebacks)} tracebacks: {self.tracebacks[0]}")
        if self.lines > _MOST_LINES * attacks:
            raise CampaignError(f"{self.lines} lines for {attacks} attacks")

    def __enter__(self) -> None:
        self._logger.addHandler(self)
        self._logger.propagate = False

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        self._logger.propagate = True


def _verdict(frame: int) -> Verdict:
    crop = Crop(index=0, box=Box(1, 2, 3, 4), jpeg=b"\xff\xd8" + bytes(6000), sha256="ab" * 32)
    return Verdict(
        identity=FrameIdentity(sequence=frame, captured_at_s=time.time(), captured_monotonic_s=time.monotonic()),
        outcome=VerdictOutcome.FAIL,
        score=2.0,
        threshold=1.0,
        recipe="bottle",
        model="0123456789ab",
        crops=(crop,) if frame % 2 else (),
    )


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
