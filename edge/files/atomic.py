"""Files and directories that are there whole or not at all, even after a power cut."""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from edge.errors import PatchlineError
from edge.files.names import bounded

# Linux' renameat2(2).
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def write_file(path: Path, contents: bytes) -> None:
    """Write `contents` under a temporary name, flush to disk, rename.

    Raises:
        OSError: the disk refuses; the old file, if any, is untouched.
    """
    temporary = path.with_name(f".{bounded(path.name)}.{os.getpid()}.tmp")
    try:
        write_synced(temporary, contents)
        temporary.replace(path)
        sync_directory(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_directory(directory: Path, files: Mapping[str, bytes], *, replace: bool, error: type[PatchlineError]) -> None:
    """Write `files` (name → contents) as a directory that is there whole or not at all.

    Written to a temporary sibling, every file and directory flushed to disk, then renamed. An old directory changes
    places with the new one in one step, where the file system can do that: at no time is there none.

    Raises:
        error: the directory exists and may not be replaced, or the disk refuses.
    """
    if directory.exists() and not replace:
        raise error(f"{directory}: exists already; choose another name or allow replacing it")
    staging = directory.with_name(f".{bounded(directory.name)}.{os.getpid()}.tmp")
    shutil.rmtree(staging, ignore_errors=True)  # of a killed process that had our number
    try:
        staging.mkdir(parents=True)
        for name, contents in files.items():
            write_synced(staging / name, contents)
        for folder in {staging, *((staging / name).parent for name in files)}:
            sync_directory(folder)
        _swap(staging, directory)
    except OSError as problem:
        raise error(f"{directory}: cannot be written ({problem.strerror}); nothing was left behind") from problem
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def refuse_unwritable(directory: Path, error: type[PatchlineError]) -> None:
    """Refuse a directory that files could not be written into, before the work that makes them; nothing is left.

    Raises:
        error: it cannot be made, or not be written into.
    """
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as problem:
        raise error(f"{directory}: cannot be written into ({problem.strerror}); give a place that can be") from problem
    finally:
        for path in missing:
            with suppress(OSError):
                path.rmdir()


def write_synced(path: Path, contents: bytes) -> None:
    """Write `contents` and flush them to disk; the name is flushed by `sync_directory`.

    Raises:
        OSError: the disk refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        stream.write(contents)
        stream.flush()
        os.fsync(stream.fileno())


def sync_directory(directory: Path) -> None:
    """Flush the names in `directory` to disk.

    Raises:
        OSError: the disk refuses.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _swap(staging: Path, directory: Path) -> None:
    if not directory.exists():
        staging.rename(directory)
    elif not _exchange(staging, directory):
        _rename_twice(staging, directory)
    sync_directory(directory.parent)


def _exchange(first: Path, second: Path) -> bool:
    """Let two names change places in one step. False: this system or file system cannot."""
    try:
        rename = ctypes.CDLL(None).renameat2
    except AttributeError:
        return False
    return int(rename(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE)) == 0


def _rename_twice(staging: Path, directory: Path) -> None:
    old = directory.with_name(f".{bounded(directory.name)}.{os.getpid()}.old")
    directory.rename(old)
    try:
        staging.rename(directory)
    except OSError:
        old.rename(directory)
        raise
    shutil.rmtree(old, ignore_errors=True)
