"""The station installs and runs in an environment that has no torch: inspect, check, bench and teach."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.places import ROOT

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of commands of an environment with nothing but the station's own requirements."""
    environment = tmp_path_factory.mktemp("station")
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    install = [str(environment / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "--require-hashes", "-r", str(ROOT / "requirements" / "station.txt")], check=True)
    subprocess.run([*install, "--no-deps", "--no-build-isolation", "-e", str(ROOT)], check=True)
    subprocess.run([environment / "bin" / "pip", "check", "--disable-pip-version-check"], check=True)
    return environment / "bin"


def run(command: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(command), *(str(argument) for argument in arguments)], capture_output=True, text=True, check=False
    )


@pytest.mark.timeout(600)
def test_the_station_needs_no_torch(station: Path, bundle_dir: Path, good_pictures: Path, tmp_path: Path) -> None:
    assert run(station / "python", "-c", "import torch").returncode == 1

    inspected = run(station / "patchline-edge", "inspect", "--bundle", bundle_dir, "--out", tmp_path, good_pictures)
    assert inspected.returncode == 0, inspected.stderr
    verdicts = [json.loads(line) for line in inspected.stdout.splitlines()]
    assert len(verdicts) == len(list(good_pictures.iterdir()))

    checked = run(station / "patchline-edge", "check", "--bundle", bundle_dir)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.timeout(600)
def test_the_station_teaches_itself(station: Path, ir_dir: Path, good_pictures: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    taught = run(station / "patchline-export", "teach", "--ir", ir_dir, "--images", good_pictures, "--out", bundle)
    assert taught.returncode == 0, taught.stderr
    assert (bundle / "manifest.json").is_file()

    refused = run(station / "patchline-export", "convert", "--backbone", "resnet18", "--out", tmp_path / "ir")
    assert refused.returncode == 7
    assert "pip install '.[export]'" in refused.stderr
    assert "Traceback" not in refused.stderr
