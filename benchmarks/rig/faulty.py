"""Faults below the service: its C library fails on command (`faulty.c`), or its threads stand still.

The service under test is the real one; it is only started with `LD_PRELOAD`.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

SOURCE = Path(__file__).with_name("faulty.c")
CONTROL = struct.Struct("<qiiii")  # as in faulty.c
PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH = 0x4206, 0x4207, 17  # <sys/ptrace.h>
WAIT_ALL_THREADS = 0x40000000  # __WALL of waitpid(2)


class FaultyLibrary:
    """What one service's C library is told."""

    def __init__(self, library: Path, directory: Path, watched: Path) -> None:
        """Nothing fails yet.

        Args:
            library: the compiled library.
            directory: for its own files.
            watched: writes below it fail or reads hang on command, and what is fsynced below it is kept.
        """
        self._watched = watched.resolve()
        self._shadow = directory / "shadow"
        self._shadow.mkdir()
        control = directory / "control"
        control.write_bytes(bytes(CONTROL.size))
        self._file = control.open("r+b")
        self._memory = mmap.mmap(self._file.fileno(), CONTROL.size)
        watched.mkdir(exist_ok=True)
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAULTY_CONTROL": str(control),
            "FAULTY_DIRECTORY": str(self._watched),
            "FAULTY_SHADOW": str(self._shadow.resolve()),
        }

    @property
    def failures(self) -> int:
        """Writes that failed so far."""
        return int(CONTROL.unpack(self._memory)[2])

    def shift_clock(self, seconds: int) -> None:
        """The wall clock shows so much more than the machine's; at once, as when somebody sets it."""
        struct.pack_into("<q", self._memory, 0, seconds)

    def fail_writes(self, error: int) -> None:
        """Writes, truncations and fsyncs in the watched directory fail with this errno; 0: no more."""
        struct.pack_into("<i", self._memory, 8, error)

    @property
    def hanging(self) -> int:
        """Reads that hang now."""
        return int(CONTROL.unpack(self._memory)[4])

    def hang_reads(self, *, hang: bool) -> None:
        """Reads in the watched directory do not return until this is taken back, as on a dead network drive."""
        struct.pack_into("<i", self._memory, 16, hang)

    def restore(self, where: Path) -> None:
        """Make in `where` what a power cut now would have left: only what was fsynced, under names that were."""
        self._restore_directory("root", where)

    def cut_power(self, aside: Path) -> None:
        """Put the watched directory `aside`, and what a power cut now would have left of it in its place.

        The service must have been killed.
        """
        self._watched.rename(aside)
        self.restore(self._watched)
        shutil.rmtree(self._shadow)
        self._shadow.mkdir()
        # What is left is on disk for good: let the library know by syncing it once more.
        subprocess.run(
            ["sync", *self._watched.rglob("*"), self._watched], check=True, env=os.environ | self.environment
        )

    def _restore_directory(self, identity: str, where: Path) -> None:
        where.mkdir()
        names = self._shadow / identity
        for line in names.read_text().splitlines() if names.exists() else []:
            entry, is_directory, name = line.split(" ", 2)
            contents = self._shadow / entry
            if int(is_directory):
                self._restore_directory(entry, where / name)
            elif contents.exists():
                shutil.copyfile(contents, where / name)
            else:  # its name reached the disk, its contents did not
                (where / name).touch()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._memory.close()
        self._file.close()


@contextlib.contextmanager
def standing_still(pid: int) -> Iterator[None]:
    """Every thread of `pid` but its main one is stopped meanwhile, as if each hung in a call."""
    trace = ctypes.CDLL(None, use_errno=True).ptrace
    trace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    stopped: list[int] = []
    try:
        for thread in sorted(int(path.name) for path in Path(f"/proc/{pid}/task").iterdir()):
            if thread == pid:
                continue
            if trace(PTRACE_SEIZE, thread, None, None) != 0:
                pytest.skip(f"hardware: threads cannot be traced here: {os.strerror(ctypes.get_errno())}")
            stopped.append(thread)
            trace(PTRACE_INTERRUPT, thread, None, None)
            os.waitpid(thread, WAIT_ALL_THREADS)
        yield
    finally:
        for thread in stopped:
            trace(PTRACE_DETACH, thread, None, None)
