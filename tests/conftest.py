"""Fixtures that several test modules share: brokers and certificates; IR, pictures and bundle; full disks."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

from benchmarks.rig.brokers import Broker, Certificates, EmbeddedBroker, Mosquitto, find_mosquitto

pytest_plugins = ("tests.bundles", "tests.disks")

LONG = "faults"  # the folder whose tests are all long
NO_SKIPS = "NO_SKIPPED_TESTS"  # not PATCHLINE_…, which a station would take for a setting

# A timing is never an assertion, and a shared machine is slow at times. `make test` says the same at every run; `make
# test-long` looks for new examples, and what it finds is pinned beside its property.
settings.register_profile("patchline", deadline=None, derandomize=True, database=None)
settings.register_profile("random", deadline=None, max_examples=200, print_blob=True)
settings.load_profile("patchline")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything below tests/faults runs real processes against real faults."""
    for item in items:
        if LONG in item.path.parts:
            item.add_marker(pytest.mark.long)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where everything must be there, what is skipped has failed; processors differ, and say "hardware: …"."""
    report = yield
    if NO_SKIPS in os.environ and report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if not reason.startswith("hardware: "):
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid}: skipped, though {NO_SKIPS} is set: {reason}"
    return report


@pytest.fixture(autouse=True)
def logs_as_imported() -> None:
    """A command or a library that runs in this process, be it in a fixture, sets up logs for all that follows."""
    logging.disable(logging.NOTSET)
    logging.getLogger().setLevel(logging.WARNING)
    for handler in logging.getLogger().handlers:  # NNCF sets the level of pytest's as well, which hang on its logger
        handler.setLevel(logging.NOTSET)
    for name, logger in logging.Logger.manager.loggerDict.items():
        if name.split(".")[0] == "patchline" and isinstance(logger, logging.Logger):
            logger.handlers.clear()
            logger.setLevel(logging.NOTSET)
            logger.propagate = True
            logger.disabled = False


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
