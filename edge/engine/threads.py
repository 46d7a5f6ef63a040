"""Who has how many threads: search, BLAS and embedding share the cores that this process may use."""

from __future__ import annotations

import os

from threadpoolctl import ThreadpoolController

from edge.engine.kernels import faiss


def use_search_threads(count: int) -> None:
    """Let faiss use `count` threads for the calling thread; OpenMP keeps that number for each caller apart."""
    faiss.omp_set_num_threads(count)


def use_one_blas_thread() -> None:
    """Let NumPy multiply in the thread that asks for it, in this whole process: for programs that only inspect.

    OpenBLAS's threads spin while they wait, and take the cores from OpenVINO: on a busy machine with two cores, a frame
    takes 3 to 10 times as long with them, and indexing the bank 3 times. What belongs to faiss (OpenMP) is left alone.
    """
    for library in ThreadpoolController().lib_controllers:
        if library.user_api == "blas" and library.info().get("threading_layer") != "openmp":
            library.set_num_threads(1)


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))
