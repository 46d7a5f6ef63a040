"""Where a station keeps what it makes: systemd's directories where there are some, the user's elsewhere."""

from __future__ import annotations

import os
from pathlib import Path


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
