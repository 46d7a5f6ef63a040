from __future__ import annotations

import os
import pty
import subprocess
import sys

import numpy as np
import pytest

from edge.errors import BundleError, SettingsError
from edge.terminal import complain, phase, progress_line, run_app, say


def test_notes_and_errors_go_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    say("a note")
    complain("a problem")
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == "a note\nerror: a problem\n"


def test_a_note_is_printed_as_it_is_on_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    text = "skipped [bold]pictures[/bold]/:bomb:.png " + "x" * 300
    say(text)
    assert capfd.readouterr().err == text + "\n"


@pytest.mark.parametrize(("error", "code"), [(SettingsError("a"), 2), (BundleError("b"), 3)])
def test_an_expected_error_is_one_line_and_its_exit_code(
    capfd: pytest.CaptureFixture[str], error: SettingsError | BundleError, code: int
) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(SystemExit) as caught:
        run_app(fail)
    assert caught.value.code == code
    assert capfd.readouterr().err == f"error: {error}\n"


def test_memory_that_ran_out_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        np.empty(2**60, np.uint8)

    with pytest.raises(SystemExit) as caught:
        run_app(fail)
    assert caught.value.code == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: memory ran out (Unable to allocate 1.00 EiB")


@pytest.mark.parametrize("program", ["edge", "export"])
def test_an_address_space_that_libraries_would_crash_in_is_refused_before_they_are_loaded(program: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f"ulimit -v 800000; exec {sys.executable} -m {program} --help"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ulimit -v leaves this process 781 MiB of addresses; expected 2048 or more")


def test_an_unexpected_error_is_not_hidden() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_app(fail)


def test_away_from_a_terminal_a_phase_is_its_first_and_last_line(capfd: pytest.CaptureFixture[str]) -> None:
    with phase("embedding", 300) as done:
        for number in range(300):
            done(number + 1)
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].startswith("embedding: 0/300, ")
    assert lines[-1].startswith("embedding: 300/300, ")
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("done", "elapsed_s", "expected"),
    [
        (0, 0.0, "selecting: 0/1000, 0 s"),
        (250, 10.0, "selecting: 250/1000, 10 s, 25 %, about 30 s left"),
        (999, 10.0, "selecting: 999/1000, 10 s, 99 %, about 0 s left"),
        (10, 6.0, "selecting: 10/1000, 6 s, 1 %, about 10 min left"),
        (10, 91.0, "selecting: 10/1000, 91 s, 1 %, about 2 h 30 min left"),
        (1000, 12.3, "selecting: 1000/1000, 12 s"),
    ],
)
def test_a_plain_line_says_how_far_and_how_long_still(done: int, elapsed_s: float, expected: str) -> None:
    assert progress_line("selecting", done, 1000, elapsed_s) == expected


def test_a_phase_that_fails_does_not_claim_to_be_complete(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with phase("embedding", 10) as done:
            done(3)
            raise BundleError("stop")

    with pytest.raises(BundleError):
        fail()
    assert "10/10" not in capfd.readouterr().err


SHOW = """
from edge.terminal import phase
with phase("embedding", 7) as done:
    for number in range(7):
        done(number + 1)
"""


def test_on_a_terminal_a_phase_is_a_bar() -> None:
    ours, theirs = pty.openpty()
    subprocess.run(
        [sys.executable, "-c", SHOW],
        check=True,
        stderr=theirs,
        timeout=60,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
    )
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    os.close(theirs)
    assert "embedding" in shown
    assert "7/7" in shown
    assert "━" in shown
    assert "0:00:00" in shown  # elapsed, and left
