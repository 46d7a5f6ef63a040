from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.flight import fly
from edge.bundle.bundle import read_bundle
from edge.inspection.inspector import Inspector
from edge.inspection.options import InspectorOptions
from tests.bundles import draw_good


@pytest.mark.parametrize("cameras", [1, 3])
def test_every_inspector_of_a_team_answers_and_every_frame_is_timed(bundle_dir: Path, cameras: int) -> None:
    team = Inspector(read_bundle(bundle_dir), InspectorOptions(mode="throughput", workers=2)).team()
    assert len(team) == 2
    rate, latencies = fly(team, [draw_good(number).image for number in range(3)], cameras=cameras, seconds=0.3)
    assert len(latencies) >= cameras
    assert rate > 0
    assert min(latencies) > 0
