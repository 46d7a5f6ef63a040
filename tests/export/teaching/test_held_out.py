from __future__ import annotations

from pathlib import Path

import pytest

from export.teaching.held_out import Scores, choose_golden, name_outliers

PATHS = tuple(Path(f"{number}.png") for number in range(20))


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
