"""JPEG, read strictly: what other decoders mend in silence is an error here.

JPEG has no checksum. A file that is cut short, or lacks, repeats or zeroes a stretch, does not come out at its end with
the right number of blocks, and that is noticed; a few other bits in the middle can come out right, and are not.
"""

from __future__ import annotations

import cv2
import numpy as np
import simplejpeg

from edge.errors import SourceError
from edge.records import UInt8Array

START = b"\xff\xd8"
_EXIF = b"Exif\x00"
_HEADER_BYTES = 64 * 1024  # EXIF stands in one of the first segments, none of which is longer
_EIGHTH = 8  # libjpeg's largest reduction: everything is decoded, little is computed


def decode_jpeg(data: bytes | memoryview, max_pixels: int, *, upright: bool = False) -> UInt8Array:
    """The picture: (height, width, 3) BGR, bit for bit as `cv2.imdecode` gives it; `upright`: as its EXIF says.

    Raises:
        SourceError: not a JPEG, damaged, or of more than `max_pixels`, which is seen before it is decoded.
    """
    height, width, colours = _read_header(data)
    check_size(width, height, max_pixels)
    turned = upright and _EXIF in bytes(data[:_HEADER_BYTES])
    try:
        if not turned and colours != "CMYK":
            return np.asarray(simplejpeg.decode_jpeg(data, "BGR"), np.uint8)
        simplejpeg.decode_jpeg(data, "GRAY", min_factor=_EIGHTH)  # raises where it is damaged
        return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), np.uint8)
    except (ValueError, cv2.error) as error:
        raise SourceError(f"JPEG cut off or damaged ({error})") from error


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse what would take more memory than it is worth.

    Raises:
        SourceError: more than `max_pixels`.
    """
    if width * height > max_pixels:
        raise SourceError(f"{width}×{height} pixels; expected at most {max_pixels} of them: not decoded")


def _read_header(data: bytes | memoryview) -> tuple[int, int, str]:
    """Height, width and colours."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise SourceError(f"not a JPEG that can be decoded ({len(data)} bytes; its header is damaged)") from error
    return int(height), int(width), str(colours)
