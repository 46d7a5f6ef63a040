"""What a benchmark runs on, and the most that this machine can do."""

from __future__ import annotations

import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import numpy as np
import openvino as ov
from openvino import opset13

from benchmarks.records import Machine, MatrixPeak
from edge.engine.core import has_bf16
from edge.health.usage import cpu_model
from edge.records import Float32Array

_ISA = ("avx2", "fma", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16",
        "amx_tile", "amx_bf16", "amx_int8")  # fmt: skip
_VERSIONS_OF = ("patchline", "openvino", "faiss-cpu", "numpy", "opencv-python-headless")
_SIZES = (1024, 2048)  # side of the square factors: the faster one counts
_CHAINED = 4  # products one after the other: reading the input and writing the output cost little beside them
_REPEATS = 4
_QUANTISED_LEVELS = 256, 255  # of activations, and of symmetric weights: what OpenVINO runs as u8 × i8
_ARRAY_BYTES = 256 * 2**20  # beyond what caches keep


def describe_machine(module: str) -> Machine:
    """This machine, and the command line of `module`."""
    flags = _cpu_flags()
    return Machine(
        cpu=cpu_model(),
        cores=os.cpu_count() or 1,
        virtual="hypervisor" in flags,
        isa=tuple(flag for flag in _ISA if flag in flags),
        memory_gb=round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        system=f"{platform.system()} {platform.release()}",
        versions={name: version(name) for name in _VERSIONS_OF} | {"python": platform.python_version()},
        date=time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        command=f"python -m {module} {shlex.join(sys.argv[1:])}".strip(),
    )


def measure_matrix_peaks() -> tuple[MatrixPeak, ...]:
    """Of every arithmetic that the CPU has: a second or two."""
    return tuple(matrix_peak(arithmetic) for arithmetic in (("f32", "bf16", "int8") if has_bf16() else ("f32", "int8")))


def best_peaks(measured: Sequence[Sequence[MatrixPeak]]) -> tuple[MatrixPeak, ...]:
    """The highest of each: a neighbour on the machine can only lower them."""
    return tuple(max(of_one, key=lambda peak: peak.tmac_s) for of_one in zip(*measured, strict=True))


def matrix_peak(arithmetic: str, sizes: tuple[int, ...] = _SIZES) -> MatrixPeak:
    """The best of several large products in OpenVINO; `arithmetic` is f32, bf16 or int8."""
    return max((_matrix_peak(arithmetic, size) for size in sizes), key=lambda peak: peak.tmac_s)


def _matrix_peak(arithmetic: str, size: int) -> MatrixPeak:
    hint = "bf16" if arithmetic == "bf16" else "f32"
    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint}
    compiled = ov.Core().compile_model(_products(size, quantised=arithmetic == "int8"), "CPU", config)
    values = np.random.default_rng(0).uniform(0, 1, (size, size)).astype(np.float32)
    request = compiled.create_infer_request()
    request.set_input_tensor(ov.Tensor(values, shared_memory=True))
    request.infer()
    seconds = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        request.infer()
        seconds.append(time.perf_counter() - started)
    kernel, executed_in = _executed(compiled)
    return MatrixPeak(
        arithmetic=arithmetic,
        tmac_s=round(_CHAINED * size**3 / min(seconds) / 1e12, 4),
        kernel=kernel,
        executed_in=executed_in,
    )


def _products(size: int, *, quantised: bool) -> ov.Model:
    """Input (size, size) times constants (size, size), `_CHAINED` times."""
    generator = np.random.default_rng(0)
    levels, weight_levels = _QUANTISED_LEVELS
    zero, one, minus_one = np.float32(0), np.float32(1), np.float32(-1)
    parameter = opset13.parameter([size, size], np.float32)
    node = parameter
    for _ in range(_CHAINED):
        weights = opset13.constant(generator.uniform(-1, 1, (size, size)).astype(np.float32))
        if quantised:
            node = opset13.fake_quantize(node, zero, one, zero, one, levels)
            weights = opset13.fake_quantize(weights, minus_one, one, minus_one, one, weight_levels)
        node = opset13.matmul(node, weights, transpose_a=False, transpose_b=True)
    return ov.Model([opset13.result(node)], [parameter], "products")


def _executed(compiled: ov.CompiledModel) -> tuple[str, str]:
    """Kernel and precision of the products, as the compiled model reports them."""
    for operation in compiled.get_runtime_model().get_ordered_ops():
        information = operation.get_rt_info()
        if information["layerType"].astype(str) in {"FullyConnected", "MatMul"}:
            return information["primitiveType"].astype(str), information["runtimePrecision"].astype(str)
    raise RuntimeError("the compiled matrix products have no product: has OpenVINO's naming of operations changed?")


def measure_bandwidth() -> tuple[float, float]:
    """Of memory: reading and copying, GB/s."""
    cores = os.cpu_count() or 1
    source: Float32Array = np.ones(_ARRAY_BYTES // 4, np.float32)
    target = np.empty_like(source)
    parts = list(zip(np.array_split(source, cores), np.array_split(target, cores), strict=True))
    with ThreadPoolExecutor(cores) as pool:
        read = _fastest(lambda: list(pool.map(lambda pair: float(pair[0].max()), parts)))
        copied = _fastest(lambda: list(pool.map(lambda pair: np.copyto(pair[1], pair[0]), parts)))
    return round(_ARRAY_BYTES / read / 1e9, 1), round(2 * _ARRAY_BYTES / copied / 1e9, 1)


def _fastest(action: Callable[[], object]) -> float:
    seconds = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def _cpu_flags() -> frozenset[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    found = next((line.split(":", 1)[1] for line in lines if line.startswith("flags")), "")
    return frozenset(found.split())
