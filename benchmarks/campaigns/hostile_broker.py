"""Brokers that do harm, and what a station makes of each: its outbox, its MQTT 5 and its Sparkplug connection.

For some connections a broker behaves badly in one way, then well. Passed if then every verdict arrives, in order and
whole, none is a dead letter, memory stays bounded meanwhile, nothing of ours fails, and the log has lines, no flood.
"""

from __future__ import annotations

import logging
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.campaigns import CampaignError, Rows
from benchmarks.campaigns._hostile import MANNERS, Broker
from edge.delivery.delivery import Delivery
from edge.delivery.opening import open_delivery
from edge.health.statistics import Statistics
from edge.protocol.topics import StationTopics
from edge.records import Box, Crop, FrameIdentity, Verdict
from edge.records import Outcome as VerdictOutcome
from edge.settings.tree import Settings

COUNT = 60

_AT_ONCE = 4  # attacks
VERDICTS = 6
_PATIENCE_S = 60.0
_MOST_GROWTH_BYTES = 48 * 2**20  # of the whole process: four stations, their threads and databases
_MOST_LINES = 12  # from WARNING on, for both connections of one attack: one for each change


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
                for frame in range(VERDICTS):
                    delivery.deliver(_verdict(frame), 0)
                    time.sleep(0.2)
                self._wait(
                    lambda: len({one["seq"] for one in broker.verdicts}) == VERDICTS, delivery, "verdicts arrive"
                )
                self._wait(lambda: delivery.report()["outbox_messages"] == 0, delivery, "the outbox is empty")
                self._wait(lambda: delivery.report()["sparkplug_born"] == 1, delivery, "the edge node is born")
                self._judge(delivery)
        finally:
            broker.close()
        return self._count(broker)

    def _count(self, broker: Broker) -> Outcome:
        firsts, seqs = broker.seqs(), [int(str(one["seq"])) for one in broker.verdicts]
        if firsts != list(range(1, VERDICTS + 1)):
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
