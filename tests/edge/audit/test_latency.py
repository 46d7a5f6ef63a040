from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.audit.latency import Histogram

latencies = st.lists(st.floats(-1e5, 1e9), min_size=1, max_size=200)


def filled(values: list[float]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return histogram


@given(latencies, st.sampled_from([0.5, 0.99, 1.0]))
def test_a_percentile_is_at_most_one_per_cent_above_the_true_one_and_never_below(
    values: list[float], share: float
) -> None:
    true = sorted(values)[max(1, math.ceil(share * len(values))) - 1]
    told = filled(values).percentile(share)
    assert told >= min(true, max(values)) - 1e-9 * abs(true)
    assert told <= max(true, 0.1) * 1.0101


@given(latencies)
def test_the_largest_and_the_smallest_are_exact(values: list[float]) -> None:
    figures = filled(values).as_json()
    assert figures["count"] == len(values)
    assert figures["max"] == round(max(values), 1)
    assert figures["min"] == round(min(values), 1)


@given(latencies)
def test_a_stored_one_is_the_same(values: list[float]) -> None:
    histogram = filled(values)
    again = Histogram.restore(json.loads(json.dumps(histogram.state())))
    assert again.as_json() == histogram.as_json()
    assert again.state() == histogram.state()


def test_an_empty_one_can_be_stored_and_has_no_percentiles() -> None:
    again = Histogram.restore(json.loads(json.dumps(Histogram().state())))
    assert again.as_json() == {"count": 0}


def test_memory_does_not_grow_with_the_number_of_values() -> None:
    histogram = Histogram()
    for value in range(1, 100_000):
        histogram.add(value * 1e7)
    state = histogram.state()
    assert isinstance(state["buckets"], dict)
    assert len(state["buckets"]) < 2_900
    assert histogram.as_json()["max"] == pytest.approx(99_999e7)
