from __future__ import annotations

from pathlib import Path

import pytest

from edge.delivery.outbox.files import Ballast, CropFiles, DirectoryLock, EpochFile, free_bytes
from edge.errors import OutboxError
from tests.disks import MakeDisk

KIB = 1024


def test_files_are_written_read_and_removed(tmp_path: Path) -> None:
    crops = CropFiles(tmp_path / "crops")
    crops.write({"a": b"1", "b": b"22"})
    assert (crops.read("a"), crops.read("b"), crops.read("c")) == (b"1", b"22", None)
    crops.remove(["a", "c"])
    assert [path.name for path in crops.directory.iterdir()] == ["b"]


def test_writing_nothing_makes_no_directory(tmp_path: Path) -> None:
    crops = CropFiles(tmp_path / "crops")
    crops.write({})
    assert crops.sweep([]) == 0
    assert not crops.directory.exists()


def test_of_files_that_do_not_all_fit_none_is_left(make_disk: MakeDisk) -> None:
    disk = make_disk(256)
    crops = CropFiles(disk / "crops")
    with pytest.raises(OSError, match="No space left"):
        crops.write({"small": b"1", "large": bytes(300 * KIB)})
    assert list(crops.directory.iterdir()) == []


def test_ballast_takes_its_space_and_gives_it_back(make_disk: MakeDisk) -> None:
    disk = make_disk(1024)
    before = free_bytes(disk)
    ballast = Ballast(disk / "ballast", 512 * KIB)
    ballast.reserve()
    ballast.reserve()
    assert free_bytes(disk) <= before - 512 * KIB
    found = Ballast(disk / "ballast", 512 * KIB)
    assert found.in_place
    assert found.release()
    assert not found.release()
    assert free_bytes(disk) == before


def test_ballast_for_which_there_is_no_room_leaves_nothing(make_disk: MakeDisk) -> None:
    disk = make_disk(256)
    ballast = Ballast(disk / "ballast", 512 * KIB)
    with pytest.raises(OSError, match="No space left"):
        ballast.reserve()
    assert not ballast.in_place
    assert list(disk.iterdir()) == []


def test_a_file_that_takes_no_space_or_has_another_size_is_no_ballast(tmp_path: Path) -> None:
    path = tmp_path / "ballast"
    with path.open("wb") as stream:
        stream.truncate(512 * KIB)
    assert not Ballast(path, 512 * KIB).in_place
    path.write_bytes(bytes(100 * KIB))
    ballast = Ballast(path, 512 * KIB)
    assert not ballast.in_place
    ballast.reserve()
    assert path.stat().st_size == 512 * KIB


def test_no_ballast_is_wanted_and_none_is_made(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path / "ballast", 0)
    ballast.reserve()
    assert not ballast.in_place
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("contents", [b"", b"no number", b"-5\n", b"\xff\xfe", b"12 34"])
def test_an_epoch_that_cannot_be_read_is_none(tmp_path: Path, contents: bytes) -> None:
    (tmp_path / "epoch").write_bytes(contents)
    assert EpochFile(tmp_path / "epoch").read() == 0


def test_an_epoch_is_remembered(tmp_path: Path) -> None:
    epochs = EpochFile(tmp_path / "epoch")
    assert epochs.read() == 0
    epochs.write(1_800_000_000)
    epochs.write(1_800_000_001)
    assert EpochFile(tmp_path / "epoch").read() == 1_800_000_001


def test_a_lock_is_held_until_it_is_released(tmp_path: Path) -> None:
    first = DirectoryLock(tmp_path / "lock")
    with pytest.raises(OutboxError, match="in use by another process"):
        DirectoryLock(tmp_path / "lock")
    first.release()
    first.release()
    DirectoryLock(tmp_path / "lock").release()
