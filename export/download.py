"""One way to download a published file: whole, with the hash that it was published with, or not at all."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

from edge.errors import ExportError
from edge.terminal import phase

_TIMEOUT_S = 30.0  # without a single byte
_CHUNK_BYTES = 1 << 20


def download(address: str, file: Path, sha256: str, *, room: float = 1.0) -> None:
    """Have `file`, downloaded from `address` unless it is there already with the right contents.

    Args:
        address: begins with https:// or http://.
        file: where to keep it; its directory is made.
        sha256: 64 hexadecimal digits.
        room: disk space that must be free, as a multiple of the announced size.

    Raises:
        ExportError: pooch is not installed, there is no room, or it is another file than the published one.
        OSError: it cannot be reached, ends early or cannot be stored.

    Whatever is raised, nothing is left behind.
    """
    if find_spec("pooch") is None:
        raise ExportError("downloads need pooch: pip install '.[datasets]' -c constraints.txt")
    if not address.startswith(("https://", "http://")):
        raise OSError("the address must begin with https:// or http://")
    import pooch  # noqa: PLC0415 — an extra: a station downloads nothing

    pooch.get_logger().setLevel("ERROR")
    progress = _Progress(address.rpartition("/")[2], file.parent, room)
    fetch = pooch.HTTPDownloader(progressbar=progress, chunk_size=_CHUNK_BYTES, timeout=_TIMEOUT_S)
    try:
        with progress:
            pooch.retrieve(address, f"sha256:{sha256}", file.name, file.parent, downloader=fetch)
    except OSError:  # those of requests among them, some of which are ValueErrors, too
        raise
    except ValueError as error:
        got = re.findall(r"[0-9a-f]{64}", str(error))[-1]
        raise ExportError(
            f"{address}: not the published file: expected sha256 {sha256[:12]}…, got {got[:12]}…"
        ) from error


class _Progress:
    """What pooch takes for a progress bar. It learns the size before the first byte is stored."""

    def __init__(self, name: str, directory: Path, room: float) -> None:
        self._name = name
        self._directory = directory
        self._room = room
        self._total = 0
        self._done = 0
        self._tell: Callable[[int], None] = lambda _: None
        self._phase = contextlib.ExitStack()

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._phase.__exit__(kind, error, trace)

    @property
    def total(self) -> int:
        """Bytes as they were announced; 0: they were not."""
        return self._total

    @total.setter
    def total(self, size: int) -> None:
        _check_room(self._directory, size, self._room)
        self._total = size
        self._tell = self._phase.enter_context(phase(f"downloading {self._name}, MB", _mb(size)))

    def update(self, size: int) -> None:
        """`size` more bytes have come."""
        self._done = min(self._done + size, self._total)
        self._tell(_mb(self._done))

    def reset(self) -> None:
        """From the beginning; pooch does so at the end, and then updates by all."""
        self._done = 0

    def close(self) -> None:
        """The file is complete."""


def _check_room(directory: Path, size: int, room: float) -> None:
    free = shutil.disk_usage(directory).free
    if free < room * size:
        raise ExportError(f"{directory}: needs {room * size / 1e9:.1f} GB, {free / 1e9:.1f} GB are free")


def _mb(size: int) -> int:
    return -(-size // 1_000_000)
