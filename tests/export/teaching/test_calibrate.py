from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ExportError
from export.teaching.calibrate import (
    best_f1,
    conformal,
    conformal_guarantee,
    conformal_rank,
    find_outliers,
    mean_sigma,
    score_quantiles,
)

# Eighths are exact in floating point, and so is the middle between two of them.
Scores = st.lists(st.integers(1, 40).map(lambda eighths: eighths / 8), min_size=1, max_size=25)


@pytest.mark.parametrize(
    ("held_out", "rate", "rank"),
    [
        (99, 0.01, 99),  # exactly as many as the rate needs: the largest
        (98, 0.01, 98),  # one fewer: the largest still, and the rate is not supported
        (100, 0.01, 100),  # ceil(101 · 0.99) = ceil(99.99)
        (199, 0.01, 198),
        (199, 0.05, 190),
        (19, 0.05, 19),
        (1, 0.5, 1),
        (1, 0.01, 1),
        (3, 0.999, 1),
        (999, 0.001, 999),
        (24, 0.44, 14),  # a whole number that floating point puts a hair higher
    ],
)
def test_the_rank_is_that_of_the_conformal_quantile(held_out: int, rate: float, rank: int) -> None:
    assert conformal_rank(held_out, rate) == rank


@given(st.integers(1, 3000), st.floats(1e-4, 0.5))
def test_the_rank_is_the_least_that_keeps_the_rate(held_out: int, rate: float) -> None:
    rank = conformal_rank(held_out, rate)
    assert 1 <= rank <= held_out
    assert (held_out + 1 - rank) / (held_out + 1) <= rate + 1e-6 or rank == held_out
    assert rank == 1 or (held_out + 2 - rank) / (held_out + 1) > rate - 1e-6


@pytest.mark.parametrize(("held_out", "rate"), [(39, 0.05), (60, 0.1), (99, 0.01)])
def test_the_promised_false_reject_rate_holds_over_many_teachings(held_out: int, rate: float) -> None:
    teachings = 4000
    scores = np.random.default_rng(0).random((teachings, held_out))  # uniform: P(score > t) is 1 - t
    rates = 1 - np.sort(scores, axis=1)[:, conformal_rank(held_out, rate) - 1]
    for row, expected in zip(scores[:5], rates, strict=False):
        assert 1 - conformal(list(row), list(row), rate).image == pytest.approx(expected)
    guarantee = conformal_guarantee(held_out, rate)
    error = rates.std() / math.sqrt(teachings)
    assert rates.mean() <= rate + 4 * error
    assert rates.mean() == pytest.approx(guarantee.expected_rate, abs=4 * error)
    kept = (rates <= guarantee.rate_at_confidence).mean()
    assert kept == pytest.approx(guarantee.confidence, abs=4 * math.sqrt(0.05 * 0.95 / teachings))


def test_a_threshold_is_a_held_out_score_and_few_of_them_lie_above() -> None:
    scores = list(np.random.default_rng(1).gamma(9, 2, 199))
    peaks = [score * 0.8 for score in scores]
    record = conformal(scores, peaks, 0.05)
    assert record.method == "conformal"
    assert record.parameters == {"rate": 0.05, "rank": 190}
    assert sum(score > record.image for score in scores) == 9
    assert record.pixel == pytest.approx(record.image * 0.8)


@pytest.mark.parametrize(("held_out", "supported"), [(98, False), (99, True), (15, False)])
def test_a_rate_that_so_few_parts_cannot_support_is_said_so(held_out: int, supported: bool) -> None:
    guarantee = conformal_guarantee(held_out, 0.01)
    assert guarantee.supported is supported
    assert guarantee.held_out == held_out
    assert guarantee.target_rate == 0.01
    assert guarantee.least_rate == pytest.approx(1 / (held_out + 1))
    assert guarantee.expected_rate == pytest.approx(1 / (held_out + 1))
    # All parts passed: with confidence c the rate is below 1 - (1 - c)^(1/n).
    assert guarantee.rate_at_confidence == pytest.approx(1 - 0.05 ** (1 / held_out))


def test_without_support_the_largest_score_is_the_threshold() -> None:
    assert conformal([3.0, 9.0, 5.0], [1.0, 2.0, 4.0], 0.01).image == 9.0
    assert conformal([3.0, 9.0, 5.0], [1.0, 2.0, 4.0], 0.01).pixel == 4.0


def test_mean_and_sigma_are_those_of_the_scores() -> None:
    record = mean_sigma([1.0, 2.0, 3.0, 6.0], [2.0, 2.0, 2.0, 2.0], 2.0)
    assert record.image == pytest.approx(3.0 + 2 * math.sqrt(14 / 3))
    assert record.pixel == 2.0
    assert record.guarantee is None
    assert record.parameters == {"sigmas": 2.0}


def test_mean_and_sigma_of_one_score_is_that_score() -> None:
    assert mean_sigma([4.0], [5.0], 3.0).image == 4.0


def test_parts_that_can_be_told_apart_are_with_the_threshold_in_the_middle() -> None:
    record = best_f1([1.0, 2.0, 3.0], [5.0, 9.0], [1.0, 1.5, 2.0], [8.0, 9.0])
    assert record.image == 4.0
    assert record.pixel == 5.0
    assert record.method == "best_f1"
    assert record.parameters == {"f1": 1.0, "defective": 2.0}
    assert record.guarantee is None


def test_a_defective_part_that_scores_nothing_leaves_no_threshold() -> None:
    with pytest.raises(ExportError, match=r"F1 of 0\.67 is reached by failing every part, as some of the 3 defective"):
        best_f1([3.0, 4.0, 4.0], [0.0, 0.0, 5.0], [1.0, 1.0, 1.0], [2.0, 2.0, 2.0])


@given(Scores, Scores)
def test_no_threshold_has_a_better_f1(good: list[float], bad: list[float]) -> None:
    record = best_f1(good, bad, good, bad)
    assert record.image == record.pixel > 0
    assert record.parameters["f1"] == pytest.approx(f1_at(record.image, good, bad))
    everywhere = [0.0, *(score + step for score in (*good, *bad) for step in (-1 / 32, 0, 1 / 32))]
    assert record.parameters["f1"] == pytest.approx(max(f1_at(candidate, good, bad) for candidate in everywhere))


def f1_at(threshold: float, good: list[float], bad: list[float]) -> float:
    caught = sum(score > threshold for score in bad)
    rejected = sum(score > threshold for score in good)
    return 2 * caught / (len(bad) + caught + rejected)


def test_quantiles_are_named_and_are_numpy_s() -> None:
    scores = list(np.random.default_rng(2).random(77))
    quantiles = score_quantiles(scores)
    assert list(quantiles) == ["q00", "q01", "q05", "q25", "q50", "q75", "q95", "q99", "q100"]
    assert quantiles["q00"] == min(scores)
    assert quantiles["q100"] == max(scores)
    assert quantiles["q50"] == pytest.approx(np.median(scores))
    assert list(quantiles.values()) == sorted(quantiles.values())


def test_a_score_far_above_the_others_is_an_outlier_and_a_merely_high_one_is_not() -> None:
    assert find_outliers([*np.linspace(1, 2, 40), 4.0, 6.0]) == (41, 40)
    assert find_outliers([*np.linspace(1, 2, 40), 2.5]) == ()
    assert find_outliers([1.0]) == ()
