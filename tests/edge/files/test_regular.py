from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from edge.files.regular import SizeError, read_regular

CONTENTS = b"what it holds"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """One of every kind of entry."""
    made = tmp_path / "directory"
    (made / "inner").mkdir(parents=True)
    (made / "file").write_bytes(CONTENTS)
    (made / "inner" / "file").write_bytes(CONTENTS)
    (made / "link").symlink_to("file")
    (made / "linked").symlink_to("inner")
    (tmp_path / "outside").write_bytes(CONTENTS)
    os.mkfifo(made / "fifo")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(made / "socket"))
    return made


@pytest.mark.parametrize("name", ["file", "inner/file", "./file"])
def test_a_regular_file_is_read_whole(directory: Path, name: str) -> None:
    assert read_regular(directory, name, most=100) == CONTENTS
    assert read_regular(directory, name, size=len(CONTENTS), most=100) == CONTENTS


def test_the_directory_itself_may_be_reached_through_a_link(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(directory)
    assert read_regular(tmp_path / "current", "file", most=100) == CONTENTS


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("link", "a symbolic link, which is not followed"),
        ("linked/file", "a symbolic link, which is not followed"),
        ("fifo", "a FIFO"),
        ("socket", "a socket"),
        ("inner", "a directory"),
        ("file/file", "a file"),
        ("../outside", "leads out of the directory"),
        ("inner/../../outside", "leads out of the directory"),
        ("/etc/hostname", "leads out of the directory"),
        ("/dev/zero", "leads out of the directory"),
        ("file\0", "leads out of the directory"),
        ("", "leads out of the directory"),
        ("nothing", "No such file"),
        ("n" * 300, "File name too long"),
    ],
)
def test_whatever_else_it_is_is_refused_at_once(directory: Path, name: str, message: str) -> None:
    with pytest.raises(OSError, match=message):
        read_regular(directory, name, most=100)


def test_a_device_is_not_even_opened() -> None:
    with pytest.raises(OSError, match="a device"):
        read_regular(Path("/dev"), "zero", most=100)


@pytest.mark.parametrize(
    ("limits", "message"), [({"size": 12}, "expected 12 bytes, got 13"), ({"most": 5}, "at most 5")]
)
def test_a_file_of_another_size_is_refused_unread(directory: Path, limits: dict[str, int], message: str) -> None:
    with pytest.raises(SizeError, match=message):
        read_regular(directory, "file", **{"most": 100, **limits})
