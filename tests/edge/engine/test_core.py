from __future__ import annotations

import functools
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as op

from edge.engine import core as cpu_engine
from edge.engine.core import SmallNetwork, has_bf16
from edge.records import Float32Array


def doubled(count: int) -> ov.Model:
    rows = op.parameter([count, 3], np.float32)
    return ov.Model([op.result(op.multiply(rows, op.constant(np.float32(2))))], [rows])


def test_threads_that_ask_first_and_together_get_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow_core() -> object:
        time.sleep(0.05)
        return object()

    monkeypatch.setattr(ov, "Core", slow_core)
    monkeypatch.setattr(cpu_engine, "_core", functools.cache(cpu_engine._core.__wrapped__))
    with ThreadPoolExecutor(8) as pool:
        cores = list(pool.map(lambda _: cpu_engine.openvino_core(), range(8)))
    assert len({id(core) for core in cores}) == 1


@pytest.mark.parametrize(("level", "expected"), [("AVX2", False), (None, has_bf16())])
def test_bf16_is_what_the_engine_may_use_and_not_what_the_processor_could(level: str | None, expected: bool) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ONEDNN_MAX_CPU_ISA"}
    if level:
        environment["ONEDNN_MAX_CPU_ISA"] = level
    program = "from edge.engine.core import has_bf16; print(has_bf16())"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(expected)


@pytest.mark.parametrize("concurrent", [False, True])
def test_any_number_of_rows_is_answered(concurrent: bool) -> None:
    network = SmallNetwork(doubled, threads=2, concurrent=concurrent)
    for count in (5, 2, 2, 5):
        rows = np.random.default_rng(count).random((count, 3), np.float32)
        (answer,) = network.ask(rows)
        np.testing.assert_allclose(answer, 2 * rows, rtol=1e-2)


def test_threads_that_ask_with_other_numbers_of_rows_get_their_own_answers() -> None:
    network = SmallNetwork(doubled, threads=1, concurrent=True)

    def ask_often(count: int) -> bool:
        rows: Float32Array = np.full((count, 3), count, np.float32)
        return all((network.ask(rows)[0] == 2 * count).all() for _ in range(30))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(ask_often, (1, 2, 3, 4)))
