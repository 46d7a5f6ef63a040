"""The unit file: valid, hardened, and naming a command that exists."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.places import ROOT

UNIT = ROOT / "systemd" / "patchline-edge.service"
WORST_SCORE = 1.5  # "OK" by systemd-analyze; lower is better

needs_systemd_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed (Debian: apt-get install systemd)"
)


def read_unit() -> configparser.ConfigParser:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(UNIT, encoding="utf-8")
    return unit


@needs_systemd_analyze
def test_exposure_is_as_low_as_promised() -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(UNIT)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", output)
    assert found is not None, output
    assert float(found[1]) <= WORST_SCORE


@needs_systemd_analyze
def test_systemd_understands_every_line(tmp_path: Path) -> None:
    # Verified with a program that exists everywhere; the real path exists only where it is installed.
    text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text(encoding="utf-8"), flags=re.MULTILINE)
    copy = tmp_path / UNIT.name
    copy.write_text(text, encoding="utf-8")
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    complaints = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert complaints == []


def test_stop_time_out_leaves_time_to_drain() -> None:
    from edge.settings.sections import ServiceSettings

    service = read_unit()["Service"]
    assert float(service["TimeoutStopSec"]) > ServiceSettings().drain_timeout_s
    assert float(service["WatchdogSec"]) > ServiceSettings().stall_timeout_s


def test_a_service_that_runs_away_leaves_the_machine_alive_and_as_many_threads_as_may_be_set() -> None:
    from edge.settings.values import MOST_THREADS

    service = read_unit()["Service"]
    assert 0 < int(service["MemoryHigh"].rstrip("%")) < int(service["MemoryMax"].rstrip("%")) < 100
    assert service["Restart"] == "on-failure"  # which a kill for want of memory is
    # Measured with the most of each kind: 527 in latency mode, 1,044 in throughput mode, on two cores.
    assert int(service["TasksMax"]) >= 6 * MOST_THREADS


def test_what_the_engines_need_is_not_taken_from_them() -> None:
    service = read_unit()["Service"]
    assert "MemoryDenyWriteExecute" not in service
    assert "PrivateDevices" not in service
    assert service["DevicePolicy"] == "closed"
