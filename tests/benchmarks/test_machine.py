from __future__ import annotations

import os

import pytest

from benchmarks.machine import best_peaks, describe_machine, matrix_peak
from benchmarks.records import MatrixPeak
from edge.engine.core import has_bf16

SMALL = (256,)


def test_the_int8_peak_is_measured_on_int8_kernels() -> None:
    assert matrix_peak("int8", SMALL).executed_in in {"u8", "i8"}


def test_the_f32_peak_is_measured_in_f32_even_where_there_is_bf16() -> None:
    assert matrix_peak("f32", SMALL).executed_in == "f32"


def test_the_bf16_peak_is_measured_in_bf16() -> None:
    if not has_bf16():
        pytest.skip("hardware: this CPU has no bf16")
    assert matrix_peak("bf16", SMALL).executed_in == "bf16"


def test_of_several_measurements_the_highest_of_each_arithmetic_counts() -> None:
    def measured(*rates: float) -> list[MatrixPeak]:
        return [MatrixPeak(arithmetic=str(n), tmac_s=rate, kernel="", executed_in="") for n, rate in enumerate(rates)]

    best = best_peaks([measured(0.1, 0.9), measured(0.3, 0.4), measured(0.2, 0.5)])
    assert [(peak.arithmetic, peak.tmac_s) for peak in best] == [("0", 0.3), ("1", 0.9)]


def test_the_machine_is_described_with_command_and_versions() -> None:
    machine = describe_machine("benchmarks.compare")
    assert machine.command.startswith("python -m benchmarks.compare")
    assert machine.cores == os.cpu_count()
    assert {"openvino", "faiss-cpu", "patchline", "python"} <= machine.versions.keys()
