"""Where a station keeps what it makes: systemd's directories where there are some, the user's elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import platformdirs


def default_cache_dir() -> Path | None:
    """Where compiled models are kept: systemd's cache directory, else the user's; none if it cannot be written.

    Never the working directory, which under systemd is `/`.
    """
    directory = _systemd("CACHE_DIRECTORY") or _at_home(platformdirs.user_cache_path)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return directory if os.access(directory, os.W_OK) else None


def default_state_dir(station: str) -> Path:
    """Where a station keeps what must survive: below systemd's state directory, else the user's. Not made here."""
    return (_systemd("STATE_DIRECTORY") or _at_home(platformdirs.user_state_path)) / station


def _systemd(variable: str) -> Path | None:
    given = os.environ.get(variable, "").split(":")[0]
    return Path(given) if given else None


def _at_home(find: Callable[[str], Path]) -> Path:
    """A service user without a home gets a place that cannot be written, never one below the working directory."""
    nowhere = Path("/nonexistent") / "patchline"
    try:
        directory = find("patchline")
    except RuntimeError:
        return nowhere
    return directory if directory.is_absolute() else nowhere
