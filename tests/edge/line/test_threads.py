from __future__ import annotations

import logging
import threading
from time import monotonic

import pytest

from benchmarks.rig.brokers import wait_until
from edge.errors import DeliveryError, PatchlineError
from edge.health.supervision import Heartbeat
from edge.line.threads import Threads

PATIENCE_S = 60.0


def nothing(heartbeat: Heartbeat) -> None:
    heartbeat.beat()


@pytest.mark.parametrize(
    ("error", "said", "traceback"),
    [(DeliveryError("the reader has gone"), "the reader has gone", False), (ZeroDivisionError(), "ZeroDivision", True)],
)
def test_a_loop_that_fails_stops_the_service_and_is_what_it_fails_with(
    error: Exception, said: str, traceback: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(heartbeat: Heartbeat) -> None:
        heartbeat.beat()
        raise error

    stop = threading.Event()
    threads = Threads(stop)
    threads.start("inspect", fail)
    threads.join(monotonic() + PATIENCE_S, 0.0)
    assert stop.is_set()
    with pytest.raises(PatchlineError, match=said) as caught:
        threads.raise_failure()
    assert (caught.value is error) != traceback
    (record,) = caplog.records
    assert (record.levelno, bool(record.exc_info)) == (logging.ERROR, traceback)


@pytest.mark.parametrize("ends", [True, False])
def test_the_end_of_the_last_stage_is_that_of_the_service(ends: bool) -> None:
    stop = threading.Event()
    threads = Threads(stop)
    threads.start("publish", nothing, ends_service=ends)
    threads.join(monotonic() + PATIENCE_S, 0.0)
    assert stop.is_set() == ends
    threads.raise_failure()


def test_who_runs_without_a_sign_of_life_is_named_and_who_has_ended_is_not() -> None:
    release = threading.Event()
    threads = Threads(threading.Event())

    def hang(heartbeat: Heartbeat) -> None:
        heartbeat.beat()
        release.wait(PATIENCE_S)

    threads.start("capture", nothing)
    threads.start("inspect", hang)
    wait_until(lambda: threads.without_progress(0.0) == ("inspect",), "it is named")
    assert threads.without_progress(PATIENCE_S) == ()
    release.set()
    threads.join(monotonic() + PATIENCE_S, 0.0)
    assert threads.without_progress(0.0) == ()
