from __future__ import annotations

import pytest

from benchmarks.compare import available_arithmetics, best_arithmetic, score_difference, with_shares
from benchmarks.contest import Samples, Variant
from benchmarks.curves import on_cores
from benchmarks.worker import Spec
from edge.engine.core import has_bf16
from tests.benchmarks.made_results import make_case


def test_the_share_of_the_limit_is_multiply_adds_over_embedding_time_over_peak() -> None:
    shared = with_shares(make_case())
    ours = shared.variant("ours-int8-bf16")
    assert ours is not None
    assert ours.network_share == pytest.approx(12.5e9 / 10e-3 / 0.5e12, abs=1e-3)  # 10 ms, 0.5 · 10¹² a second


def test_a_variant_whose_stages_are_one_piece_has_no_share() -> None:
    graph = with_shares(make_case()).variant("graph-bf16")
    assert graph is not None
    assert graph.network_share is None


def test_bf16_is_measured_and_preferred_where_the_cpu_has_it() -> None:
    assert ("bf16" in available_arithmetics()) == has_bf16()
    assert best_arithmetic() == ("bf16" if has_bf16() else "f32")


def test_scores_are_compared_between_the_graph_and_ours_at_f32() -> None:
    samples = {"graph-f32": Samples(scores=[10.0, 20.0]), "ours-f32-f32": Samples(scores=[10.1, 19.9])}
    assert score_difference(samples) == pytest.approx(0.01)
    assert score_difference({"ours-f32-f32": Samples(scores=[1.0])}) is None


def test_a_variant_bound_to_cores_is_otherwise_the_same() -> None:
    spec = Spec(engine="fast", model="bundle", arithmetic="f32", good="good", defective="bad", cache="cache")
    bound = on_cores(Variant("ours", "ours", spec, "f32"), 2)
    assert (bound.name, bound.spec.cpus) == ("ours-2", 2)
    assert (bound.spec.model, bound.title) == ("bundle", "ours")
