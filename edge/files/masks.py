"""Masks: black-and-white pictures that say where nothing shall be judged, read strictly.

What looks like a mask to a person may hold numbers that leave nothing out (labels 0 and 1, 16 bits, the alpha channel).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge.errors import SettingsError, SourceError
from edge.files.regular import read_regular
from edge.records import Float32Array, UInt8Array

_MOST_BYTES = 64 * 2**20  # of a file
_CHANNELS_DIFFER = 0.125  # of full scale: more than compression makes of grey
_WHITE, _SURELY_BLACK, _SURELY_WHITE = 0.5, 0.25, 0.75  # of full scale
# Drawn edges are smooth, and compression blurs them; a picture of a part has much more of what is neither.
_MOST_BETWEEN, _MOST_COLOURED = 0.1, 0.01  # of the pixels


def read_mask(path: Path) -> UInt8Array:
    """The mask in `path` (height, width): 255 where its picture is white and nothing shall be judged, 0 elsewhere.

    Raises:
        SourceError: there is no picture that can be read.
        SettingsError: the picture is no mask: it is coloured, mostly grey, or without white, or its alpha channel
            means something.
    """
    shade = _shade(path, _decode(path))
    largest = float(shade.max())
    if largest <= _WHITE:
        raise _refused(path, f"nothing in it is white: its largest value is {largest:.2%} of white")
    between = float(((shade > _SURELY_BLACK) & (shade < _SURELY_WHITE)).mean())
    if between > _MOST_BETWEEN:
        raise _refused(path, f"{between:.0%} of it is neither black nor white")
    return np.asarray((shade > _WHITE) * np.uint8(255), np.uint8)


def _decode(path: Path) -> npt.NDArray[Any]:
    try:
        resolved = path.resolve(strict=True)  # a settings file's neighbours may be links
        data = read_regular(resolved.parent, resolved.name, most=_MOST_BYTES)
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        reason = getattr(error, "strerror", None) or str(error)
        raise SourceError(f"{path}: the mask cannot be read ({reason}); check the path and its permissions") from error
    except cv2.error as error:
        raise SourceError(f"{path}: the mask is refused by the decoder ({error.err}); is it too large?") from error
    if image is None:
        raise SourceError(f"{path}: the mask is not a picture that can be decoded; cut off, corrupt or other format")
    return np.asarray(image)


def _shade(path: Path, image: npt.NDArray[Any]) -> Float32Array:
    """(height, width) from 0, black, to 1, white."""
    if not np.issubdtype(image.dtype, np.unsignedinteger):
        raise _refused(path, f"its values are {image.dtype}")
    scaled = np.atleast_3d(image).astype(np.float32) / np.iinfo(image.dtype).max
    colours, alpha = (scaled[..., :-1], scaled[..., -1]) if scaled.shape[2] in {2, 4} else (scaled, None)
    if alpha is not None and alpha.min() < alpha.max():
        raise _refused(path, "it is transparent in parts, so that what is white depends on what lies below it")
    coloured = float((np.ptp(colours, axis=2) > _CHANNELS_DIFFER).mean())
    if coloured > _MOST_COLOURED:
        raise _refused(path, f"{coloured:.0%} of it is coloured")
    return np.asarray(colours.mean(axis=2), np.float32)


def _refused(path: Path, why: str) -> SettingsError:
    return SettingsError(
        f"{path}: not a mask: {why}; expected black (0) where parts are judged and white (255, or 65535 of 16 bits) "
        "where not, without transparency"
    )
