"""A disk that is really full, where the test may mount one, and a process that may write no more."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

MakeDisk = Callable[[int], Path]


@pytest.fixture
def make_disk(tmp_path: Path) -> Iterator[MakeDisk]:
    """Mount a file system of so many KiB in memory."""
    with ExitStack() as mounted:

        def mount(kib: int) -> Path:
            where = tmp_path / f"disk-{kib}"
            where.mkdir()
            command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(where)]
            if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode != 0:
                pytest.skip("a file system can be mounted by root only; the tests with RLIMIT_FSIZE run everywhere")
            mounted.callback(subprocess.run, ["umount", str(where)], check=True)
            return where

        yield mount


def run_with_file_limit(script: str, *arguments: str, max_bytes: int) -> subprocess.CompletedProcess[str]:
    """Run `script` in an interpreter whose files may not grow beyond `max_bytes`: writes fail as on a full disk."""
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, max_bytes)),
    )
