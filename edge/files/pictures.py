"""Picture files: found in a natural order, read whole or refused, written atomically.

A picture is always (height, width, 3) BGR of dtype uint8, turned upright if its EXIF says so. There is one rule for
values, wherever a picture is read: black is 0 and white the largest value of the file's type, which PGM and PPM state,
and 16 bits become their upper 8. A picture of 16 bits that uses less than a quarter of them is refused: it comes from a
camera of 10, 12 or 14 bits, and would be nearly black. So are signed and floating-point values. Transparency and
further pages are left out, which is logged once for each directory.
"""

from __future__ import annotations

import functools
import glob
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge.errors import PatchlineError, SourceError
from edge.files import jpeg
from edge.files.atomic import write_file
from edge.files.given import read_given
from edge.files.headers import read_header
from edge.files.names import shown
from edge.records import UInt8Array

log = logging.getLogger("patchline.pictures")

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
# A file is read whole before it is decoded; 134 megapixels uncompressed, 24 bit, have 403 MB.
MAX_FILE_BYTES = 512 * 1024 * 1024
NO_MEMORY = "there is no memory for it"
MAX_PIXELS = 2**27  # as OPENCV_IO_MAX_IMAGE_PIXELS in `edge/__init__.py`

_LEAST_OF_16_BITS = 2**14  # a picture of 16 bits without any value so large has at most 14


def read_picture(path: Path, max_pixels: int = MAX_PIXELS) -> UInt8Array:
    """The picture in `path`: (height, width, 3) BGR.

    Raises:
        SourceError: the file is missing, unreadable, too large, cut off, corrupt, not a picture, not of 8 or 16 bits,
            or of more than `max_pixels`.
    """
    try:
        data = _read_bytes(path)
        return _decode_any(data, max_pixels, path)
    except MemoryError as error:
        raise SourceError(f"{shown(path)}: {NO_MEMORY}; free some, or make the picture smaller") from error


def read_as_stored(path: Path) -> npt.NDArray[Any]:
    """The picture in `path` as it is stored: (height, width, channels) of 8 or 16 bits, transparency as the fourth.

    For masks, whose values are numbers and no light.

    Raises:
        SourceError: as `read_picture`, but whatever the values of 16 bits are.
    """
    data = _read_bytes(path)
    try:
        if data.startswith(jpeg.START):
            return jpeg.decode_jpeg(data, MAX_PIXELS, upright=True)
        header = read_header(data)
        jpeg.check_size(header.width, header.height, MAX_PIXELS)
        image = _decode_values(data, cv2.IMREAD_UNCHANGED)
    except SourceError as error:
        raise SourceError(f"{shown(path)}: {error}") from error
    return image if image.ndim == 3 else image[:, :, None]


def list_pictures(where: str | Path) -> list[Path]:
    """The pictures of a directory (without its subdirectories), of a glob (`**` included), or the one file.

    Directories and globs give files with a picture's suffix, not hidden, in natural order (`2` before `10`); a link
    that leads nowhere is among them, so that reading it names it. `**` enters each directory once, whatever links
    lead there. A single file is taken whatever it is called.

    Raises:
        SourceError: nothing is there, or no pictures are among it.
    """
    path = Path(where)
    if path.is_file():
        return [path]
    if path.is_dir():
        found = _entries(path)
    elif glob.has_magic(str(where)):
        found = [Path(name) for name in _glob(str(where))]
    else:
        raise SourceError(f"{shown(where)}: no such picture, directory or glob; check the path")
    pictures = [entry for entry in found if is_picture(entry)]
    if not pictures:
        raise SourceError(
            f"{shown(where)}: no pictures among {len(found)} entries; expected {', '.join(sorted(SUFFIXES))}"
            " (for subdirectories give a glob: DIR/**/*.png)"
        )
    return sorted(pictures, key=_natural_key)


def is_picture(path: Path) -> bool:
    """Whether `path` is read as a picture, by its name; a link that leads nowhere is, so that reading names it."""
    named = path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    return named and (path.is_file() or _is_broken_link(path))


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


def _decode(data: bytes, max_pixels: int, directory: Path) -> UInt8Array:
    header = read_header(data)
    jpeg.check_size(header.width, header.height, max_pixels)
    image = _decode_values(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    for part in header.dropped:
        _say_dropped(part, directory)
    return _to_8_bits(image, header.largest_value)


def _decode_values(data: bytes, flags: int) -> npt.NDArray[Any]:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise SourceError(f"picture refused by the decoder ({error.err}); is it too large?") from error
    if image is None:
        raise SourceError(
            f"not a picture that can be decoded ({len(data)} bytes); cut off, corrupt, other format, "
            "or not of 8 or 16 unsigned bits"
        )
    if image.dtype not in (np.uint8, np.uint16):
        raise SourceError(f"values of type {image.dtype}; expected 8 or 16 unsigned bits: convert it")
    return image


def _to_8_bits(image: npt.NDArray[Any], largest_value: int) -> UInt8Array:
    """By the rule that this module begins with; `largest_value` is what the file states, or 0."""
    if largest_value not in (0, 255, 65535):
        return np.asarray(cv2.convertScaleAbs(image, alpha=255 / largest_value), np.uint8)
    if image.dtype == np.uint8:
        return np.asarray(image, np.uint8)
    brightest = int(image.max())
    if brightest < _LEAST_OF_16_BITS:
        raise SourceError(
            f"16 bits, of which {brightest.bit_length()} are used: no value is above {brightest} of 65535. "
            "Have the camera's 10, 12 or 14 bits scaled to 16, or saved as 8, or as PGM with their largest value"
        )
    return np.asarray(np.right_shift(image, 8, dtype=np.uint16).astype(np.uint8), np.uint8)


@functools.lru_cache(maxsize=256)
def _say_dropped(part: str, directory: Path) -> None:
    """Once for each directory."""
    log.warning("%s: pictures have %s, which is left out", shown(directory), part)


def _decode_any(data: bytes, max_pixels: int, path: Path) -> UInt8Array:
    try:
        if data.startswith(jpeg.START):
            return jpeg.decode_jpeg(data, max_pixels, upright=True)
        return _decode(data, max_pixels, path.parent)
    except SourceError as error:
        raise SourceError(f"{shown(path)}: {error}") from error


def _read_bytes(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise SourceError(f"{shown(path)}: {size} bytes; expected at most {MAX_FILE_BYTES}; is it a picture?")
        data = read_given(path, most=MAX_FILE_BYTES)
    except OSError as error:
        raise SourceError(
            f"{shown(path)}: cannot be read ({_why(path, error)}); check the path and its permissions"
        ) from error
    if not data:
        raise SourceError(f"{shown(path)}: empty file; it was not written to its end, copy it again")
    return data


def _why(path: Path, error: OSError) -> str:
    return f"a link to {shown(path.readlink())}, which is not there" if _is_broken_link(path) else str(error.strerror)


def _is_broken_link(path: Path) -> bool:
    return path.is_symlink() and not path.exists()


def _entries(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except OSError as error:
        raise SourceError(f"{shown(directory)}: cannot be listed ({error.strerror}); check its permissions") from error


def _glob(pattern: str) -> Iterator[str]:
    """As `glob.glob`, but a directory that links lead back to is not entered again and again."""
    if pattern == "**" or pattern.endswith("/**"):
        pattern += "/*"
    head, deep, tail = pattern.partition("**/")
    if not deep or (head and not head.endswith("/")):
        yield from glob.iglob(pattern)  # noqa: PTH207 — takes absolute patterns
        return
    entered: set[tuple[int, int]] = set()
    for root in glob.iglob(head) if head else ["."]:  # noqa: PTH207
        for directory in _directories(Path(root), entered):
            yield from _glob(str(Path(glob.escape(str(directory))) / tail))


def _directories(root: Path, entered: set[tuple[int, int]]) -> Iterator[Path]:
    """`root` and what lies below it, except hidden directories and those that were entered."""
    status = root.stat()
    if (status.st_dev, status.st_ino) in entered:
        return
    entered.add((status.st_dev, status.st_ino))
    yield root
    for entry in sorted(_entries(root), key=lambda entry: (entry.is_symlink(), entry.name)):
        if entry.is_dir() and not entry.name.startswith("."):
            yield from _directories(entry, entered)


def _natural_key(path: Path) -> tuple[list[str | int], str]:
    # Splitting at numbers alternates text and number, so equal positions always compare equal types.
    parts = re.split(r"(\d+)", str(path).casefold())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], str(path)
