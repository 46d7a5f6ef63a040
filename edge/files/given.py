"""Files that a person names in the settings: regular ones, links followed, of a size that makes sense."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from edge.errors import PatchlineError

_SECRET_BYTES = 2**16
_GROWN_BYTES = 2**20  # at a time, of a file that has grown since it was opened


def read_given(path: Path, *, most: int) -> bytes:
    """The contents of `path`, without waiting for a FIFO or a device.

    Raises:
        OSError: it cannot be read, is no regular file, or has more than `most` bytes; `strerror` says why.
    """
    try:
        refuse_irregular(path)  # before it is opened: opening alone makes some devices act
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:
        raise OSError(errno.EINVAL, "its name holds a NUL") from error
    with os.fdopen(descriptor, "rb") as stream:
        found = os.fstat(descriptor)
        _refuse_other_kinds(found)
        data = stream.read(min(found.st_size, most) + 1)  # room is made for as many bytes as are asked for
        while len(data) <= most and (more := stream.read(_GROWN_BYTES)):
            data += more
    if len(data) > most:
        raise OSError(errno.EFBIG, f"expected at most {most} bytes, got more")
    return data


def read_secret(path: Path, name: str, expected: str, hint: str = "", *, error: type[PatchlineError]) -> str:
    """The text of a file with a secret, which nobody else may read or change. No message shows any of it.

    Args:
        path: the file.
        name: of the setting that names it, for messages.
        expected: what it holds, for messages.
        hint: more for the message about a file that cannot be read.
        error: what is raised.

    Raises:
        error: the file cannot be read, is no text, or everybody on this machine may read or change it.
    """
    try:
        refuse_public(path, name, error=error)
        return read_given(path, most=_SECRET_BYTES).decode("utf-8")
    except OSError as problem:
        raise error(f"{name} {path}: cannot be read ({problem.strerror}); expected {expected}{hint}") from problem
    except UnicodeDecodeError:
        # Without the cause: its message would show bytes of the file.
        raise error(f"{name} {path}: is not UTF-8; expected {expected}") from None


def refuse_public(path: Path, name: str, *, error: type[PatchlineError]) -> None:
    """Whoever has an account on the machine could speak as the station.

    Raises:
        error: everybody may read or change the file.
        OSError: it cannot be looked at.
    """
    mode = path.stat().st_mode
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        raise error(
            f"{name} {path}: everybody on this machine may read or change it "
            f"(mode {stat.S_IMODE(mode):04o}); chmod 0400, owned by the service's user"
        )


def refuse_irregular(path: Path) -> None:
    """What waits or acts when it is opened is refused.

    Raises:
        OSError: nothing is there, or no regular file; `strerror` says which.
    """
    _refuse_other_kinds(path.stat())


def _refuse_other_kinds(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a directory")
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")
