"""Verdicts that go out of memory: there is no outbox, or its disk refuses. They have an epoch of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from edge.protocol.messages import crop_messages, last_message, tombstone_message, verdict_message
from edge.protocol.topics import StationTopics
from edge.publishers.base import Numbered, OnAnswer
from edge.records import Message, Values, Verdict

POLL_S = 0.5  # longest wait in one call


class Sink(Protocol):
    """Where messages go."""

    def send(self, message: Message, timeout_s: float, on_answer: OnAnswer | None = None) -> bool:
        """Take `message`. False: there was no room within `timeout_s` seconds."""
        ...

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything taken is settled. False: `timeout_s` seconds were not enough."""
        ...


class Direct:
    """See `delivery.Way`: numbers verdicts and sends them, one after the other."""

    def __init__(
        self, sink: Sink | None, topics: StationTopics, new_epoch: Callable[[], int], *, publish_last: bool = False
    ) -> None:
        """Nothing is numbered yet.

        Args:
            sink: where messages go; None: nowhere, so that everything is taken.
            topics: the station's.
            new_epoch: called once, before the first number.
            publish_last: say the newest verdict again for late joiners.
        """
        self._sink = sink
        self._topics = topics
        self._new_epoch = new_epoch
        self._publish_last = publish_last
        self._epoch = 0  # 0: none yet
        self._seq = 0
        self._crops_dropped = 0
        self._lock = threading.Lock()  # guards these
        self._sent = 0
        self._owed = 0

    @property
    def owed(self) -> int:
        """Messages that were taken and are not answered."""
        with self._lock:
            return self._owed

    def explain(self, lost: int) -> bool:
        """So many verdicts are lost: they get numbers, so that the gap can be explained. False: call again."""
        first, last = self._seq + 1, self._seq + lost
        stone = tombstone_message(self._topics, self._begin(), first=first, last=last, count=lost, reason="memory_full")
        if not self._send(stone):
            return False
        self._seq = last
        return True

    def deliver(self, verdict: Verdict) -> Numbered | None:
        """Send `verdict`. None: it is not taken now; call again."""
        epoch, seq = self._begin(), self._seq + 1
        message = verdict_message(self._topics, verdict, epoch, seq)
        if not self._send(message):
            return None
        self._seq = seq
        crops = crop_messages(self._topics, verdict, epoch, seq)
        for crop in crops:
            self._crops_dropped += not self._send(crop)
        if self._publish_last and self._sink is not None:
            self._sink.send(last_message(self._topics, message), 0)
        return Numbered(verdict, epoch, seq, (message, *crops))

    def deliver_message(self, message: Message) -> bool:
        """Send what is no verdict. False: it is not taken now; call again."""
        return self._send(message, 0)

    def report(self) -> Values:
        """Counters for `/health` and the log."""
        with self._lock:
            return {"direct_messages": self._sent, "crops_dropped": self._crops_dropped}

    def flush(self, timeout_s: float) -> None:
        """Wait for up to so many seconds until everything taken is answered."""
        if self._sink is not None and self.owed:
            self._sink.flush(timeout_s)

    def _begin(self) -> int:
        if self._epoch == 0:
            self._epoch = self._new_epoch()
        return self._epoch

    def _send(self, message: Message, timeout_s: float = POLL_S) -> bool:
        if self._sink is None:
            return True
        self._count(sent=1)  # before it goes: the answer may come at once
        taken = self._sink.send(message, timeout_s, self._take_answer)
        if not taken:
            self._count(sent=-1)
        return taken

    def _take_answer(self, _code: int) -> None:
        with self._lock:
            self._owed -= 1

    def _count(self, sent: int) -> None:
        with self._lock:
            self._sent += sent
            self._owed += sent
