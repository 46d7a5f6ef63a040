from __future__ import annotations

import os

import pytest

from benchmarks.machine import best_of, describe_machine, has_bf16, matrix_peak
from benchmarks.records import Limits, MatrixPeak

SMALL = (256,)


def test_the_int8_peak_is_measured_on_int8_kernels() -> None:
    assert matrix_peak("int8", SMALL).executed_in in {"u8", "i8"}


def test_the_f32_peak_is_measured_in_f32_even_where_there_is_bf16() -> None:
    assert matrix_peak("f32", SMALL).executed_in == "f32"


def test_the_bf16_peak_is_measured_in_bf16() -> None:
    if not has_bf16():
        pytest.skip("this CPU has no bf16")
    assert matrix_peak("bf16", SMALL).executed_in == "bf16"


def test_of_two_measurements_the_higher_limits_count() -> None:
    def limits(tmac_s: float, read: float, copied: float) -> Limits:
        peak = MatrixPeak(arithmetic="f32", tmac_s=tmac_s, kernel="", executed_in="f32")
        return Limits(matrix=(peak,), read_gb_s=read, copy_gb_s=copied)

    best = best_of(limits(0.1, 20, 5), limits(0.2, 10, 6))
    assert (best.matrix[0].tmac_s, best.read_gb_s, best.copy_gb_s) == (0.2, 20, 6)


def test_the_machine_is_described_with_command_and_versions() -> None:
    machine = describe_machine("benchmarks.compare")
    assert machine.command.startswith("python -m benchmarks.compare")
    assert machine.cores == os.cpu_count()
    assert {"openvino", "faiss-cpu", "patchline", "python"} <= machine.versions.keys()
