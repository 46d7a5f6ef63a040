"""OpenVINO's one core, and small networks of few steps on the CPU beside the large one."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset13 as op

from edge.engine.threads import available_cores
from edge.records import Float32Array

_making_core = threading.Lock()


def openvino_core() -> ov.Core:
    """One for the whole process, never freed.

    Its CPU plugin gives the thread that makes it another signal stack, for AMX, and frees that with itself: a signal
    that comes after the core was freed in another thread, as recipes are, would kill the process.
    """
    with _making_core:  # model and bank are loaded at the same time: two would be made, and one of them freed
        return _core()


@functools.cache
def _core() -> ov.Core:
    return ov.Core()


@functools.cache
def has_bf16() -> bool:
    """Whether OpenVINO has bf16 arithmetic on this CPU.

    Tried, not only asked: it sees what the CPU has, where oneDNN may have been told to use less (ONEDNN_MAX_CPU_ISA).
    """
    if "BF16" not in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return False
    side = 32
    rows = op.parameter([side, side], np.float32)
    model = ov.Model([op.result(op.matmul(rows, op.constant(np.eye(side, dtype=np.float32)), False, False))], [rows])
    try:
        compiled: Any = openvino_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
        compiled.create_infer_request().infer()
    except RuntimeError:
        return False
    return True


class SmallNetwork:
    """A network of rows (n, dim) for which bf16 will do. Several threads may ask at once.

    OpenVINO's threads share work instead of waiting for one another, so that a busy machine costs little.
    """

    def __init__(self, build: Callable[[int], ov.Model], *, threads: int, concurrent: bool) -> None:
        """Compiled when it is first asked, and again for another number of rows: in some 20 ms.

        Left open, the number would cost more: TopK takes up to seven times as long, and memory changes hands.

        Args:
            build: the network for so many rows.
            threads: of each question.
            concurrent: several threads will ask at the same time.
        """
        self._build = build
        self._config: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "bf16" if has_bf16() else "f32",
            "INFERENCE_NUM_THREADS": available_cores() if concurrent else threads,
        }
        self._config |= {"NUM_STREAMS": available_cores()} if concurrent else {"PERFORMANCE_HINT": "LATENCY"}
        self._compiling = threading.Lock()
        self._compiled: tuple[int, Any] = (0, None)
        self._own = threading.local()

    def ask(self, rows: Float32Array) -> list[npt.NDArray[Any]]:
        """The outputs for `rows`, until this thread asks again."""
        own: _Request | None = getattr(self._own, "request", None)
        if own is None or own.count != len(rows):
            own = self._own.request = _Request(self._compile(len(rows)), len(rows))
        return own.infer(np.ascontiguousarray(rows))

    def _compile(self, count: int) -> Any:
        with self._compiling:
            compiled_count, compiled = self._compiled
            if compiled_count != count:
                compiled = openvino_core().compile_model(self._build(count), "CPU", self._config)
                self._compiled = count, compiled
            return compiled


class _Request:
    """One thread's request, for a fixed number of rows."""

    def __init__(self, compiled: Any, count: int) -> None:
        self.count = count
        self._request = compiled.create_infer_request()
        self._outputs = [tensor.data for tensor in self._request.output_tensors]
        self._rows: Float32Array | None = None  # kept alive while OpenVINO reads from it

    def infer(self, rows: Float32Array) -> list[npt.NDArray[Any]]:
        if rows is not self._rows:
            self._request.set_input_tensor(ov.Tensor(rows, shared_memory=True))
            self._rows = rows
        self._request.infer(share_outputs=True)
        return self._outputs
