"""Fault 16, in short: what a service holds does not grow with what happens to it.

Passed if after many broken connections it has as many descriptors and threads as before them. `make soak` watches
memory over hours.
"""

from __future__ import annotations

from benchmarks.rig.broker import BrokerProcess
from benchmarks.rig.proxy import ChaosProxy
from tests.faults.conftest import MakeStation

CUTS = 4  # the back-off doubles with each


def wait_for_welcome(oracle: BrokerProcess, times: int) -> None:
    """Until the station has said `online` so many times."""
    oracle.wait_for(lambda log: log.retained("/status").count("online") >= times, "it is back")


def test_broken_connections_leave_neither_descriptors_nor_threads_behind(
    oracle: BrokerProcess, proxy: ChaosProxy, make_station: MakeStation
) -> None:
    station = make_station(proxy)
    station.start()
    oracle.wait_for(lambda log: len(log.accepted("/verdict")) >= 20, "verdicts arrive")
    descriptors, threads = station.process.num_fds(), station.process.num_threads()
    for cut in range(1, CUTS + 1):
        proxy.cut()
        wait_for_welcome(oracle, cut + 1)
    station.wait_for(
        lambda: (station.process.num_fds(), station.process.num_threads()) == (descriptors, threads),
        f"it holds {descriptors} descriptors and {threads} threads again",
    )
    assert station.stop() == 0
