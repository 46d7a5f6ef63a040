from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.agreement import _differences, compare_maps, compare_verdicts
from edge.bundle.bundle import read_bundle
from edge.files.pictures import list_pictures
from export.evaluation.results import CategoryResults, PictureResult
from tests.export.evaluation.made_results import make_results


def with_outcomes(**outcomes: str) -> CategoryResults:
    pictures = [
        {"path": path, "kind": "good", "score": 1.0, "map_peak": 1.0, "outcome": outcome}
        for path, outcome in outcomes.items()
    ]
    return make_results(pictures=tuple(PictureResult.model_validate(picture) for picture in pictures))


def test_the_fast_search_has_the_exact_score_and_a_map_that_is_near(bundle_dir: Path, defective_pictures: Path) -> None:
    found = compare_maps(read_bundle(bundle_dir), list_pictures(str(defective_pictures)))
    assert found.score < 1e-4
    assert 0 <= found.mean <= found.worst_picture < 0.02
    assert found.worst_place < 0.5


def test_a_difference_is_relative_in_the_mean_and_a_share_of_the_peak_at_the_worst_place() -> None:
    exact, fast = np.array([[1, 2], [4, 0]], np.float32), np.array([[1.1, 2], [4, 0.4]], np.float32)
    assert _differences(exact, fast) == pytest.approx((0.1 / 3, 0.1))


def test_verdicts_that_differ_are_counted_by_their_direction() -> None:
    found = compare_verdicts(
        with_outcomes(a="PASS", b="FAIL", c="FAIL", d="PASS"), with_outcomes(a="FAIL", b="PASS", c="PASS", d="PASS")
    )
    assert (found.pictures, found.changed, found.passed_now) == (4, 3, 2)


def test_results_of_other_pictures_are_not_compared() -> None:
    with pytest.raises(ValueError, match="the same pictures"):
        compare_verdicts(with_outcomes(a="PASS"), with_outcomes(b="PASS"))
