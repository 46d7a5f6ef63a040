from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ExportError
from export.evaluation.measure import RATES, measure_operation, measure_rates
from export.evaluation.results import PictureResult
from export.teaching.calibrate import conformal

Scores = st.lists(st.floats(0.1, 100), min_size=1, max_size=150)


def pictures(good: list[float], bad: list[float]) -> list[PictureResult]:
    return [
        PictureResult(path=f"{kind}/{number}.png", kind=kind, score=score, map_peak=score, outcome="PASS")
        for kind, scores in (("good", good), ("dent", bad))
        for number, score in enumerate(scores)
    ]


@given(Scores, Scores, Scores)
def test_each_rate_does_what_a_bundle_taught_with_it_would_do(
    good: list[float], bad: list[float], held_out: list[float]
) -> None:
    tested = pictures(good, bad)
    rows = measure_rates(tested, held_out)
    assert [row.rate for row in rows] == list(RATES)
    for row in rows:
        taught = conformal(held_out, held_out, row.rate)
        assert row.point == measure_operation(tested, taught.image)
        assert taught.guarantee is not None
        assert row.supported == taught.guarantee.supported


def test_a_higher_rate_finds_more_and_passes_less() -> None:
    held_out = [float(score) for score in range(1, 200)]
    rows = measure_rates(pictures([50.0, 185.0, 196.5], [150.0, 185.5, 192.0, 300.0]), held_out)
    assert [row.point.misses.count for row in rows] == [3, 3, 3, 3, 2, 1]
    assert [row.point.false_rejects.count for row in rows] == [0, 0, 0, 1, 1, 2]
    assert [row.supported for row in rows] == [False, True, True, True, True, True]


def test_one_class_alone_has_no_table() -> None:
    with pytest.raises(ExportError, match="0 defective parts"):
        measure_rates(pictures([1.0], []), [1.0])
