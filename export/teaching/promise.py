"""What a threshold promises, which picture sets it, and how much hangs on that one: said to whoever teaches."""

from __future__ import annotations

import numpy as np

from edge.bundle.bundle import Guarantee, ThresholdRecord
from edge.files.names import shown
from edge.terminal import say
from export.teaching.held_out import Scores

_LONE = 0.1  # of the threshold: a gap below it that is as large hangs on a single picture


def say_promise(threshold: ThresholdRecord) -> None:
    """What `threshold` promises of false rejects, and whether so many held-out parts can support the rate."""
    guarantee = threshold.guarantee
    if guarantee is None:
        say(f"{threshold.method} promises no false-reject rate; conformal does")
        return
    say(
        f"false rejects: at most {guarantee.expected_rate:.2%} expected, with {guarantee.confidence:.0%} confidence "
        f"at most {guarantee.rate_at_confidence:.2%}, from {guarantee.held_out} held-out good parts"
    )
    if not guarantee.supported:
        say(f"warning: {why_unsupported(guarantee)}")


def why_unsupported(guarantee: Guarantee) -> str:
    """That so few parts cannot support the rate, and what they can."""
    return (
        f"{guarantee.held_out} held-out parts cannot support the rate of {guarantee.target_rate:.2%} that "
        f"was asked for; the least is {guarantee.least_rate:.2%}. More good pictures lower it"
    )


def say_what_sets(good: Scores, threshold: ThresholdRecord) -> None:
    """Name the picture whose score is the conformal threshold, and the one that would be next."""
    rank = threshold.parameters.get("rank")
    if threshold.method != "conformal" or rank is None:
        return
    order = np.argsort(good.scores)
    place = int(rank) - 1
    setting = order[place]
    text = (
        f"the threshold, {good.scores[setting]:.3f}, is the score of {shown(good.paths[setting])}, "
        f"{len(order) - place} from the highest of {len(order)}"
    )
    if place > 0:
        below = order[place - 1]
        gap = 1 - good.scores[below] / good.scores[setting]
        text += f"; the next below is {good.scores[below]:.3f}, {gap:.0%} less, of {shown(good.paths[below])}"
        if gap >= _LONE:
            text += ". It hangs on that one picture: look at it, and keep it only if such parts shall pass"
    say(text)
