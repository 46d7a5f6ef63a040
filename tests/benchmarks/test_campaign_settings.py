from __future__ import annotations

import re
import subprocess
import sys

import pytest

from benchmarks.campaigns import CampaignError
from benchmarks.campaigns.settings import Outcome, _judge
from tests.places import ROOT


def test_a_short_campaign_holds_and_counts_every_file() -> None:
    # In a process of its own: what the command takes is counted from what its parent has.
    command = [sys.executable, "-m", "benchmarks.campaigns", "settings", "--count", "25", "--seed", "7"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"│ (\S.*?) +│ +(\d+) *│", done.stdout)
    assert ("hostile settings files", "25") in rows
    assert sum(int(figure) for what, figure in rows if "exit code" in what and "other" not in what) == 25


@pytest.mark.parametrize(
    ("outcome", "complaint"),
    [
        (Outcome(1, b"Traceback (most recent call last):\n", 0, 0.0), "ends in a traceback"),
        (Outcome(-9, b"", 0, 60.0), "does not end"),
        (Outcome(-11, b"error: x\n", 0, 0.0), "ends with -11"),
        (Outcome(2, b"error: a\nerror: b\n", 0, 0.0), "2 lines"),
        (Outcome(2, b"error: \x1b[2J\n", 0, 0.0), "acts on a terminal"),
        (Outcome(2, b"error: user:secret\n", 0, 0.0), "a password is shown"),
        (Outcome(2, b"error: a\n", 2 << 30, 0.0), "takes 2147 MB"),
    ],
)
def test_a_broken_promise_is_seen(outcome: Outcome, complaint: str) -> None:
    with pytest.raises(CampaignError, match=complaint):
        _judge(outcome, "file 0")
