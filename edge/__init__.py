"""Patchline's edge runtime: frames in, verdicts out. Never imports torch, never imports `export`."""

import os
import sys
from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("patchline")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"

# OpenVINO would report its use to its maker, from a thread of its own: not from a station on a production line.
# It does without where its telemetry package is missing, which is what None means to the import system.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

# Native libraries read their environment while they are loaded, so this cannot wait for a function call: no module
# of `edge` imports them before its package. Values that the operator has set stay.
_NATIVE_ENVIRONMENT = {
    # faiss's threads would spin after each search and take the cores from OpenVINO: embedding 4.6 → 3.7 ms
    # (`patchline-edge bench`, EfficientNet-Lite0, two cores).
    "OMP_WAIT_POLICY": "PASSIVE",
    "OPENCV_IO_MAX_IMAGE_PIXELS": str(2**27),  # 134 megapixels: 403 MB decoded
    "OPENCV_IO_MAX_IMAGE_WIDTH": str(2**16),
    "OPENCV_IO_MAX_IMAGE_HEIGHT": str(2**16),
    "OPENCV_LOG_LEVEL": "FATAL",  # our errors say it once; OpenCV would repeat it at every attempt
}
for _name, _value in _NATIVE_ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)
