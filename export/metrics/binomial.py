"""What a count says about a rate: quantiles of the beta distribution for whole parameters, without SciPy."""

from __future__ import annotations

import math

CONFIDENCE = 0.95  # of every interval and bound that is reported


def beta_quantile(a: int, b: int, probability: float) -> float:
    """The `probability` quantile of Beta(a, b) for whole a, b ≥ 1, by bisection.

    For whole parameters P(Beta(a, b) ≤ x) = P(Binomial(a + b - 1, x) ≥ a).
    """
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _binomial_tail(a + b - 1, a, middle) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _binomial_tail(trials: int, least: int, chance: float) -> float:
    if chance in (0.0, 1.0):
        return chance
    log_chance, log_rest = math.log(chance), math.log1p(-chance)
    logs = [
        math.lgamma(trials + 1)
        - math.lgamma(k + 1)
        - math.lgamma(trials - k + 1)
        + k * log_chance
        + (trials - k) * log_rest
        for k in range(least, trials + 1)
    ]
    return math.fsum(math.exp(value) for value in logs)
