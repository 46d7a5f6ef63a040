from __future__ import annotations

from pathlib import Path

import pytest

from export.teaching.calibrate import conformal, mean_sigma
from export.teaching.held_out import Scores
from export.teaching.promise import say_promise, say_what_sets

PATHS = tuple(Path("good") / f"{number}.png" for number in range(20))
SCORES = tuple(1 + number / 100 for number in range(20))


def held_out(scores: tuple[float, ...]) -> Scores:
    return Scores(PATHS[: len(scores)], scores, scores)


def test_the_picture_that_sets_the_threshold_is_named_with_the_gap_to_the_next(
    capsys: pytest.CaptureFixture[str],
) -> None:
    say_what_sets(held_out(SCORES), conformal(SCORES, SCORES, 0.2))  # the 17th of 20
    assert capsys.readouterr().err == (
        "the threshold, 1.160, is the score of good/16.png, 4 from the highest of 20; the next below is 1.150, "
        "1% less, of good/15.png\n"
    )


def test_a_threshold_that_hangs_on_one_picture_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    scores = (*SCORES[:-1], 1.4)
    say_what_sets(held_out(scores), conformal(scores, scores, 0.01))
    said = capsys.readouterr().err
    assert "is the score of good/19.png, 1 from the highest of 20" in said
    assert "16% less, of good/18.png. It hangs on that one picture" in said


@pytest.mark.parametrize("count", [1, 20])
def test_a_lone_part_and_other_methods_have_no_next(count: int, capsys: pytest.CaptureFixture[str]) -> None:
    scores = SCORES[:count]
    threshold = conformal(scores, scores, 0.01) if count == 1 else mean_sigma(scores, scores, 3.0)
    say_what_sets(held_out(scores), threshold)
    assert "next below" not in capsys.readouterr().err


@pytest.mark.parametrize(("rate", "warned"), [(0.05, False), (0.01, True)])
def test_too_few_parts_for_a_rate_are_a_warning(rate: float, warned: bool, capsys: pytest.CaptureFixture[str]) -> None:
    say_promise(conformal(SCORES, SCORES, rate))
    said = capsys.readouterr().err
    assert "from 20 held-out good parts" in said
    assert ("warning: 20 held-out parts cannot support the rate of 1.00%" in said) == warned
