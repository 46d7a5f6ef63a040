"""Picture files: found in a natural order, read whole or refused, written atomically.

A picture is always (height, width, 3) BGR of dtype uint8, turned upright if its EXIF says so; grey, 16 bit
and transparent files are converted by OpenCV. How large a picture may be is limited in `edge/__init__.py`.
"""

from __future__ import annotations

import glob
import re
from pathlib import Path

import cv2
import numpy as np

from edge.errors import PatchlineError, SourceError
from edge.files.atomic import write_file
from edge.records import UInt8Array

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
# A file is read whole before it is decoded; 134 megapixels uncompressed, 24 bit, have 403 MB.
MAX_FILE_BYTES = 512 * 1024 * 1024

_JPEG_START = b"\xff\xd8"
_JPEG_SCAN = b"\xff\xda"
_JPEG_END = b"\xff\xd9"


def read_picture(path: Path) -> UInt8Array:
    """The picture in `path`: (height, width, 3) BGR.

    Raises:
        SourceError: the file is missing, unreadable, too large, cut off, corrupt or not a picture.
    """
    data = _read_bytes(path)
    if data.startswith(_JPEG_START) and data.find(_JPEG_END, data.rfind(_JPEG_SCAN)) < 0:
        # OpenCV 4 fills the missing rows with grey and says nothing.
        raise SourceError(f"{path}: JPEG cut off after {len(data)} bytes: its end marker is missing; copy it again")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise SourceError(f"{path}: picture refused by the decoder ({error.err}); is it too large?") from error
    if image is None:
        raise SourceError(
            f"{path}: not a picture that can be decoded ({len(data)} bytes); cut off, corrupt or other format"
        )
    return np.asarray(image, np.uint8)


def read_mask(path: Path) -> UInt8Array:
    """A mask picture (height, width): white, or any value above 127, is what shall be ignored.

    Raises:
        SourceError: as `read_picture`.
    """
    picture = read_picture(path)
    return np.asarray((picture.max(axis=2) > 127) * np.uint8(255), np.uint8)


def list_pictures(where: str | Path) -> list[Path]:
    """The pictures of a directory (without its subdirectories), of a glob (`**` included), or the one file.

    Directories and globs give files with a picture's suffix, not hidden, in natural order (`2` before `10`);
    a single file is taken whatever it is called.

    Raises:
        SourceError: nothing is there, or no pictures are among it.
    """
    path = Path(where)
    if path.is_file():
        return [path]
    if path.is_dir():
        found = _entries(path)
    elif glob.has_magic(str(where)):
        found = [Path(name) for name in glob.glob(str(where), recursive=True)]  # noqa: PTH207 — takes absolute patterns
    else:
        raise SourceError(f"{where}: no such picture, directory or glob; check the path")
    pictures = [entry for entry in found if _is_picture(entry)]
    if not pictures:
        raise SourceError(
            f"{where}: no pictures among {len(found)} entries; expected {', '.join(sorted(SUFFIXES))}"
            " (for subdirectories give a glob: DIR/**/*.png)"
        )
    return sorted(pictures, key=_natural_key)


def write_picture(path: Path, image: UInt8Array) -> None:
    """Write `image`, (height, width, 3) BGR or (height, width) grey, in the format of `path`'s suffix.

    The file appears whole or not at all.

    Raises:
        PatchlineError: the suffix names no format, or the file cannot be written.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise PatchlineError(f"{path}: unknown picture suffix '{path.suffix}'; expected {', '.join(sorted(SUFFIXES))}")
    try:
        written, data = cv2.imencode(path.suffix, image)
    except cv2.error as error:
        raise PatchlineError(f"{path}: {image.shape} {image.dtype} cannot be encoded ({error.err})") from error
    if not written:
        raise PatchlineError(f"{path}: {image.shape} {image.dtype} cannot be encoded as '{path.suffix}'")
    try:
        write_file(path, data.tobytes())
    except OSError as error:
        raise PatchlineError(
            f"{path}: cannot be written ({error.strerror}); check disk space and permissions"
        ) from error


def _read_bytes(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise SourceError(f"{path}: {size} bytes; expected at most {MAX_FILE_BYTES}; is it a picture?")
        if size == 0:
            raise SourceError(f"{path}: empty file; it was not written to its end, copy it again")
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error


def _entries(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except OSError as error:
        raise SourceError(f"{directory}: cannot be listed ({error.strerror}); check its permissions") from error


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _natural_key(path: Path) -> tuple[list[str | int], str]:
    # Splitting at numbers alternates text and number, so equal positions always compare equal types.
    parts = re.split(r"(\d+)", str(path).casefold())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], str(path)
