"""Did a write-ahead log lose its end?

SQLite reads its log up to the first frame that is damaged and passes over the rest in silence. What was committed
there is lost, and its numbers would be given out again, to other verdicts. The frames themselves tell: those of the
current log carry its salts, and the last frame of each commit is marked.

Format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

_HEADER = struct.Struct(">8I")  # magic, format, page size, checkpoints, salt 1, salt 2, checksum 1, checksum 2
_FRAME = struct.Struct(">6I")  # page, pages of the database after a commit or 0, salt 1, salt 2, checksum 1 and 2
_MAGIC = 0x377F0682  # its lowest bit: checksums are of big-endian words


@dataclass(frozen=True, slots=True)
class WalCommits:
    """What a log says of itself before SQLite has read it."""

    damaged: bool = False  # it has frames, but its header is not valid, so that SQLite ignores it whole
    frames: tuple[int, ...] = ()  # of the current log's commits, counted from 1, in order

    def lost(self, recovered_frames: int) -> int:
        """How many commits are behind the last of `recovered_frames`; a damaged header counts as one.

        A single one does not count: a kill or a power cut in mid-commit leaves it, before anybody was told of it.
        """
        behind = sum(frame > recovered_frames for frame in self.frames)
        return int(self.damaged) + (behind if behind > 1 else 0)


def read_commits(path: Path) -> WalCommits:
    """Read the headers in the log at `path`; a missing log has no commits.

    Raises:
        OSError: it is there and cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return WalCommits()
    try:
        return _read(descriptor, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)


def _read(descriptor: int, size: int) -> WalCommits:
    if size <= _HEADER.size:
        return WalCommits()
    header = os.pread(descriptor, _HEADER.size, 0)
    if not _valid(header):
        return WalCommits(damaged=True)
    _, _, page_size, _, *salts, _, _ = _HEADER.unpack(header)
    step = _FRAME.size + page_size
    commits = []
    for number in range(1, (size - _HEADER.size) // step + 1):
        frame = os.pread(descriptor, _FRAME.size, _HEADER.size + (number - 1) * step)
        _, pages_after_commit, *frame_salts, _, _ = _FRAME.unpack(frame)
        if pages_after_commit and frame_salts == salts:
            commits.append(number)
    return WalCommits(frames=tuple(commits))


def _valid(header: bytes) -> bool:
    magic, *_, first, second = _HEADER.unpack(header)
    if magic | 1 != _MAGIC | 1:
        return False
    words = struct.unpack(">6I" if magic & 1 else "<6I", header[:24])
    return _checksum(words) == (first, second)


def _checksum(words: tuple[int, ...]) -> tuple[int, int]:
    first = second = 0
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second
