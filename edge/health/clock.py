"""Does the system believe that its clock is right? What it says, not what we measure."""

from __future__ import annotations

import ctypes
from pathlib import Path

_STATE_BYTES = 512  # more than any architecture's struct timex
_ERROR_STATE = 5  # adjtimex(2): TIME_ERROR, the clock is not synchronised
_TIMESYNC = Path("/run/systemd/timesync")


def read_clock_state(timesync: Path = _TIMESYNC) -> bool | None:
    """True: the clock is synchronised; None: nobody says.

    The kernel says it, unless a sandbox keeps the question from it; then systemd-timesyncd's files in `timesync` do.
    """
    state = _ask_kernel()
    if state is not None:
        return state
    return (timesync / "synchronized").exists() if timesync.is_dir() else None


def _ask_kernel() -> bool | None:
    # All zeros: change nothing, only tell.
    library = ctypes.CDLL(None, use_errno=True)
    result = library.adjtimex(ctypes.create_string_buffer(_STATE_BYTES))
    return None if result < 0 else result != _ERROR_STATE
