from __future__ import annotations

import pytest
from scipy.stats import binomtest

from edge.errors import ExportError
from export.metrics.operating import complement, operating_point, rate_of
from export.metrics.records import KindCount


def test_a_part_fails_above_the_threshold_and_not_at_it() -> None:
    point = operating_point([1.0, 2.0, 3.0, 2.5], {"scratch": [2.0, 2.1], "dent": [9.0, 1.0, 2.0]}, threshold=2.0)
    assert point.threshold == 2.0
    assert (point.false_rejects.count, point.false_rejects.parts, point.false_rejects.rate) == (2, 4, 0.5)
    assert (point.misses.count, point.misses.parts, point.misses.rate) == (3, 5, 0.6)
    assert point.kinds == (
        KindCount(kind="good", parts=4, failed=2),
        KindCount(kind="dent", parts=3, failed=1),
        KindCount(kind="scratch", parts=2, failed=1),
    )


@pytest.mark.parametrize(
    ("good", "bad"), [([], {"dent": [1.0]}), ([1.0], {}), ([1.0], {"dent": []}), ([float("nan")], {"dent": [1.0]})]
)
def test_an_operating_point_needs_both_classes(good: list[float], bad: dict[str, list[float]]) -> None:
    with pytest.raises(ExportError, match="parts"):
        operating_point(good, bad, threshold=1.0)


@pytest.mark.parametrize(("count", "parts"), [(0, 20), (1, 20), (3, 63), (63, 63), (31, 63), (0, 1), (1, 1), (7, 2000)])
@pytest.mark.parametrize("confidence", [0.95, 0.9])
def test_the_interval_of_a_rate_is_clopper_pearson_s(count: int, parts: int, confidence: float) -> None:
    rate = rate_of(count, parts, confidence)
    expected = binomtest(count, parts).proportion_ci(confidence, method="exact")
    assert [rate.low, rate.high] == pytest.approx([expected.low, expected.high], abs=1e-9)
    assert rate.low <= rate.rate == count / parts <= rate.high


def test_no_false_reject_in_twenty_parts_still_leaves_a_sixth_possible() -> None:
    assert rate_of(0, 20).high == pytest.approx(1 - 0.025 ** (1 / 20))
    assert rate_of(0, 20).confidence == 0.95


@pytest.mark.parametrize(("count", "parts"), [(-1, 5), (6, 5), (0, 0)])
def test_an_impossible_rate_is_refused(count: int, parts: int) -> None:
    with pytest.raises(ExportError, match=f"a rate of {count} in {parts} parts"):
        rate_of(count, parts)


def test_the_complement_counts_the_other_parts_as_surely() -> None:
    passed = complement(rate_of(3, 63))
    assert passed == rate_of(60, 63).model_copy(update={"low": passed.low, "high": passed.high, "rate": passed.rate})
    assert [passed.rate, passed.low, passed.high] == pytest.approx(
        [rate_of(60, 63).rate, rate_of(60, 63).low, rate_of(60, 63).high]
    )
