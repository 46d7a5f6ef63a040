from __future__ import annotations

import os
import subprocess
import sys
from itertools import product

import numpy as np
import pytest

from edge.engine.kernels import fitting_kernels
from edge.normality.exact_bank import ExactBank

ARCHITECTURES = """
import os
from edge.engine.kernels import faiss
from threadpoolctl import threadpool_info
found = {info["filepath"].split("site-packages/")[-1].split(".")[0]: info["architecture"]
         for info in threadpool_info() if info["internal_api"] == "openblas"}
print(found["faiss_cpu"], found["numpy"], os.environ.get("OPENBLAS_CORETYPE"))
"""

# The exact bank's distances against float64, at sizes that leave every kernel a remainder.
LARGEST_ERROR = """
import tests.edge.engine.test_kernels as test
print(test.largest_error())
"""


def largest_error() -> float:
    """Of squared distances, as a share of the squared lengths that faiss subtracts from each other."""
    worst = 0.0
    for vectors, patches, dimension in product((1, 37, 700), (20, 131), (192, 384, 1536)):
        generator = np.random.default_rng(vectors + patches + dimension)
        bank, queries = (generator.standard_normal((count, dimension), np.float32) for count in (vectors, patches))
        squared = ((queries[:, None].astype(np.float64) - bank[None]) ** 2).sum(-1).min(1)
        found = ExactBank(bank).search(queries)[0].astype(np.float64) ** 2
        worst = max(worst, float(np.abs(found - squared).max() / (2 * dimension)))
    return worst


def run(program: str, kernels: str | None) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
    if kernels is not None:
        environment["OPENBLAS_CORETYPE"] = kernels
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_faiss_multiplies_with_the_instructions_that_numpy_found_and_nobody_else_is_told() -> None:
    faiss, numpy, left_behind = run(ARCHITECTURES, None)
    # What the recent OpenBLAS of NumPy finds here is no longer the oldest there is.
    assert faiss == fitting_kernels() != "Prescott"
    assert numpy in {"Zen", "Cooperlake", "SapphireRapids", faiss}
    assert left_behind == "None"


def test_the_operator_s_choice_stays() -> None:
    assert run(ARCHITECTURES, "Nehalem") == ["Nehalem", "Nehalem", "Nehalem"]


@pytest.mark.parametrize("kernels", [None, "Haswell", "Sandybridge", "Nehalem"])
def test_every_kernel_finds_the_distances_of_float64(kernels: str | None) -> None:
    assert float(run(LARGEST_ERROR, kernels)[0]) < 2e-6
