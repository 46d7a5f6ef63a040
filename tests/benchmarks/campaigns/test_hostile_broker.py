from __future__ import annotations

import pytest

from benchmarks.campaigns import CampaignError, hostile_broker
from benchmarks.campaigns._hostile import Broker


def test_a_packet_of_256_mb_and_a_flood_break_no_promise() -> None:
    figures = dict(hostile_broker.run(2, 3))
    assert figures["of them: a packet of 256 MB"] == figures["of them: a flood at QoS 2"] == "1"
    assert figures["lost, inverted, dead letters"] == "0, 0, 0"


def test_a_broker_that_loses_verdicts_breaks_the_campaign(monkeypatch: pytest.MonkeyPatch) -> None:
    # The oracle itself is made wrong: it must not pass by looking away.
    monkeypatch.setattr(Broker, "seqs", lambda _: list(range(hostile_broker.VERDICTS)))
    with pytest.raises(CampaignError, match="verdicts arrived as"):
        hostile_broker.run(1, 3)
