"""faiss, loaded with the matrix kernels that fit the processor; nothing else imports it.

The OpenBLAS in faiss's wheel (0.3.15, of 2021) knows processors by their model numbers, and falls back to the kernels
of 2004 (Prescott) on those that came later: exhaustive search then takes 4.7 times as long as with AVX-512, 2.9 times
as long as with AVX2 (1,024 patches in 15,680 × 1536). NumPy's is newer and loaded first: faiss is given the kernels
that it found. A choice by the operator stays, and neither NumPy nor programs that are started later are told.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from threadpoolctl import ThreadpoolController

_VARIABLE = "OPENBLAS_CORETYPE"  # read when the library is loaded
# What NumPy's OpenBLAS calls its kernels → the ones of faiss's that use the same instructions.
_SAME_INSTRUCTIONS = {
    "Nehalem": "Nehalem",  # SSE4.2
    "Sandybridge": "Sandybridge",  # AVX
    "Haswell": "Haswell",  # AVX2
    "Zen": "Haswell",
    "SkylakeX": "SkylakeX",  # AVX-512
    "Cooperlake": "SkylakeX",
    "SapphireRapids": "SkylakeX",
}


def fitting_kernels() -> str | None:
    """The kernels to ask faiss's OpenBLAS for; none where NumPy has another library, or one that cannot tell."""
    numpys = str(Path(np.__file__).parent)  # of numpy, and of numpy.libs beside it
    for library in ThreadpoolController().lib_controllers:
        if library.internal_api == "openblas" and library.filepath.startswith(numpys):
            return _SAME_INSTRUCTIONS.get(library.info().get("architecture", ""))
    return None


@contextmanager
def _asked_for(kernels: str | None) -> Iterator[None]:
    """The operator's choice, or else `kernels`, while a library is loaded."""
    if kernels is None or _VARIABLE in os.environ:
        yield
        return
    os.environ[_VARIABLE] = kernels
    try:
        yield
    finally:
        del os.environ[_VARIABLE]


with _asked_for(fitting_kernels()):  # at import: the library reads its environment once, while it is loaded
    import faiss  # noqa: TID251 — the one place

__all__ = ["faiss", "fitting_kernels"]
