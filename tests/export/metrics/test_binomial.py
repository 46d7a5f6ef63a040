from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from export.metrics.binomial import beta_quantile


@given(st.integers(1, 400), st.integers(1, 400), st.floats(0.001, 0.999))
def test_the_beta_quantile_is_scipy_s(a: int, b: int, probability: float) -> None:
    assert beta_quantile(a, b, probability) == pytest.approx(stats.beta.ppf(probability, a, b), rel=1e-6, abs=1e-12)
