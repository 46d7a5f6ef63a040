from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.campaigns import CampaignError, kills
from benchmarks.rig.brokers import find_mosquitto


@pytest.mark.long
def test_mosquitto_killed_by_a_verdict_loses_none(bundle_dir: Path, tmp_path: Path) -> None:
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed (Debian: apt-get install mosquitto)")
    figures = dict(kills.kill_on_arrival(tmp_path / "arrival", bundle_dir, 2))
    assert figures["kills of mosquitto as a verdict arrives"] == "2"
    assert int(figures["verdicts received"]) > 0


@pytest.mark.parametrize("counts", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_one_loss_inversion_or_dead_letter_breaks_the_campaign(counts: tuple[int, int, int]) -> None:
    with pytest.raises(CampaignError, match="kills: "):
        kills.judge("kills", *counts)
