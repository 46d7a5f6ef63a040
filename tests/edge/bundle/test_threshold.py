from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.bundle.bundle import ThresholdRecord
from edge.bundle.threshold import why_threshold_is_none
from export.teaching.calibrate import best_f1, conformal, mean_sigma

SCORES = st.lists(st.floats(0.01, 1e6), min_size=1, max_size=40)


def why(record: ThresholdRecord, scores: list[float]) -> str:
    return why_threshold_is_none(record.method, record.image, record.parameters, scores)


@given(scores=SCORES, rate=st.floats(0.001, 0.5), sigmas=st.floats(0, 10))
def test_what_teaching_calibrates_is_what_the_held_out_scores_give(
    scores: list[float], rate: float, sigmas: float
) -> None:
    assert why(conformal(scores, scores, rate), scores) == ""
    assert why(mean_sigma(scores, scores, sigmas), scores) == ""


def test_a_threshold_that_defective_parts_decide_is_believed() -> None:
    assert why(best_f1([1.0, 2.0], [5.0, 6.0], [1.0, 2.0], [5.0, 6.0]), [1.0, 2.0]) == ""


@pytest.mark.parametrize(
    ("method", "image", "parameters", "message"),
    [
        ("conformal", 3.0, {"rank": 2.0}, "the threshold is 3, but the held-out scores give 2"),
        ("conformal", 3.0, {}, "rank is 0, of 3"),
        ("conformal", 3.0, {"rank": 2.5}, "rank is 2.5, of 3"),
        ("conformal", 3.0, {"rank": 4.0}, "rank is 4, of 3"),
        ("mean_sigma", 99.0, {"sigmas": 3.0}, "the held-out scores give 5"),
        ("mean_sigma", 5.0, {}, "the held-out scores give nan"),
    ],
)
def test_any_other_threshold_is_refused_with_both(
    method: str, image: float, parameters: dict[str, float], message: str
) -> None:
    assert message in why_threshold_is_none(method, image, parameters, [1.0, 3.0, 2.0])
