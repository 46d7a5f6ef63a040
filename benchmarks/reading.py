"""What it costs to read a video as the line does, against OpenCV, which hides damage: `python -m benchmarks.reading`.

Full HD, one thread reads; both in turns in one process, and the ratio of each round.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.rig.videos import write_video
from edge.records import UInt8Array
from edge.sources.simulated.source import draw_part
from edge.sources.stream import VideoRead

FRAMES = 40
ROUNDS = 7
SIZE = (1080, 1920)
CODECS = (("mjpeg", ".avi"), ("libx264", ".mp4"), ("mpeg4", ".mp4"))


def main() -> None:
    """Measure, and print medians over the rounds."""
    table = Table(title="python -m benchmarks.reading")
    for heading in (
        "codec",
        "OpenCV, ms a frame",
        "ours, ms a frame",
        "time, ours / OpenCV",
        "CPU time, ours / OpenCV",
    ):
        table.add_column(heading)
    with tempfile.TemporaryDirectory() as directory:
        for codec, suffix in CODECS:
            path = Path(directory) / f"{codec}{suffix}"
            write_video(
                path, codec, map(_picture, range(FRAMES)), {"tune": "zerolatency"} if codec == "libx264" else {}
            )
            table.add_row(codec, *_compare(path))
    Console().print(table)


def _compare(path: Path) -> tuple[str, str, str, str]:
    rounds = [(_measure(_read_with_opencv, path), _measure(_read, path)) for _ in range(ROUNDS + 1)][1:]  # one warms up
    return (
        f"{statistics.median(theirs[0] for theirs, _ in rounds):.1f}",
        f"{statistics.median(ours[0] for _, ours in rounds):.1f}",
        f"{statistics.median(ours[0] / theirs[0] for theirs, ours in rounds):.2f}",
        f"{statistics.median(ours[1] / theirs[1] for theirs, ours in rounds):.2f}",
    )


def _measure(read: Callable[[Path], int], path: Path) -> tuple[float, float]:
    """Milliseconds a frame: by the clock, and of all cores."""
    began_s, cpu_s = time.perf_counter(), time.process_time()
    frames = read(path)
    assert frames == FRAMES
    return 1e3 * (time.perf_counter() - began_s) / frames, 1e3 * (time.process_time() - cpu_s) / frames


def _read_with_opencv(path: Path) -> int:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    frames = 0
    while capture.read()[0]:
        frames += 1
    capture.release()
    return frames


def _read(path: Path) -> int:
    with path.open("rb") as stream:
        video = VideoRead(stream, path.name, lambda: 2**24)
        frames = sum(1 for _ in iter(video.read, None))
        video.release()
        return frames


def _picture(number: int) -> UInt8Array:
    part = cv2.resize(draw_part(0, number % 4, (480, 480), 0.0).image, SIZE[::-1])
    noise = np.random.default_rng(number).integers(0, 4, part.shape, np.uint8)
    return np.asarray(cv2.add(part, noise), np.uint8)


if __name__ == "__main__":
    main()
