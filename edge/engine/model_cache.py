"""OpenVINO's compiled models on disk, each with its hash beside it: a damaged one is never loaded.

OpenVINO checks what it finds in a cache no further than that it can be loaded, and a page of zeros among the weights
can. Each model has a directory of its own, so that only what would be loaded is hashed.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from edge.files.atomic import write_file

_BLOBS = "*.blob"
_SUFFIX = ".sha256"


class ModelCache:
    """The compiled forms of one model: for every device, arithmetic and number of threads that it was used with."""

    def __init__(self, root: Path, model: str) -> None:
        """Of the model of that name, below `root`."""
        self.directory = root / model

    def open(self) -> tuple[str, ...]:
        """Make the directory; the paths of what was damaged and is removed, as is what nobody has tested and sealed.

        Raises:
            OSError: it cannot be made or read.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        blobs = sorted(self.directory.glob(_BLOBS))
        sealed = [blob for blob in blobs if _seal_of(blob).exists()]
        damaged = [blob for blob in sealed if not _is_whole(blob)]
        for blob in (*damaged, *(blob for blob in blobs if blob not in sealed)):
            _remove(blob)
        return tuple(map(str, damaged))

    def seal(self) -> None:
        """Write down the hashes of what has none yet, or was written anew by OpenVINO.

        Raises:
            OSError: the disk refuses.
        """
        for blob in self.directory.glob(_BLOBS):
            if not _is_sealed(blob):
                write_file(_seal_of(blob), _hash(blob).encode())

    def clear(self) -> tuple[str, ...]:
        """Remove every compiled form, and return their paths.

        Raises:
            OSError: the disk refuses.
        """
        return tuple(str(blob) for blob in sorted(self.directory.glob(_BLOBS)) if _remove(blob))


def _is_sealed(blob: Path) -> bool:
    seal = _seal_of(blob)
    return seal.exists() and seal.stat().st_mtime_ns >= blob.stat().st_mtime_ns


def _is_whole(blob: Path) -> bool:
    try:
        return _seal_of(blob).read_text(encoding="ascii") == _hash(blob)
    except (OSError, UnicodeDecodeError):
        return False


def _remove(blob: Path) -> bool:
    """A process that still reads from it is not disturbed."""
    blob.unlink(missing_ok=True)
    _seal_of(blob).unlink(missing_ok=True)
    return True


def _seal_of(blob: Path) -> Path:
    return blob.with_name(blob.name + _SUFFIX)


def _hash(blob: Path) -> str:
    with blob.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
