"""What this process uses and where it may keep things: memory, threads, descriptors, temperature, cache."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from edge.records import Values


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


def _temperatures() -> list[float]:
    found = []
    for zone in Path("/sys/class/thermal").glob("thermal_zone*/temp"):
        try:
            found.append(int(zone.read_text(encoding="ascii")) / 1000)
        except (OSError, ValueError):
            continue
    return found


def cpu_model() -> str:
    """The CPU's own name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
