"""What was committed last, known outside the database: however a write-ahead log loses its end, it is noticed.

A small file that is overwritten in place after every commit, without a flush of its own. A killed process leaves it
exact, because the kernel keeps what was written; after a power cut it may be behind, never ahead, and then the log,
which is flushed at every commit, is the better witness. Overwriting takes no space, so a full disk is no obstacle.
"""

from __future__ import annotations

import logging
import os
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edge.delivery.outbox.schema import DamagedError
from edge.files.atomic import write_file

_SIZE = 120  # bytes: four 64-bit numbers, a checksum, a line end
_NO_FILE = -1

log = logging.getLogger("patchline.outbox")


@dataclass(frozen=True, slots=True)
class Mark:
    """How far an outbox has come."""

    epoch: int = 0
    seq: int = 0  # the last one given out in that epoch
    commits: int = 0  # of the database of that epoch
    last_epoch: int = 0  # the highest that was ever used or set apart in this directory


class HighWater:
    """The file. Belongs to whoever holds the outbox's lock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = _NO_FILE
        self._complained = False

    def read(self) -> Mark | None:
        """None: there is no such file.

        Raises:
            DamagedError: it is not what was written.
            OSError: it cannot be read.
        """
        try:
            contents = self._path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            mark = Mark(*map(int, contents.split()[:4]))
        except (ValueError, TypeError) as error:
            raise DamagedError(f"the file {self._path.name} cannot be read") from error
        if contents != _encode(mark):
            raise DamagedError(f"the file {self._path.name} is not what was written")
        return mark

    def begin(self, mark: Mark) -> None:
        """Write `mark` so that it survives a power cut.

        Raises:
            OSError: the disk refuses.
        """
        if self._file == _NO_FILE:
            if not self._path.exists() or self._path.stat().st_size != _SIZE:
                write_file(self._path, _encode(mark))
            self._file = self._open(mark)
        os.pwrite(self._file, _encode(mark), 0)
        os.fdatasync(self._file)

    def _open(self, mark: Mark) -> int:
        try:
            return os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
        except PermissionError:  # another user's, as of a command that was run as root; the directory is ours
            write_file(self._path, _encode(mark))
            return os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)

    def note(self, mark: Mark) -> None:
        """Write `mark` so that it survives the process. A disk that refuses even this is only told of."""
        if self._file == _NO_FILE:
            return
        try:
            os.pwrite(self._file, _encode(mark), 0)
        except OSError as error:
            if not self._complained:
                log.warning("%s cannot be written: %s", self._path, error.strerror)
            self._complained = True
        else:
            self._complained = False

    def close(self) -> None:
        """May be called twice."""
        if self._file != _NO_FILE:
            with suppress(OSError):
                os.close(self._file)
        self._file = _NO_FILE


def _encode(mark: Mark) -> bytes:
    numbers = f"{mark.epoch} {mark.seq} {mark.commits} {mark.last_epoch}".encode("ascii")
    return b"%s %08x" % (numbers, zlib.crc32(numbers)) + b" " * (_SIZE - len(numbers) - 10) + b"\n"
