from __future__ import annotations

from pathlib import Path

import pytest

from edge.errors import ExportError
from export.teaching.held_out import Scores, choose_golden, hold_out_count, name_outliers, split_by_chance, split_given

PATHS = tuple(Path(f"{number}.png") for number in range(20))


@pytest.mark.parametrize(
    ("pictures", "rate", "share", "expected"),
    [
        (200, 0.01, None, 99),  # what the rate needs
        (1000, 0.01, None, 200),  # a fifth: more than the rate needs
        (100, 0.01, None, 50),  # never more than half
        (209, 0.05, None, 41),
        (5, 0.01, None, 2),
        (5, 0.5, None, 1),
        (100, 0.01, 0.3, 30),
        (5, 0.01, 0.01, 1),
        (5, 0.01, 0.9, 4),
    ],
)
def test_as_many_are_held_out_as_the_rate_needs(pictures: int, rate: float, share: float | None, expected: int) -> None:
    assert hold_out_count(pictures, rate, share) == expected


def test_the_split_follows_from_the_seed_and_leaves_no_picture_out() -> None:
    split = split_by_chance(PATHS, 0.01, None, 0, Path("good"))
    assert sorted(split.held_out + split.teaching) == sorted(PATHS)
    assert len(split.held_out) == 10
    assert split_by_chance(PATHS, 0.01, None, 0, Path("good")) == split
    assert split_by_chance(PATHS, 0.01, None, 1, Path("good")) != split


def test_both_sides_of_the_split_keep_the_order_of_the_pictures() -> None:
    split = split_by_chance(PATHS, 0.01, None, 3, Path("good"))
    for side in (split.held_out, split.teaching):
        assert [PATHS.index(path) for path in side] == sorted(PATHS.index(path) for path in side)


def test_too_few_pictures_to_split_are_refused_by_their_place() -> None:
    with pytest.raises(ExportError, match="good: 4 usable pictures of good parts; at least 5 are needed"):
        split_by_chance(PATHS[:4], 0.01, None, 0, Path("good"))


def test_given_calibration_pictures_are_held_out() -> None:
    split = split_given(PATHS, (PATHS[7], PATHS[2]), Path("good"))
    assert split.held_out == (PATHS[2], PATHS[7])
    assert len(split.teaching) == 18


@pytest.mark.parametrize(("calibration", "taught", "held_out"), [(PATHS, 0, 20), ((Path("other.png"),), 20, 0)])
def test_a_split_without_one_side_is_refused(calibration: tuple[Path, ...], taught: int, held_out: int) -> None:
    with pytest.raises(ExportError, match=f"good: {taught} usable pictures to teach from and {held_out} for the"):
        split_given(PATHS, calibration, Path("good"))


def test_golden_frames_are_the_best_the_median_and_the_worst() -> None:
    good = Scores(PATHS[:5], (3.0, 1.0, 5.0, 2.0, 4.0), (0.3, 0.1, 0.5, 0.2, 0.4))
    golden = choose_golden(good)
    assert sorted((path.name, record.score, record.map_peak) for path, record in golden) == [
        ("0.png", 3.0, 0.3),
        ("1.png", 1.0, 0.1),
        ("2.png", 5.0, 0.5),
    ]
    assert [record.file for _, record in golden] == ["golden/0.png", "golden/1.png", "golden/2.png"]


def test_a_lone_held_out_part_is_the_one_golden_frame() -> None:
    assert len(choose_golden(Scores(PATHS[:1], (1.0,), (1.0,)))) == 1


def test_only_parts_far_above_the_others_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    usual = tuple(1 + number / 100 for number in range(19))
    name_outliers(Scores(PATHS, (*usual, 1.19), (1.0,) * 20))
    assert capsys.readouterr().err == ""
    name_outliers(Scores(PATHS, (*usual, 9.0), (1.0,) * 20))
    assert "1 of 20 held-out pictures score far above the others" in capsys.readouterr().err
