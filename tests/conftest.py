"""Fixtures that several test modules share: brokers and certificates; IR, pictures and bundle; full disks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

from benchmarks.rig.brokers import Broker, Certificates, EmbeddedBroker, Mosquitto, find_mosquitto

pytest_plugins = ("tests.bundles", "tests.disks")

# A timing is never an assertion, and a shared machine is slow at times.
settings.register_profile("patchline", deadline=None)
settings.load_profile("patchline")


@pytest.fixture
def start_mosquitto(tmp_path: Path) -> Iterator[Callable[..., Mosquitto]]:
    """Start a mosquitto with further lines of settings."""
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed (Debian: apt-get install mosquitto)")
    with ExitStack() as running:
        yield lambda *lines, **listener: running.enter_context(Mosquitto(tmp_path, *lines, **listener))


@pytest.fixture(params=["embedded", "mosquitto"])
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """Each of the brokers that the project promises to work with."""
    if request.param == "mosquitto":
        start: Callable[..., Mosquitto] = request.getfixturevalue("start_mosquitto")
        yield start()
    else:
        with EmbeddedBroker() as running:
            yield running


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Made once for the whole run."""
    return Certificates.make(tmp_path_factory.mktemp("certificates"))
