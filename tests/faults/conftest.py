"""Fixtures of the fault tests: a broker that is an oracle, stations on the taught bundle, faults below them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from benchmarks.rig.broker import BrokerProcess
from benchmarks.rig.faulty import SOURCE, FaultyLibrary
from benchmarks.rig.network import Cable, available
from benchmarks.rig.proxy import ChaosProxy
from benchmarks.rig.station import Station

MakeStation = Callable[..., Station]


@pytest.fixture
def oracle(tmp_path: Path) -> Iterator[BrokerProcess]:
    """The recording broker."""
    with BrokerProcess(tmp_path / "broker.jsonl") as broker:
        yield broker


@pytest.fixture
def proxy(oracle: BrokerProcess) -> Iterator[ChaosProxy]:
    """What lies between a station and the oracle."""
    with ChaosProxy((oracle.host, oracle.port)) as between:
        yield between


@pytest.fixture
def make_station(bundle_dir: Path, tmp_path: Path) -> Iterator[MakeStation]:
    """Prepare a station that speaks to a broker or a proxy; whatever still runs at the end is killed."""
    with ExitStack() as stations:

        def make(broker: BrokerProcess | ChaosProxy, settings: dict[str, object] | None = None, **how: Any) -> Station:
            station = Station(tmp_path, bundle_dir, (broker.host, broker.port), settings, **how)
            return stations.enter_context(station)

        yield make


@pytest.fixture
def cable() -> Iterator[Cable]:
    """A cable to a namespace."""
    if not available():
        pytest.skip("network namespaces can be made by root only; the proxy's tests run everywhere")
    with Cable() as plugged_in:
        yield plugged_in


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The failing C library, compiled."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler (Debian: apt-get install gcc libc6-dev)")
    path = tmp_path_factory.mktemp("faulty") / "faulty.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-pthread", "-o", str(path), str(SOURCE)]
    subprocess.run(command, check=True, timeout=60)
    return path


@pytest.fixture
def faulty(library: Path, tmp_path: Path) -> Iterator[FaultyLibrary]:
    """The failing C library of one station, watching its outbox."""
    (tmp_path / "faulty").mkdir()
    with FaultyLibrary(library, tmp_path / "faulty", tmp_path / "outbox") as prepared:
        yield prepared
