"""What a bundle's files hold, decoded: the bank's vectors, and pictures of the frame's size.

The files are hashed, but whoever can write a bundle can hash: each is looked at before memory is asked for it.
"""

from __future__ import annotations

import io
import re
import struct
from pathlib import Path

import cv2
import numpy as np

from edge.errors import BundleError
from edge.records import Float32Array, UInt8Array

# What np.save writes, in its format 1.0, of float32 in two dimensions: matched, and never evaluated.
_NPY = re.compile(
    rb"\x93NUMPY\x01\x00(?P<length>[\x00-\xff]{2})"
    rb"(?P<header>\{'descr': '<f4', 'fortran_order': False, "
    rb"'shape': \((?P<rows>\d{1,12}), (?P<columns>\d{1,12})\), \} *\n)"
)
_NPY_HEADER_BYTES = 512  # more than any such header has
# Features reach some hundreds, those of random weights more. Squared distances of what is below this are floats still.
_LARGEST_FEATURE = 1e15
_PNG_START = struct.Struct(">8s4x4sII")  # signature, the first chunk's length and name, width, height


def encode_bank(vectors: Float32Array) -> bytes:
    """`bank.npy`: (vectors, dim) float32."""
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(vectors, np.float32), allow_pickle=False)
    return stream.getvalue()


def bank_fits(size: int, vectors: int, dimension: int) -> bool:
    """Whether a file of `size` bytes can be the bank of so many vectors."""
    values = 4 * vectors * dimension
    return values < size <= values + _NPY_HEADER_BYTES


def decode_bank(path: Path, contents: bytes, vectors: int, dimension: int) -> Float32Array:
    """`bank.npy` as (vectors, dimension), read-only, in the memory of `contents`; `path` is what messages name.

    Raises:
        BundleError: it is no such array, or holds values that are no features.
    """
    found = _NPY.match(contents)
    if found is None or len(found["header"]) != int.from_bytes(found["length"], "little"):
        raise BundleError(f"{path}: not a NumPy array of float32 in two dimensions; teach again")
    shape = int(found["rows"]), int(found["columns"])
    if shape != (vectors, dimension) or len(contents) != found.end() + 4 * vectors * dimension:
        raise BundleError(
            f"{path}: expected {vectors}×{dimension} values of float32, "
            f"got {shape[0]}×{shape[1]} in {len(contents) - found.end()} bytes; teach again"
        )
    bank = np.frombuffer(contents, np.float32, offset=found.end()).reshape(shape)
    largest = max(float(bank.max()), -float(bank.min()))
    if not largest < _LARGEST_FEATURE:  # also where there is one that is not a number
        raise BundleError(f"{path}: contains values that are not numbers, or none that features have; teach again")
    return bank


def decode_picture(path: Path, contents: bytes, height: int, width: int, flags: int) -> UInt8Array:
    """A PNG of `height` and `width`, as OpenCV's `flags` ask for; `path` is what messages name.

    Raises:
        BundleError: it is none, or of another size, which is known before it is decoded.
    """
    if _png_size(contents) != (width, height):
        raise BundleError(f"{path}: not a PNG of the frame's size, {width}×{height}; teach again")
    try:
        image = cv2.imdecode(np.frombuffer(contents, np.uint8), flags)
    except cv2.error as error:
        raise BundleError(f"{path}: refused by the picture decoder ({error.err}); teach again") from error
    if image is None or image.shape[:2] != (height, width):
        raise BundleError(f"{path}: a damaged PNG; teach again")
    return np.asarray(image, np.uint8)


def _png_size(contents: bytes) -> tuple[int, int] | None:
    """(width, height) as the header says."""
    if len(contents) < _PNG_START.size:
        return None
    signature, chunk, width, height = _PNG_START.unpack_from(contents)
    return (width, height) if (signature, chunk) == (b"\x89PNG\r\n\x1a\n", b"IHDR") else None
