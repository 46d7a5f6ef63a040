from __future__ import annotations

from pathlib import Path

import pytest

from edge.errors import ExportError
from export.teaching.split import hold_out_count, name_repeats, name_stillness, split_by_chance, split_given

PATHS = tuple(Path(f"{number}.png") for number in range(20))
ALONE = tuple((index,) for index in range(20))


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
    split = split_by_chance(PATHS, ALONE, rate=0.01, share=None, seed=0, place=Path("good"))
    assert sorted(split.held_out + split.teaching) == sorted(PATHS)
    assert len(split.held_out) == 10
    assert split_by_chance(PATHS, ALONE, rate=0.01, share=None, seed=0, place=Path("good")) == split
    assert split_by_chance(PATHS, ALONE, rate=0.01, share=None, seed=1, place=Path("good")) != split


def test_both_sides_of_the_split_keep_the_order_of_the_pictures() -> None:
    split = split_by_chance(PATHS, ALONE, rate=0.01, share=None, seed=3, place=Path("good"))
    for side in (split.held_out, split.teaching):
        assert [PATHS.index(path) for path in side] == sorted(PATHS.index(path) for path in side)


def test_too_few_pictures_to_split_are_refused_by_their_place() -> None:
    with pytest.raises(ExportError, match="good: 4 usable pictures of good parts; at least 5 are needed"):
        split_by_chance(PATHS[:4], ALONE[:4], rate=0.01, share=None, seed=0, place=Path("good"))


def test_given_calibration_pictures_are_held_out() -> None:
    split = split_given(PATHS, ALONE, (PATHS[7], PATHS[2]), Path("good"))
    assert split.held_out == (PATHS[2], PATHS[7])
    assert len(split.teaching) == 18


@pytest.mark.parametrize(("calibration", "taught", "held_out"), [(PATHS, 0, 20), ((Path("other.png"),), 20, 0)])
def test_a_split_without_one_side_is_refused(calibration: tuple[Path, ...], taught: int, held_out: int) -> None:
    with pytest.raises(ExportError, match=f"good: {taught} usable pictures to teach from and {held_out} for the"):
        split_given(PATHS, ALONE, calibration, Path("good"))


@pytest.mark.parametrize("seed", range(5))
def test_a_part_seen_several_times_is_on_one_side_and_counts_once(seed: int) -> None:
    parts = tuple((first, first + 1, first + 10, first + 11) for first in range(0, 10, 2))  # seen twice, and again
    split = split_by_chance(PATHS, parts, rate=0.01, share=None, seed=seed, place=Path("good"))
    part_of = {PATHS[index]: part for part in parts for index in part}
    assert {part_of[path] for path in split.held_out}.isdisjoint(part_of[path] for path in split.teaching)
    assert [PATHS.index(path) for path in split.held_out] == sorted(part_of[path][0] for path in split.held_out)
    assert (len(split.held_out), len(split.teaching)) == (2, 12)
    assert [PATHS.index(path) for path in split.teaching] == sorted(map(PATHS.index, split.teaching))


def test_many_pictures_of_few_parts_are_too_few() -> None:
    parts = tuple(tuple(range(first, first + 5)) for first in range(0, 20, 5))
    with pytest.raises(ExportError, match="20 usable pictures of good parts, which show 4 different parts; at least 5"):
        split_by_chance(PATHS, parts, rate=0.01, share=None, seed=0, place=Path("good"))


def test_a_calibration_picture_of_a_taught_part_sets_no_threshold() -> None:
    parts = ((0, 1), (2, 3), (4,), *((index,) for index in range(5, 20)))
    split = split_given(PATHS, parts, (PATHS[1], PATHS[2], PATHS[3], PATHS[4]), Path("good"))
    assert split.held_out == (PATHS[2], PATHS[4])
    assert split.teaching == (PATHS[0], *PATHS[5:])


def test_repeats_are_named_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    name_repeats(PATHS, ALONE)
    assert capsys.readouterr().err == ""
    name_repeats(PATHS, ((0,), (1, 2, 3), *ALONE[4:]))
    said = capsys.readouterr().err
    assert said.startswith("warning: 3 of 20 pictures are so alike")
    assert "such as 1.png and 2.png: 18 different parts" in said
    assert "--independent" in said


@pytest.mark.parametrize(("still", "expected"), [(10, False), (11, True)])
def test_pictures_that_hardly_differ_are_said(still: int, expected: bool, capsys: pytest.CaptureFixture[str]) -> None:
    name_stillness(PATHS, still)
    assert ("again and again" in capsys.readouterr().err) == expected
