from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge.delivery.outbox.high_water import HighWater, Mark
from edge.delivery.outbox.schema import DamagedError
from tests.disks import MakeDisk

MARK = Mark(epoch=1_795_000_000, seq=42, commits=99, last_epoch=1_795_000_001)


def begun(path: Path, mark: Mark = MARK) -> HighWater:
    found = HighWater(path)
    found.begin(mark)
    return found


def test_the_last_mark_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "high_water"
    assert HighWater(path).read() is None
    file = begun(path)
    for seq in (43, 2**62, 1):
        file.note(Mark(1, seq, 3, 4))
        assert HighWater(path).read() == Mark(1, seq, 3, 4)
    file.close()
    file.close()
    file.note(MARK)
    assert HighWater(path).read() == Mark(1, 1, 3, 4)


def test_no_flipped_bit_and_no_cut_gives_another_mark(tmp_path: Path) -> None:
    path = tmp_path / "high_water"
    begun(path).close()
    whole = path.read_bytes()
    flipped = [
        bytes([*whole[:at], whole[at] ^ 1 << bit, *whole[at + 1 :]]) for at in range(len(whole)) for bit in range(8)
    ]
    for contents in (*flipped, *(whole[:length] for length in range(len(whole))), whole + b"\n"):
        path.write_bytes(contents)
        with pytest.raises(DamagedError, match="high_water"):
            HighWater(path).read()


def test_a_damaged_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "high_water"
    path.write_bytes(os.urandom(7))
    begun(path).close()
    assert HighWater(path).read() == MARK


def test_a_full_disk_is_no_obstacle_where_there_is_a_file(make_disk: MakeDisk) -> None:
    disk = make_disk(64)
    begun(disk / "high_water").close()
    with pytest.raises(OSError, match="No space"):
        (disk / "filler").write_bytes(bytes(64 * 1024))
    file = begun(disk / "high_water", Mark(2))
    file.note(Mark(3))
    file.close()
    assert HighWater(disk / "high_water").read() == Mark(3)
