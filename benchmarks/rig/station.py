"""The real service as a process that may be killed and started again, with what it printed kept for the ledger."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

EDGE = Path(sys.executable).parent / "patchline-edge"
BASE = "patchline/site/line/station"
FRAME_SIZE = (192, 256)  # height, width: not square, so that a mixed-up axis shows
PATIENCE_S = 60.0


class Station:
    """`patchline-edge run`, from settings given by their dotted names.

    Every run prints its verdicts to a file of its own, and logs to another one.
    """

    def __init__(
        self,
        directory: Path,
        bundle: Path,
        address: tuple[str, int],
        settings: Mapping[str, object] | None = None,
        *,
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare; nothing runs yet.

        Args:
            directory: for its output, caches and outbox.
            bundle: what it inspects with.
            address: of the broker.
            settings: over those of `_defaults`.
            prefix: a command that the service is run by, such as `ip netns exec NAME`.
            environment: further variables.
        """
        self.directory = directory
        self.outbox = directory / "outbox"
        self.settings = {**_defaults(directory, bundle, address), "outbox.directory": self.outbox, **(settings or {})}
        self._prefix = tuple(prefix)
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._runs = 0

    @property
    def running(self) -> bool:
        """It has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def output(self) -> Path:
        """What this run prints: one line for each verdict."""
        return self._output(self._runs)

    @property
    def process(self) -> psutil.Process:
        """The process, for looking at it from outside."""
        assert self._process is not None
        return psutil.Process(self._process.pid)

    def start(self, settings: Mapping[str, object] | None = None) -> None:
        """Run it, with other `settings` over its own from now on."""
        assert not self.running, "the service runs already"
        self.settings |= settings or {}
        # Every run sees other parts: what repeats in the broker's log is then a repetition.
        environment = {**os.environ, **self._environment, **_variables({"source.seed": self._runs, **self.settings})}
        self._runs += 1
        with self._output(self._runs).open("wb") as output, self._log(self._runs).open("wb") as log:
            command = [*self._prefix, str(EDGE), "run"]
            self._process = subprocess.Popen(command, stdout=output, stderr=log, env=environment)

    def wait_ready(self) -> None:
        """Until it inspects."""
        self.wait_for(lambda: "msg=inspecting" in self.log(), "the service inspects")

    def wait_for(self, condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
        """Fail with `what` and the end of its log unless `condition` becomes true in time while it runs."""
        deadline = time.monotonic() + patience_s
        while not condition():
            assert self.running, f"the service ended with {self._code()}, waiting until {what}:\n{self.log()[-2000:]}"
            assert time.monotonic() < deadline, f"waited {patience_s:g} s until {what}:\n{self.log()[-2000:]}"
            time.sleep(0.02)

    def wait_for_verdicts(self, count: int, patience_s: float = PATIENCE_S) -> None:
        """Until this run has printed `count` verdicts."""
        self.wait_for(lambda: len(self.printed_now()) >= count, f"it printed {count} verdicts", patience_s)

    def wait_while_running(self, condition: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
        """Until `condition` becomes true, it ends, or patience does."""
        deadline = time.monotonic() + patience_s
        while self.running and not condition() and time.monotonic() < deadline:
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL, at once; does nothing if it has ended."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def stop(self, patience_s: float = PATIENCE_S) -> int:
        """SIGTERM; the exit code."""
        self.terminate()
        return self.wait(patience_s)

    def wait(self, patience_s: float = PATIENCE_S) -> int:
        """Until it ends by itself; the exit code."""
        assert self._process is not None
        return self._process.wait(patience_s)

    def log(self) -> str:
        """What this run logged."""
        return self._log(self._runs).read_text(encoding="utf-8")

    def logs(self) -> str:
        """What all runs logged."""
        return "".join(self._log(run).read_text(encoding="utf-8") for run in range(1, self._runs + 1))

    def printed_now(self) -> list[dict[str, Any]]:
        """Verdicts of this run."""
        return read_verdicts(self.output) if self._runs else []

    def printed(self) -> list[dict[str, Any]]:
        """Verdicts of all runs."""
        return [verdict for run in range(1, self._runs + 1) for verdict in read_verdicts(self._output(run))]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def _output(self, run: int) -> Path:
        return self.directory / f"run-{run:04d}.jsonl"

    def _log(self, run: int) -> Path:
        return self.directory / f"run-{run:04d}.log"

    def _code(self) -> int | None:
        return None if self._process is None else self._process.returncode


def read_verdicts(path: Path) -> list[dict[str, Any]]:
    """The whole lines of what a run printed; a last one that was cut off by a kill is left out."""
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def _defaults(directory: Path, bundle: Path, address: tuple[str, int]) -> dict[str, object]:
    """A quick line with defects, that reports every second."""
    return {
        "bundle": bundle,
        "publish": "mqtt,jsonl",
        "source.kind": "simulated",
        "source.simulated_height": FRAME_SIZE[0],
        "source.simulated_width": FRAME_SIZE[1],
        "source.defect_rate": 0.3,
        "source.fps": 25,
        "inspection.cache_dir": directory / "cache",
        "inspection.self_test": False,
        "mqtt.host": address[0],
        "mqtt.port": address[1],
        "mqtt.keepalive_s": 5,
        "outbox.order": "strict",  # so that inversions can be counted
        "alarms.clock_s": 86_400,  # the test machine's affair
        "service.health_interval_s": 1,
        "service.drain_timeout_s": 30,
    }


def _variables(settings: Mapping[str, object]) -> dict[str, str]:
    """Settings as the environment holds them."""
    return {f"PATCHLINE_{name.upper().replace('.', '__')}": str(value) for name, value in settings.items()}
