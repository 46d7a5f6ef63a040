from __future__ import annotations

import hashlib

import pytest

from benchmarks.campaigns import CampaignError, damage


def test_a_few_damages_break_no_promise() -> None:
    figures = dict(damage.run(8, 3))
    assert figures["damages"].startswith("8: ")
    assert figures["changed in silence"] == "0"


def test_a_message_that_is_not_what_was_committed_breaks_the_campaign(monkeypatch: pytest.MonkeyPatch) -> None:
    # The oracle itself is made wrong, not the outbox: it must not pass by looking away.
    monkeypatch.setattr(damage, "_digest", lambda message: hashlib.sha256(repr(id(message)).encode()).hexdigest())
    with pytest.raises(CampaignError, match=r"damage \d+: .* of .*changed: "):
        damage.run(30, 3)
