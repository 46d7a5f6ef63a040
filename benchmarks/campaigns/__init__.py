"""Bounded attacks on what the project promises, each against the real thing: one module a campaign.

A module offers `run(count, seed)` and the constant `COUNT`, how many attacks are made where nobody says so.
"""

from __future__ import annotations

from collections.abc import Sequence

Rows = Sequence[tuple[str, str]]
"""What was counted, and its figure, as they are printed."""


class CampaignError(Exception):
    """A promise broke; the message says which, and the seed that shows it."""
