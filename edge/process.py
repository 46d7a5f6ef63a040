"""What this process uses and where it may keep things: memory, threads, descriptors, temperature, cache."""

from __future__ import annotations

import os
from pathlib import Path

from edge.statistics import Values


def read_usage() -> Values:
    """Resident memory, threads, open descriptors and, where the machine tells, its temperature."""
    values: Values = {}
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        values["memory_bytes"] = pages * os.sysconf("SC_PAGE_SIZE")
        values["threads"] = sum(1 for _ in Path("/proc/self/task").iterdir())
        values["descriptors"] = sum(1 for _ in Path("/proc/self/fd").iterdir())
    except OSError:
        return values
    temperatures = _temperatures()
    return values | ({"temperature_c": max(temperatures)} if temperatures else {})


def peak_memory_mb() -> float:
    """Largest resident memory of this program alone; what getrusage says begins with that of whoever started us."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def default_cache_dir() -> Path | None:
    """Where compiled models are kept: systemd's cache directory, else the user's; none if it cannot be written.

    Never the working directory, which under systemd is `/`.
    """
    directory = _directory("CACHE_DIRECTORY", "XDG_CACHE_HOME", "~/.cache")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return directory if os.access(directory, os.W_OK) else None


def default_state_dir(station: str) -> Path:
    """Where a station keeps what must survive: below systemd's state directory, else the user's. Not made here."""
    return _directory("STATE_DIRECTORY", "XDG_STATE_HOME", "~/.local/state") / station


def _directory(systemd: str, xdg: str, fallback: str) -> Path:
    given = os.environ.get(systemd, "").split(":")[0]
    try:
        home = Path(os.environ.get(xdg) or fallback).expanduser()
    except RuntimeError:  # a service user without a home
        home = Path("/nonexistent")
    return Path(given) if given else home / "patchline"


def _temperatures() -> list[float]:
    found = []
    for zone in Path("/sys/class/thermal").glob("thermal_zone*/temp"):
        try:
            found.append(int(zone.read_text(encoding="ascii")) / 1000)
        except (OSError, ValueError):
            continue
    return found
