from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge.files.places import default_cache_dir, default_state_dir


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


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become a user without a home")
def test_a_service_user_without_a_home_has_no_cache_and_no_state_where_it_works(tmp_path: Path) -> None:
    program = """
import os
from edge.files.places import default_cache_dir, default_state_dir
os.setuid(54321)
os.environ.clear()
print(default_cache_dir(), default_state_dir("station"))
"""
    tmp_path.chmod(0o777)
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["None", "/nonexistent/patchline/station"], done.stderr
    assert list(tmp_path.iterdir()) == []
