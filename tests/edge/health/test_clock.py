from __future__ import annotations

import ctypes
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from edge.health.clock import read_clock_state

# A process whose kernel refuses adjtimex and clock_adjtime, as under systemd's ProtectClock=yes: by a seccomp filter.
SANDBOXED = """
import ctypes, struct, sys
from pathlib import Path
from edge.health.clock import read_clock_state
one, other = {"x86_64": (159, 305), "aarch64": (171, 266)}[__import__("platform").machine()]
rules = [(0x20, 0, 0, 0), (0x15, 1, 0, one), (0x15, 0, 1, other), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)]
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))
class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("rules", ctypes.c_void_p)]
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(38, 1, 0, 0, 0)
if libc.prctl(22, 2, ctypes.byref(Filter(len(rules), ctypes.addressof(program))), 0, 0):
    sys.exit(77)
print(read_clock_state(Path(sys.argv[1])))
"""


STA_UNSYNC, STA_CLOCKERR = 0x0040, 0x1000  # adjtimex(2)
STATUS_OFFSET = 40  # of timex.status on 64-bit Linux


def test_it_is_synchronised_if_the_kernels_status_says_nothing_else() -> None:
    timex = ctypes.create_string_buffer(512)
    if ctypes.CDLL(None).adjtimex(timex) < 0:
        pytest.skip("hardware: this sandbox keeps the question from the kernel")
    (status,) = struct.unpack_from("i", timex, STATUS_OFFSET)

    assert read_clock_state() is not bool(status & (STA_UNSYNC | STA_CLOCKERR))


@pytest.mark.parametrize(
    ("has_directory", "has_file", "expected"), [(True, True, "True"), (True, False, "False"), (False, False, "None")]
)
def test_in_a_sandbox_timesyncd_says_it_or_nobody_does(
    tmp_path: Path, expected: str, *, has_directory: bool, has_file: bool
) -> None:
    timesync = tmp_path / "timesync"
    if has_directory:
        timesync.mkdir()
    if has_file:
        (timesync / "synchronized").touch()

    done = subprocess.run(
        [sys.executable, "-c", SANDBOXED, str(timesync)], capture_output=True, text=True, check=False, timeout=60
    )

    if done.returncode == 77:
        pytest.skip("hardware: this machine lets nobody install a seccomp filter")
    assert done.stdout.strip() == expected, done.stderr
