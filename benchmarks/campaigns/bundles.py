"""Bundles that were damaged or forged: one line and a documented exit code, or the same verdicts as before.

Who seals other contents has taught another product: there the golden frames decide alone, and how far what they let
pass judges otherwise is counted, not promised.

Every change is made to a copy of a real bundle, and given to the real command `patchline-edge inspect` in a process of
its own, which is forked from one that has loaded the libraries: 500 starts would take half an hour.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.campaigns import CampaignError, Rows
from benchmarks.campaigns._bundle_mutations import Change, mutate
from benchmarks.rig.plate import draw_unseen, teach_plate
from edge.__main__ import main as edge_main
from edge.engine.threads import available_cores

COUNT = 500

_GOOD, _DEFECTIVE = 3, 3  # parts that each accepted bundle has to judge
_PATIENCE_S = 60.0
_MOST_MB = 1024
_REFUSALS = {2, 3, 5}  # settings, bundle, self-test
_SAME = 1e-3  # relative difference of the same score


@dataclass(frozen=True, slots=True)
class Ended:
    """One run of the command."""

    code: int  # negative: a signal
    hung: bool
    peak_mb: float
    stdout: str
    stderr: str

    @property
    def scores(self) -> dict[str, tuple[str, float]]:
        """Verdict and score of every picture."""
        verdicts = map(json.loads, self.stdout.splitlines())
        return {verdict["part_id"]: (verdict["verdict"], verdict["score"]) for verdict in verdicts}


def run(count: int, seed: int) -> Rows:
    """Try `count` changed bundles."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        teach_plate(work)
        draw_unseen(work / "pictures", _GOOD, _DEFECTIVE)
        with _environment({"CACHE_DIRECTORY": str(work / "cache")}):
            whole = Inspecting(work / "bundle", work).ended()
            if whole.code != 0 or len(whole.scores) != _GOOD + _DEFECTIVE:
                raise CampaignError(f"the bundle itself is refused: {whole.stderr}")
            return _attack(work, whole, count=count, seed=seed)


def _attack(work: Path, whole: Ended, *, count: int, seed: int) -> Rows:
    counts: Counter[str] = Counter()
    peak_mb, forged_difference = 0.0, 0.0
    for change, ended in _inspect_changed(work, count, seed):
        broken = _broken(ended, whole, forged=change.forged)
        if broken:
            raise CampaignError(f"{change.what}: {broken}\n{ended.stderr[-2000:]}")
        peak_mb = max(peak_mb, ended.peak_mb)
        if change.forged:
            forged_difference = max(forged_difference, _difference(ended, whole))
        counts[_outcome(ended, whole)] += 1
    return (
        ("bundles changed", str(count)),
        *((what, str(times)) for what, times in sorted(counts.items())),
        ("largest difference of a score of those, sealed with other contents", f"{forged_difference:.1%}"),
        ("tracebacks, crashes, hangs", "0"),
        ("peak memory", f"{peak_mb:.0f} MB"),
    )


def _outcome(ended: Ended, whole: Ended) -> str:
    if ended.code != 0:
        return f"refused, exit code {ended.code}"
    if _difference(ended, whole) <= _SAME:
        return "accepted, judges as before"
    return "accepted, sealed with other contents that reproduce the golden scores"


def _inspect_changed(work: Path, count: int, seed: int) -> Iterator[tuple[Change, Ended]]:
    """What was changed, and what became of it; one process on each core."""
    running: list[tuple[Change, Inspecting]] = []
    for number in range(count):
        if len(running) == available_cores():
            change, inspecting = running.pop(0)
            yield change, inspecting.ended()
        copy = work / f"copy-{number}"
        change = mutate(work / "bundle", copy, random.Random(f"{seed}-{number}"))
        running.append((Change(f"attack {number}, {change.what}", change.forged), Inspecting(copy, work)))
    for change, inspecting in running:
        yield change, inspecting.ended()


def _broken(ended: Ended, whole: Ended, *, forged: bool) -> str:
    """The promises that broke; empty where all held."""
    refused = ended.code in _REFUSALS
    errors = sum(line.startswith("error: ") for line in ended.stderr.splitlines())
    promises = {
        f"it hangs for {_PATIENCE_S:g} s": not ended.hung,
        f"it takes {ended.peak_mb:.0f} MB": ended.peak_mb <= _MOST_MB,
        f"exit code {ended.code}": refused or ended.code == 0,
        "a traceback": "Traceback" not in ended.stderr,
        f"{errors} errors for exit code {ended.code}": errors == refused,
        "verdicts of a refused bundle": not (refused and ended.stdout),
        "accepted, but judges otherwise": ended.code != 0 or forged or _judges_as(ended, whole),
    }
    return ", ".join(broken for broken, held in promises.items() if not held)


def _judges_as(ended: Ended, whole: Ended) -> bool:
    verdicts = {name: verdict for name, (verdict, _) in ended.scores.items()}
    expected = {name: verdict for name, (verdict, _) in whole.scores.items()}
    return verdicts == expected and _difference(ended, whole) <= _SAME


def _difference(ended: Ended, whole: Ended) -> float:
    if ended.code != 0:
        return 0.0
    return max(abs(ended.scores[name][1] - score) / score for name, (_, score) in whole.scores.items())


class Inspecting:
    """The command at work on one bundle, which is removed with it."""

    def __init__(self, bundle: Path, work: Path) -> None:
        """Start it."""
        self._bundle = bundle
        self._out = work / f"{bundle.name}.out"
        self._texts = work / f"{bundle.name}.stdout", work / f"{bundle.name}.stderr"
        self._ends_at = time.monotonic() + _PATIENCE_S
        arguments = ["inspect", "--bundle", str(bundle), "--out", str(self._out), str(work / "pictures")]
        self._child = os.fork()
        if self._child == 0:
            _become(arguments, *self._texts)

    def ended(self) -> Ended:
        """Wait for it, and kill it where it hangs."""
        hung, status, usage = self._wait()
        texts = [path.read_text(encoding="utf-8", errors="replace") for path in self._texts]
        for path in (*self._texts, self._out, self._bundle.with_name(self._bundle.name + ".elsewhere")):
            _remove(path)
        if self._bundle.name != "bundle":
            _remove(self._bundle)
        return Ended(os.waitstatus_to_exitcode(status), hung, usage.ru_maxrss / 1024, *texts)

    def _wait(self) -> tuple[bool, int, resource.struct_rusage]:
        hung = False
        while True:
            ended, status, usage = os.wait4(self._child, os.WNOHANG)
            if ended:
                return hung, status, usage
            if time.monotonic() > self._ends_at:
                os.kill(self._child, signal.SIGKILL)
                hung = True
            time.sleep(0.005)


def _become(arguments: list[str], stdout: Path, stderr: Path) -> None:
    """The command, in the child; does not return."""
    code = 70
    try:
        for number, path in ((1, stdout), (2, stderr)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), number)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        sys.argv = ["patchline-edge", *arguments]
        edge_main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 — whatever it is, the parent is told
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
