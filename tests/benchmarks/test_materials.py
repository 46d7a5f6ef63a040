from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.materials import Materials
from edge.files.pictures import list_pictures


def test_pictures_are_made_once_and_kept(tmp_path: Path) -> None:
    materials = Materials(tmp_path / "out")
    made = materials.pictures("some", 2, seed=1, defect_rate=0)
    first = list_pictures(str(made))
    written = [path.stat().st_mtime_ns for path in first]
    assert len(first) == 2
    assert list_pictures(str(materials.pictures("some", 2, seed=1, defect_rate=0))) == first
    assert [path.stat().st_mtime_ns for path in first] == written


def test_what_an_interrupted_run_left_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "some.unfinished").mkdir()
    (tmp_path / "some.unfinished" / "half.png").write_bytes(b"")
    pictures = list_pictures(str(Materials(tmp_path).pictures("some", 2, seed=1, defect_rate=0)))
    assert "half.png" not in {path.name for path in pictures}
    assert len(pictures) == 2


@pytest.mark.parametrize("rate", [0, 1])
def test_the_share_of_defective_parts_is_the_one_asked_for(tmp_path: Path, rate: int) -> None:
    good = Materials(tmp_path / "good").pictures("some", 1, seed=5, defect_rate=0)
    asked = Materials(tmp_path / "asked").pictures("some", 1, seed=5, defect_rate=rate)
    same = list_pictures(str(good))[0].read_bytes() == list_pictures(str(asked))[0].read_bytes()
    assert same == (rate == 0)
