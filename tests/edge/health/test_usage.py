from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest

from edge.health.usage import peak_memory_mb, read_usage


def test_usage_is_what_the_system_says() -> None:
    usage = read_usage()
    process = psutil.Process()
    assert float(usage["memory_bytes"]) == pytest.approx(process.memory_info().rss, rel=0.1)
    assert usage["threads"] == process.num_threads()


def test_an_open_file_is_one_descriptor_more(tmp_path: Path) -> None:
    before = int(read_usage()["descriptors"])
    with (tmp_path / "file").open("wb"):
        assert read_usage()["descriptors"] == before + 1
    assert read_usage()["descriptors"] == before


def test_a_running_thread_is_one_more() -> None:
    before = int(read_usage()["threads"])
    leave = threading.Event()
    thread = threading.Thread(target=leave.wait)
    thread.start()
    during = read_usage()["threads"]
    leave.set()
    thread.join()
    assert during == before + 1


def test_peak_memory_is_that_of_this_program_not_of_whoever_started_it() -> None:
    """A child of a large process begins with a small peak of its own."""
    ballast = np.ones(200 * 2**20, np.uint8)
    program = "from edge.health.usage import peak_memory_mb; print(peak_memory_mb())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert peak_memory_mb() >= ballast.nbytes / 2**20
    assert 5 < float(done.stdout) < ballast.nbytes / 2**20
