from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped]

from export.metrics import auroc

Scores = st.lists(st.integers(0, 20).map(float), min_size=1, max_size=30)  # few values: many ties


@given(Scores, Scores)
def test_auroc_is_scikit_learn_s(good: list[float], bad: list[float]) -> None:
    expected = roc_auc_score([0] * len(good) + [1] * len(bad), good + bad)
    assert auroc(good, bad) == pytest.approx(expected)


def test_auroc_is_the_share_of_pairs_in_the_right_order() -> None:
    assert auroc([1, 2, 3], [4, 5]) == 1.0
    assert auroc([4, 5], [1, 2, 3]) == 0.0
    assert auroc([1, 3], [2, 3]) == (1 + 1 + 0 + 0.5) / 4
    assert auroc([7, 7], [7]) == 0.5
