"""Several frames at a time: the inspectors of one team, a thread each, kept busy by cameras that wait for answers."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence

from edge.inspection.inspector import Inspector
from edge.records import Frame, FrameIdentity, UInt8Array

_POLL_S = 0.05  # longest wait of an idle inspector before it looks whether time is up


def fly(
    team: Sequence[Inspector], pictures: Sequence[UInt8Array], *, cameras: int, seconds: float, want_map: bool = False
) -> tuple[float, list[float]]:
    """Answer frames for some seconds; each camera gives its next picture when its last one is answered.

    Returns:
        Frames a second of all cameras together; milliseconds from picture to verdict of every frame.
    """
    waiting: queue.SimpleQueue[Frame] = queue.SimpleQueue()
    latencies: list[float] = []
    started = time.perf_counter()

    def work(inspector: Inspector) -> None:
        while time.perf_counter() - started < seconds:
            try:
                frame = waiting.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            latencies.append(inspector.inspect(frame, want_map=want_map).verdict.latency_ms)
            waiting.put(_take_picture(pictures, frame.identity.sequence + cameras))

    for camera in range(cameras):
        waiting.put(_take_picture(pictures, camera))
    threads = [threading.Thread(target=work, args=(inspector,)) for inspector in team]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(latencies) / (time.perf_counter() - started), latencies


def _take_picture(pictures: Sequence[UInt8Array], number: int) -> Frame:
    return Frame(FrameIdentity(number, time.time(), time.monotonic()), pictures[number % len(pictures)])
