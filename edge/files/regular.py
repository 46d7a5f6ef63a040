"""Regular files, read whole, of directories that others may have filled.

Below the directory no link is followed, nothing is opened that waits or acts (FIFOs, devices), and a file's size is
judged before its contents are read.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path, PurePosixPath

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link, which is not followed",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
}


class SizeError(OSError):
    """A file has another size than it may have; `strerror` says which."""


def read_regular(directory: Path, name: str, *, most: int, size: int | None = None) -> bytes:
    """The contents of the regular file `directory/name`.

    Args:
        directory: may itself be reached through links.
        name: relative, its parts separated by `/`.
        most: bytes that it may have.
        size: bytes that it must have; none: any number.

    Raises:
        SizeError: it is larger than `most`, or not of the expected size.
        OSError: it cannot be read, or is no regular file below the directory; `strerror` says why.
    """
    descriptor = _open_below(directory, name)
    with os.fdopen(descriptor, "rb") as stream:
        found = os.fstat(descriptor)
        _refuse_other_than(stat.S_IFREG, found.st_mode)  # again: it may be another one by now
        if size is not None and found.st_size != size:
            raise SizeError(errno.EINVAL, f"expected {size} bytes, got {found.st_size}")
        if found.st_size > most:
            raise SizeError(errno.EFBIG, f"expected at most {most} bytes, got {found.st_size}")
        data = stream.read(found.st_size)
        if len(data) != found.st_size or stream.read(1):
            raise SizeError(errno.EIO, f"expected {found.st_size} bytes, but it changed while it was read")
    return data


def _open_below(directory: Path, name: str) -> int:
    """A descriptor of `directory/name`; parts are opened one by one, each in the one before."""
    *folders, last = PurePosixPath(name).parts or ("",)
    current = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            inner = _open_in(current, folder, stat.S_IFDIR)
            os.close(current)
            current = inner
        return _open_in(current, last, stat.S_IFREG)
    finally:
        os.close(current)


def _open_in(parent: int, name: str, kind: int) -> int:
    if name in {"", "..", "/"} or "\0" in name:
        raise OSError(errno.EINVAL, "its name leads out of the directory")
    # Looked at before it is opened: opening alone makes some devices act.
    _refuse_other_than(kind, os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    return os.open(name, _OPEN, dir_fd=parent)


def _refuse_other_than(kind: int, mode: int) -> None:
    found = stat.S_IFMT(mode)
    if found != kind:
        raise OSError(errno.EINVAL, f"it is {_KINDS.get(found, 'a device')}")
