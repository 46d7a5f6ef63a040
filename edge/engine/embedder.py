"""IR → patch embeddings, on the device and with the precision that were asked for.

One compiled model; for each thread one infer request, one input and one output buffer, all made once. OpenVINO's CPU
plugin would use bf16 on its own where the hardware has it; the precision is therefore always set.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from edge.bundle.ir import IrDescription
from edge.engine.core import openvino_core
from edge.errors import BundleError, SettingsError
from edge.records import Embedding, Float32Array, Mode, Precision, UInt8Array

_NAMED_KERNELS = {"Convolution", "Pooling"}


class Embedder:
    """A compiled feature extractor. For one thread; others get theirs from `for_another_thread`."""

    def __init__(
        self,
        ir: IrDescription,
        xml: bytes,
        weights: bytes,
        *,
        device: str = "CPU",
        precision: Precision = "f32",
        threads: int = 0,
        mode: Mode = "latency",
        streams: int = 0,
        cache_dir: Path | None = None,
    ) -> None:
        """Compile the IR given as the bytes of `model.xml` and `model.bin`.

        In latency mode all `threads` (0: OpenVINO's choice) work on one picture. In throughput mode they are shared
        among `streams` pictures at a time (0: OpenVINO's choice).

        Raises:
            BundleError: the IR is damaged, or its input or output is not the described one.
            SettingsError: the device does not exist or cannot run the model.
        """
        core = openvino_core()
        config: dict[str, Any] = {"PERFORMANCE_HINT": mode.upper(), "INFERENCE_PRECISION_HINT": precision}
        if threads:
            config["INFERENCE_NUM_THREADS"] = threads
        if streams and mode == "throughput":
            config["NUM_STREAMS"] = streams
        if cache_dir is not None:
            config["CACHE_DIR"] = str(cache_dir)
        model = _read_model(core, ir, xml, weights)
        try:
            self._compiled = core.compile_model(model, device, config)
        except RuntimeError as error:
            raise SettingsError(
                f"device {device}: cannot run the model ({last_line(error)}); "
                f"devices here: {', '.join(core.available_devices)}"
            ) from error
        self._grid = ir.grid
        self._mode = mode
        self._precision = precision
        self._make_request()

    def for_another_thread(self) -> Embedder:
        """An embedder with the same compiled model, and a request and buffers of its own."""
        other = copy.copy(self)
        other._make_request()  # noqa: SLF001 — one of us
        return other

    @property
    def input(self) -> UInt8Array:
        """Write the prepared picture here: (height, width, 3) BGR."""
        picture: UInt8Array = self._input[0]
        return picture

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches."""
        return self._grid

    @property
    def execution_devices(self) -> str:
        """The device that really executes, which under AUTO is not the one asked for."""
        return ",".join(self._compiled.get_property("EXECUTION_DEVICES"))

    @property
    def execution_precision(self) -> str:
        """The arithmetic that OpenVINO says it uses; under AUTO, which does not say, what it was told to."""
        try:
            return str(self._compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
        except RuntimeError:
            return self._precision

    @property
    def kernels(self) -> tuple[str, ...]:
        """Those of the convolutions and pools, as OpenVINO names them; none where the device does not tell."""
        operations = [operation.get_rt_info() for operation in self._compiled.get_runtime_model().get_ops()]
        return tuple(
            sorted(
                {
                    operation["primitiveType"].astype(str)
                    for operation in operations
                    if "primitiveType" in operation and operation["layerType"].astype(str) in _NAMED_KERNELS
                }
            )
        )

    @property
    def from_cache(self) -> bool:
        """Whether it was, or where the device does not say may have been, read from disk as compiled before."""
        try:
            return bool(self._compiled.get_property("LOADED_FROM_CACHE"))
        except RuntimeError:
            return True

    @property
    def threads(self) -> int:
        """Threads that OpenVINO uses; 0 where the device has no such setting."""
        try:
            return int(self._compiled.get_property("INFERENCE_NUM_THREADS"))
        except RuntimeError:
            return 0

    @property
    def streams(self) -> int:
        """Pictures that are embedded at the same time: threads that an embedder each makes sense for."""
        return 1 if self._mode == "latency" else int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))

    def embed(self) -> Embedding:
        """Patch embeddings of the picture in `input`. The next call overwrites them."""
        self._request.infer(share_outputs=True)  # without it, OpenVINO would return a copy that nobody reads
        patches: Float32Array = self._output
        return Embedding(patches=patches, grid=self._grid)

    def _make_request(self) -> None:
        self._input = np.zeros(tuple(self._compiled.input(0).shape), np.uint8)
        self._output = np.zeros(tuple(self._compiled.output(0).shape), np.float32)
        self._request = self._compiled.create_infer_request()
        self._request.set_input_tensor(ov.Tensor(self._input, shared_memory=True))
        self._request.set_output_tensor(ov.Tensor(self._output, shared_memory=True))


def _read_model(core: ov.Core, ir: IrDescription, xml: bytes, weights: bytes) -> ov.Model:
    """The model, with the one input and the one output that are described; known before anything is compiled."""
    try:
        model = core.read_model(model=xml, weights=weights)
    except RuntimeError as error:
        raise BundleError(f"model.xml: OpenVINO cannot read it ({last_line(error)}); convert again") from error
    geometry = ir.geometry
    expected_in = f"u8 (1, {geometry.input_height}, {geometry.input_width}, 3)"
    expected_out = f"f32 ({ir.grid[0] * ir.grid[1]}, {ir.dimension})"
    found_in, found_out = (", ".join(map(_describe, ports)) for ports in (model.inputs, model.outputs))
    if (found_in, found_out) != (expected_in, expected_out):
        raise BundleError(
            f"model.xml: expected input {expected_in} and output {expected_out}, "
            f"got {found_in or 'none'} and {found_out or 'none'}; convert again"
        )
    return model


def _describe(port: Any) -> str:
    shape = port.get_partial_shape()
    sides = tuple(shape.get_shape()) if shape.is_static else shape
    return f"{port.get_element_type().get_type_name()} {sides}"


def last_line(error: RuntimeError) -> str:
    """What OpenVINO says is wrong, without the places of its source that come before."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "no message"
