"""Which frames of a source become teaching pictures: one of each part.

A camera that runs free shows a part many times, and many pictures of one part teach, and prove, no more than one.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable

from edge.errors import SettingsError
from edge.files.likeness import alike, thumbnail
from edge.records import Float32Array, Frame
from edge.settings.source import SourceKind

Rule = Callable[[Frame], bool]
"""Whether this frame is taken. Asked of every frame that can be, in order."""


class EndOfPartsError(Exception):
    """Whoever was asked for the next part has no more."""


def take_all(_frame: Frame) -> bool:
    """The rule for sources whose frames are parts already."""
    return True


def take_every(interval_s: float) -> Rule:
    """The first frame, and then one whenever `interval_s` seconds have passed: the time of a part."""
    due_s = 0.0  # monotonic

    def rule(frame: Frame) -> bool:
        nonlocal due_s
        if frame.identity.captured_monotonic_s < due_s:
            return False
        due_s = frame.identity.captured_monotonic_s + interval_s
        return True

    return rule


def take_on_change(*, at_rest: bool) -> Rule:
    """A frame unlike the one taken last: another part. `at_rest`: and like the one before: nothing moves."""
    before: Float32Array | None = None
    taken: Float32Array | None = None

    def rule(frame: Frame) -> bool:
        nonlocal before, taken
        now = thumbnail(frame.image)
        still = before is not None and alike(now, before)
        before = now
        if (at_rest and not still) or (taken is not None and alike(now, taken)):
            return False
        taken = now
        return True

    return rule


def take_when_told(ask: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> Rule:
    """The first frame captured after `ask` returns; it may raise `EndOfPartsError`."""
    asked_s: float | None = None  # monotonic

    def rule(frame: Frame) -> bool:
        nonlocal asked_s
        if asked_s is None:
            ask()
            asked_s = clock()
        if frame.identity.captured_monotonic_s < asked_s:
            return False
        asked_s = None
        return True

    return rule


def choose_rule(*, kind: SourceKind, every_s: float | None, on_change: bool, ask: bool) -> Rule | None:
    """The rule that the command line asks for; None: somebody is asked for each part.

    Raises:
        SettingsError: more than one was asked for, or none where one is needed and nobody can be asked.
    """
    if (every_s is not None) + on_change + ask > 1:
        raise SettingsError("--every, --on-change and --ask exclude each other: give one")
    if every_s is not None:
        return take_every(every_s)
    if on_change:
        return take_on_change(at_rest=kind in {SourceKind.CAMERA, SourceKind.VIDEO})
    if ask:
        return None
    if kind is not SourceKind.CAMERA:
        return take_all
    if not sys.stdin.isatty():
        raise SettingsError(
            "a camera that runs free shows a part many times: say how parts follow each other. --on-change takes each "
            "new part once it lies still, --every SECONDS one picture in the time of a part, --ask one at each Enter"
        )
    return None


def ask_for_each(count: int) -> Callable[[], None]:
    """For `take_when_told`: somebody at the terminal puts the parts in place."""
    asked = itertools.count(1)

    def ask() -> None:
        sys.stderr.write(f"part {next(asked)} of {count}: put it in place, then press Enter (q: enough) ")
        sys.stderr.flush()
        answer = sys.stdin.readline()
        if answer.strip().lower() == "q" or not answer:
            raise EndOfPartsError

    return ask
