from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edge.errors import BundleError, ExportError
from edge.files.atomic import _rename_twice, refuse_unwritable, write_directory, write_file
from tests.disks import MakeDisk, run_with_file_limit

OLD = {"a.bin": b"old a", "sub/b.bin": b"old b"}
NEW = {"a.bin": b"new a" * 1000, "sub/b.bin": b"new b" * 1000, "c.bin": b"c"}


def contents(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()
    }


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file(path, b"one")
    write_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


def test_the_longest_name_that_a_file_system_takes_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("ü" * 127 + "n")
    write_file(path, b"one")
    write_directory(tmp_path / ("d" * 255), NEW, replace=False, error=ExportError)
    assert path.read_bytes() == b"one"
    assert sorted(map(len, (entry.name for entry in tmp_path.iterdir()))) == [128, 255]


def test_what_can_be_written_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    refuse_unwritable(tmp_path / "new" / "deeper", ExportError)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match=r"file/new: cannot be written into \(Not a directory\)"):
        refuse_unwritable(tmp_path / "file" / "new", ExportError)
    with pytest.raises(ExportError, match=r"/proc/new: cannot be written into"):
        refuse_unwritable(Path("/proc/new"), ExportError)


def test_a_file_is_written_with_its_parents(tmp_path: Path) -> None:
    write_file(tmp_path / "far" / "away" / "file", b"one")
    assert (tmp_path / "far" / "away" / "file").read_bytes() == b"one"


def test_a_directory_is_written_with_its_parents_and_subdirectories(tmp_path: Path) -> None:
    target = tmp_path / "far" / "away"
    write_directory(target, OLD, replace=False, error=ExportError)
    assert contents(target) == OLD
    assert list(target.parent.iterdir()) == [target]


def test_a_directory_that_exists_is_refused_in_the_caller_s_words_and_kept(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    write_directory(target, OLD, replace=False, error=ExportError)
    with pytest.raises(BundleError, match=f"{target}: exists already"):
        write_directory(target, NEW, replace=False, error=BundleError)
    assert contents(target) == OLD


def test_a_replaced_directory_keeps_no_file_of_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    write_directory(target, NEW, replace=False, error=ExportError)
    write_directory(target, OLD, replace=True, error=ExportError)
    assert contents(target) == OLD
    assert list(tmp_path.iterdir()) == [target]


def test_what_a_killed_process_of_the_same_number_left_is_no_obstacle(tmp_path: Path) -> None:
    left = tmp_path / f".bundle.{os.getpid()}.tmp"
    left.mkdir()
    (left / "half").write_bytes(b"half")
    write_directory(tmp_path / "bundle", OLD, replace=False, error=ExportError)
    assert contents(tmp_path / "bundle") == OLD
    assert not left.exists()


def test_a_file_where_the_parent_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ExportError, match="cannot be written"):
        write_directory(tmp_path / "file" / "bundle", OLD, replace=False, error=ExportError)


def test_renaming_twice_serves_where_names_cannot_change_places(tmp_path: Path) -> None:
    write_directory(tmp_path / "bundle", OLD, replace=False, error=ExportError)
    write_directory(tmp_path / "staging", NEW, replace=False, error=ExportError)
    _rename_twice(tmp_path / "staging", tmp_path / "bundle")
    assert contents(tmp_path / "bundle") == NEW
    assert list(tmp_path.iterdir()) == [tmp_path / "bundle"]


def test_renaming_twice_brings_the_old_directory_back_when_the_second_one_fails(tmp_path: Path) -> None:
    write_directory(tmp_path / "bundle", OLD, replace=False, error=ExportError)
    with pytest.raises(OSError, match="No such file"):
        _rename_twice(tmp_path / "missing", tmp_path / "bundle")
    assert contents(tmp_path / "bundle") == OLD


def test_there_is_a_directory_at_every_moment_of_a_replacement(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    write_directory(target, OLD, replace=False, error=ExportError)
    finished = threading.Event()
    absences = 0

    def replace_often() -> None:
        for number in range(60):
            write_directory(target, {"a.bin": b"%d" % number}, replace=True, error=ExportError)
        finished.set()

    thread = threading.Thread(target=replace_often)
    thread.start()
    while not finished.is_set():
        absences += not os.path.lexists(target)
    thread.join()
    assert absences == 0


def test_a_full_disk_leaves_the_old_directory_and_nothing_else(make_disk: MakeDisk) -> None:
    target = make_disk(256) / "bundle"
    write_directory(target, OLD, replace=False, error=ExportError)
    with pytest.raises(ExportError, match=r"bundle: cannot be written \(No space left on device\)"):
        write_directory(target, {"a.bin": b"new", "large.bin": bytes(512 * 1024)}, replace=True, error=ExportError)
    assert contents(target) == OLD
    assert list(target.parent.iterdir()) == [target]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(make_disk: MakeDisk) -> None:
    path = make_disk(256) / "file"
    write_file(path, b"old")
    with pytest.raises(OSError, match="No space left"):
        write_file(path, bytes(512 * 1024))
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


WRITE_TOO_MUCH = """
import sys
from pathlib import Path
from edge.files.atomic import write_directory
from edge.errors import ExportError
try:
    write_directory(Path(sys.argv[1]), {"a": b"new", "b": bytes(100_000)}, replace=True, error=ExportError)
except ExportError as error:
    sys.exit(str(error))
"""


def test_a_refused_write_leaves_the_old_directory_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    write_directory(target, OLD, replace=False, error=ExportError)
    done = run_with_file_limit(WRITE_TOO_MUCH, str(target), max_bytes=50_000)
    assert f"{target}: cannot be written (File too large)" in done.stderr
    assert contents(target) == OLD
    assert list(tmp_path.iterdir()) == [target]


REPLACE_FOR_EVER = """
import sys
from pathlib import Path
from edge.files.atomic import write_directory
from edge.errors import ExportError
print("ready", flush=True)
version = 0
while True:
    version += 1
    files = {f"{name}.bin": b"%d" % version * 5000 for name in range(8)}
    write_directory(Path(sys.argv[1]), files, replace=True, error=ExportError)
"""


def test_a_kill_at_any_moment_leaves_one_whole_version(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    moments = random.Random(0)
    for _ in range(10):
        with subprocess.Popen([sys.executable, "-c", REPLACE_FOR_EVER, str(target)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            while not target.exists():
                time.sleep(0.001)
            time.sleep(moments.uniform(0, 0.05))
            writer.send_signal(signal.SIGKILL)
        versions = {file.read_bytes() for file in target.iterdir()}
        assert len(list(target.iterdir())) == 8
        assert len(versions) == 1
