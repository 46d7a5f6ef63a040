"""`make demo`, with fewer parts: the real commands, a real broker, a real subscriber."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from tests.places import ROOT

pytestmark = pytest.mark.long


@pytest.mark.timeout(600)
def test_the_demo_answers_every_part_and_leaves_what_it_found(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "demo", "--out", str(tmp_path), "--frames", "40"]
    environment = {**os.environ, "PATCHLINE_SOURCE__FPS": "1000"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "40 / 40" in done.stdout
    assert "online → stopped" in done.stdout
    verdicts = [json.loads(line) for line in (tmp_path / "results" / "verdicts.jsonl").read_text().splitlines()]
    failed = [verdict["part_id"] for verdict in verdicts if verdict["verdict"] == "FAIL"]
    assert failed
    assert sorted(path.stem for path in (tmp_path / "results" / "overlays").glob("*.jpg")) == sorted(failed)
    crops = list((tmp_path / "results" / "crops").glob("*.jpg"))
    assert len(crops) >= len(failed)
    assert all(cv2.imread(str(path)) is not None for path in crops)
