"""Patchline's edge runtime: frames in, verdicts out. Never imports torch, never imports `export`."""

import os
from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("patchline")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"

# OpenCV reads its environment while it is loaded, so this cannot wait for a function call: no module of
# `edge` imports cv2 before its package. Values that the operator has set stay.
_OPENCV_ENVIRONMENT = {
    "OPENCV_IO_MAX_IMAGE_PIXELS": str(2**27),  # 134 megapixels: 403 MB decoded
    "OPENCV_IO_MAX_IMAGE_WIDTH": str(2**16),
    "OPENCV_IO_MAX_IMAGE_HEIGHT": str(2**16),
    "OPENCV_LOG_LEVEL": "FATAL",  # our errors say it once; OpenCV would repeat it at every attempt
    "OPENCV_FFMPEG_LOGLEVEL": "-8",  # AV_LOG_QUIET
}
for _name, _value in _OPENCV_ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)
