"""The outbox's files beside its database: crops, ballast, epoch, lock.

A crop's file is on disk before its row is committed and removed after its row is deleted: a crash in between
leaves a file without a row, never a row without a file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import zlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from edge.errors import OutboxInUseError
from edge.files.atomic import sync_directory, write_file, write_synced

_LONGEST_NUMBER = 20  # digits of a 64-bit integer
_LONGEST_LINE = 40
_HIGHEST_SANE_EPOCH = 2**53  # what every reader of JSON tells apart


class CropFiles:
    """Payloads that are too large for the database, one file each."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def write(self, files: Mapping[str, bytes]) -> None:
        """Write all `files` (name → contents), so that they survive a power cut.

        Raises:
            OSError: the disk refuses; none of them is left.
        """
        if not files:
            return
        try:
            self._make_directory()
            for name, contents in files.items():
                self._write_one(name, contents)
            sync_directory(self.directory)
        except OSError:
            self.remove(list(files))
            raise

    def read(self, name: str) -> bytes | None:
        """The contents; None: the file is not there or cannot be read."""
        try:
            return (self.directory / name).read_bytes() if _is_plain(name) else None
        except OSError:
            return None

    def remove(self, names: Sequence[str]) -> None:
        """Remove what is there of `names`; what cannot be removed is an orphan for the next `sweep`."""
        for name in filter(_is_plain, names):
            for path in (self.directory / name, self._temporary(name)):
                with contextlib.suppress(OSError):
                    path.unlink()

    def sweep(self, known: Collection[str]) -> int:
        """Remove every file that is not `known`; how many there were.

        Raises:
            OSError: the directory cannot be read, or a file not be removed.
        """
        if not self.directory.is_dir():
            return 0
        with os.scandir(self.directory) as entries:
            orphans = [entry.name for entry in entries if entry.name not in known]
        for name in orphans:
            (self.directory / name).unlink()
        return len(orphans)

    def any(self) -> bool:
        """There are files."""
        return self.directory.is_dir() and any(self.directory.iterdir())

    def _make_directory(self) -> None:
        if not self.directory.is_dir():
            self.directory.mkdir()
            sync_directory(self.directory.parent)

    def _write_one(self, name: str, contents: bytes) -> None:
        temporary = self._temporary(name)
        write_synced(temporary, contents)
        temporary.replace(self.directory / name)

    def _temporary(self, name: str) -> Path:
        return self.directory / f".{name}.tmp"


class Ballast:
    """A file that is only there to be removed when the disk is full: deleting from a database takes space, too."""

    def __init__(self, path: Path, size: int) -> None:
        """`size` bytes at `path`; 0: no ballast."""
        self._path = path
        self.size = size
        self._reserved = self._complete()

    @property
    def in_place(self) -> bool:
        """It is there, whole."""
        return self._reserved

    def reserve(self) -> None:
        """Take the space; without effect where it is taken.

        Raises:
            OSError: there is no room; nothing is left.
        """
        if self.size == 0 or self._reserved:
            return
        try:
            self._fill()
        except OSError:
            self.release()
            raise
        self._reserved = True

    def release(self) -> bool:
        """Give the space back; False: there was none."""
        self._reserved = False
        try:
            self._path.unlink()
        except OSError:
            return False
        return True

    def _complete(self) -> bool:
        # One that a kill left unfinished has fewer blocks than bytes.
        try:
            found = self._path.stat()
        except OSError:
            return False
        return self.size > 0 and found.st_size == self.size and found.st_blocks * 512 >= self.size

    def _fill(self) -> None:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self.size)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class EpochFile:
    """The highest epoch ever used or set apart in a directory; outlives its databases."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> int:
        """The epoch; 0: none is known, or the file is damaged."""
        try:
            epoch, *checksum = self._path.read_bytes()[:_LONGEST_LINE].decode("ascii").split()
            sound = int(epoch) < _HIGHEST_SANE_EPOCH and checksum in ([], [_checksum(epoch)])  # once there was none
        except (OSError, ValueError):
            return 0
        return max(0, int(epoch)) if sound else 0

    def write(self, epoch: int) -> None:
        """Remember `epoch` over a power cut.

        Raises:
            OSError: the disk refuses; the old one stays.
        """
        write_file(self._path, f"{epoch} {_checksum(str(epoch))}\n".encode("ascii"))


class DirectoryLock:
    """One process at a time; the kernel ends it with the process."""

    def __init__(self, path: Path) -> None:
        """Take the lock.

        Raises:
            OutboxInUseError: another process holds it.
            OSError: the file cannot be opened.
        """
        self._file = path.open("a+", encoding="ascii", errors="replace")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.seek(0)
            holder = self._file.read(_LONGEST_NUMBER).strip() or "unknown"
            self._file.close()
            raise OutboxInUseError(
                f"{path.parent}: this outbox is in use by another process (pid {holder}); an outbox serves one "
                "station: stop that process, or set another outbox directory"
            ) from error
        # Only for people, so a full disk is no obstacle.
        with contextlib.suppress(OSError):
            os.ftruncate(self._file.fileno(), 0)
            os.write(self._file.fileno(), b"%d\n" % os.getpid())

    def release(self) -> None:
        """Let the next one in. May be called twice."""
        self._file.close()


def free_bytes(directory: Path) -> int:
    """What an ordinary user may still write; -1: the file system does not say."""
    try:
        found = os.statvfs(directory)
    except OSError:
        return -1
    return found.f_bavail * found.f_frsize


def _is_plain(name: str) -> bool:
    """It is a name, not a way out of the directory: on disk, it may be anything."""
    return Path(name).name == name and "\0" not in name


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode('ascii')):08x}"
