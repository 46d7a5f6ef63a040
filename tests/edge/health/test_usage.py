from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest

from edge.files.places import default_cache_dir, default_state_dir
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


def test_the_cache_is_systemd_s_first_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHE_DIRECTORY", f"{tmp_path / 'a'}:{tmp_path / 'b'}")
    assert default_cache_dir() == tmp_path / "a"
    assert (tmp_path / "a").is_dir()


def test_without_systemd_the_cache_is_the_user_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CACHE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache_dir() == tmp_path / "xdg" / "patchline"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_cache_dir() == tmp_path / "home" / ".cache" / "patchline"


def test_a_station_s_state_is_below_systemd_s_directory_else_the_user_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path / 'a'}:{tmp_path / 'b'}")
    assert default_state_dir("s-l-n") == tmp_path / "a" / "s-l-n"
    monkeypatch.delenv("STATE_DIRECTORY")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert default_state_dir("s-l-n") == tmp_path / "xdg" / "patchline" / "s-l-n"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_state_dir("s-l-n") == tmp_path / "home" / ".local" / "state" / "patchline" / "s-l-n"
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_written_there_is_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "file" / "cache"))
    assert default_cache_dir() is None


def test_the_cache_is_never_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CACHE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    default_cache_dir()
    assert list((tmp_path / "work").iterdir()) == []


def test_peak_memory_is_that_of_this_program_not_of_whoever_started_it() -> None:
    """A child of a large process begins with a small peak of its own."""
    ballast = np.ones(200 * 2**20, np.uint8)
    program = "from edge.health.usage import peak_memory_mb; print(peak_memory_mb())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert peak_memory_mb() >= ballast.nbytes / 2**20
    assert 5 < float(done.stdout) < ballast.nbytes / 2**20
