"""What the first bytes of a picture file say: its size, its range of values, and what reading it leaves out.

Only what OpenCV does not tell, and only of formats that have it; JPEG is `edge.files.jpeg`'s.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

_PNG = b"\x89PNG\r\n\x1a\n"
_TIFF = {b"II*\x00": "<", b"MM\x00*": ">"}  # magic → byte order
_GAP = rb"(?:\s|#[^\n]*\n)+"
_PNM = re.compile(rb"P[2356]" + rb"".join(_GAP + rb"(\d{1,9})" for _ in range(3)) + rb"\s")  # not bitmaps: P1, P4
_LONGEST_PNM_HEADER = 4096  # comments included


@dataclass(frozen=True, slots=True)
class Header:
    """0: not known."""

    width: int = 0
    height: int = 0
    largest_value: int = 0  # white, where the file states it
    dropped: tuple[str, ...] = ()  # what becomes no part of the picture, for people


def read_header(data: bytes) -> Header:
    """What the file says of itself; of a format or a header that is not understood, nothing."""
    try:
        if data.startswith(_PNG):
            return _read_png(data)
        if data[:4] in _TIFF:
            return _read_tiff(data, _TIFF[data[:4]])
    except struct.error:
        return Header()  # cut off: the decoder will say so
    return _read_pnm(data)


def _read_png(data: bytes) -> Header:
    width, height, _depth, colour_type = struct.unpack_from(">IIBB", data, 16)
    return Header(width, height, dropped=("transparency",) if colour_type in {4, 6} else ())


def _read_tiff(data: bytes, order: str) -> Header:
    (directory,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, directory)
    values = dict(_tiff_value(data, order, directory + 2 + 12 * entry) for entry in range(count))
    (next_directory,) = struct.unpack_from(f"{order}I", data, directory + 2 + 12 * count)
    dropped = ("transparency",) * (values.get(277, 1) in {2, 4}) + ("further pages",) * (next_directory != 0)
    return Header(values.get(256, 0), values.get(257, 0), dropped=dropped)


def _tiff_value(data: bytes, order: str, offset: int) -> tuple[int, int]:
    """Tag and, if it stands in the entry itself, value."""
    tag, kind, _count = struct.unpack_from(f"{order}HHI", data, offset)
    (value,) = struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", data, offset + 8)
    return tag, value


def _read_pnm(data: bytes) -> Header:
    found = _PNM.match(data[:_LONGEST_PNM_HEADER])
    if found is None:
        return Header()
    width, height, largest_value = (int(number) for number in found.groups())
    return Header(width, height, largest_value)
