"""Bounded hand-over between threads. Says what happens when it is full, and counts what it discards."""

from __future__ import annotations

import threading
from collections import deque
from enum import StrEnum
from typing import Generic, TypeVar

Item = TypeVar("Item")


class WhenFull(StrEnum):
    """What `put` does when there is no room."""

    DROP_OLDEST = "drop_oldest"
    BLOCK = "block"


class Buffer(Generic[Item]):
    """First in, first out, at most `capacity` items."""

    def __init__(self, capacity: int, when_full: WhenFull) -> None:
        self._capacity = capacity
        self._when_full = when_full
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._discarded = 0
        self._got = 0

    def put(self, item: Item, timeout_s: float) -> bool:
        """Add an item; False if it was not taken: no room came within `timeout_s`, or the buffer is closed."""
        with self._changed:
            if self._when_full is WhenFull.BLOCK:
                self._changed.wait_for(lambda: self._closed or len(self._items) < self._capacity, timeout_s)
                if len(self._items) >= self._capacity:
                    return False
            if self._closed:
                return False
            if len(self._items) >= self._capacity:
                self._items.popleft()
                self._discarded += 1
            self._items.append(item)
            self._changed.notify_all()
            return True

    def get(self, timeout_s: float) -> Item | None:
        """The oldest item, or None if none came within `timeout_s` or the buffer is closed and empty."""
        numbered = self.get_numbered(timeout_s)
        return None if numbered is None else numbered[1]

    def get_numbered(self, timeout_s: float) -> tuple[int, Item] | None:
        """As `get`, with the item's number among all that were got, from 0: several threads can restore their order."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._items, timeout_s)
            if not self._items:
                return None
            item = self._items.popleft()
            number, self._got = self._got, self._got + 1
            self._changed.notify_all()
            return number, item

    def close(self) -> None:
        """Take no more; what is inside can still be got."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def drained(self) -> bool:
        """Closed, and everything was got."""
        with self._changed:
            return self._closed and not self._items

    @property
    def discarded(self) -> int:
        """Items dropped because newer ones came."""
        with self._changed:
            return self._discarded

    def __len__(self) -> int:
        with self._changed:
            return len(self._items)
