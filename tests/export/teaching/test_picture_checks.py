from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.errors import ExportError
from edge.files.pictures import list_pictures, write_picture
from edge.records import UInt8Array
from export.teaching.picture_checks import check_pictures


def noise(seed: int, height: int = 40, width: int = 60) -> UInt8Array:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Four good ones, and one of each kind that cannot be used."""
    for number in range(4):
        write_picture(tmp_path / f"good-{number}.png", noise(number))
    (tmp_path / "torn.png").write_bytes((tmp_path / "good-0.png").read_bytes()[:300])
    write_picture(tmp_path / "small.png", noise(9, 20, 30))
    write_picture(tmp_path / "turned.png", noise(9, 60, 40))
    write_picture(tmp_path / "black.png", np.zeros((40, 60, 3), np.uint8))
    write_picture(tmp_path / "zz-again.bmp", noise(2))
    return tmp_path


REASONS = {
    "torn.png": "not a picture",
    "small.png": "30×20 where most are 60×40",
    "turned.png": "40×60 where most are 60×40",
    "black.png": "blank",
    "zz-again.bmp": "the same picture as",
}


def test_bad_pictures_are_refused_each_by_name_and_reason(pictures: Path) -> None:
    with pytest.raises(ExportError) as caught:
        check_pictures(list_pictures(pictures), skip_bad=False)
    message = str(caught.value)
    assert message.startswith("5 of 9 pictures cannot be used: ")
    assert "--skip-bad" in message
    problems = message.partition(": ")[2].split("; ")
    for name, reason in REASONS.items():
        assert any(name in problem and reason in problem for problem in message.split(f"{pictures}/")), name
    assert len(problems) >= 5


def test_bad_pictures_are_skipped_and_remembered(pictures: Path, capfd: pytest.CaptureFixture[str]) -> None:
    checked = check_pictures(list_pictures(pictures), skip_bad=True)
    assert [path.name for path in checked.paths] == [f"good-{number}.png" for number in range(4)]
    assert (checked.height, checked.width) == (40, 60)
    assert len(checked.skipped) == 5
    noted = capfd.readouterr().err
    for name, reason in REASONS.items():
        (line,) = [line for line in checked.skipped if f"/{name}:" in line]
        assert reason in line
        assert f"skipped {line}" in noted


def test_good_pictures_are_all_kept(pictures: Path) -> None:
    paths = [pictures / f"good-{number}.png" for number in range(4)]
    checked = check_pictures(paths, skip_bad=False)
    assert checked.paths == tuple(paths)
    assert checked.skipped == ()


def test_many_bad_pictures_are_counted_and_ten_named(tmp_path: Path) -> None:
    for number in range(14):
        (tmp_path / f"{number:02}.png").write_bytes(b"torn")
    with pytest.raises(ExportError, match=r"14 of 14 pictures.*09\.png.*; and 4 more"):
        check_pictures(list_pictures(tmp_path), skip_bad=False)


def test_nothing_left_is_an_error_even_when_bad_ones_may_be_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"torn")
    with pytest.raises(ExportError, match="no usable picture is left"):
        check_pictures(list_pictures(tmp_path), skip_bad=True)


def test_a_bad_twin_does_not_condemn_the_other(tmp_path: Path) -> None:
    """Of two equal pictures of a size that is not the usual one, both are named for their size."""
    for number in range(3):
        write_picture(tmp_path / f"good-{number}.png", noise(number))
    for name in ("odd-1.png", "odd-2.png"):
        write_picture(tmp_path / name, noise(7, 20, 20))
    checked = check_pictures(list_pictures(tmp_path), skip_bad=True)
    assert ["20×20" in line for line in checked.skipped] == [True, True]
