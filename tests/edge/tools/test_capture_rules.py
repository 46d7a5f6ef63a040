from __future__ import annotations

import io

import numpy as np
import pytest

from edge.errors import SettingsError
from edge.records import Frame, FrameIdentity, UInt8Array
from edge.settings.source import SourceKind
from edge.sources.simulated.source import draw_part
from edge.tools.capture_rules import (
    EndOfPartsError,
    Rule,
    ask_for_each,
    choose_rule,
    take_all,
    take_every,
    take_on_change,
    take_when_told,
)

PARTS = [draw_part(0, number, (240, 240), 0.0).image for number in range(3)]


def frame(number: int, image: UInt8Array, captured_s: float = 0.0) -> Frame:
    noise = np.random.default_rng(number).integers(0, 5, image.shape, np.uint8)
    seen = np.clip(image.astype(int) + noise, 0, 255).astype(np.uint8)
    return Frame(FrameIdentity(number, captured_s, captured_s), seen)


def taken(rule: Rule, frames: list[Frame]) -> list[int]:
    return [one.identity.sequence for one in frames if rule(one)]


def test_on_change_takes_each_part_once_when_it_lies_still() -> None:
    between = PARTS[0] // 2 + PARTS[1] // 2  # a hand, a part on its way
    shown = [PARTS[0], PARTS[0], PARTS[0], between, PARTS[1], PARTS[1], PARTS[1], PARTS[2], PARTS[0], PARTS[0]]
    assert taken(take_on_change(at_rest=True), [frame(number, image) for number, image in enumerate(shown)]) == [
        1,
        5,
        9,
    ]


def test_pictures_of_parts_that_do_not_follow_in_time_need_not_rest() -> None:
    shown = [PARTS[0], PARTS[0], PARTS[1], PARTS[2]]
    rule = choose_rule(kind=SourceKind.FOLDER, every_s=None, on_change=True, ask=False)
    assert rule is not None
    assert taken(rule, [frame(number, image) for number, image in enumerate(shown)]) == [0, 2, 3]


def test_every_so_many_seconds_one_frame_is_taken() -> None:
    frames = [frame(number, PARTS[0], captured_s=0.4 * number) for number in range(10)]
    assert taken(take_every(1.0), frames) == [0, 3, 6, 9]
    assert taken(take_every(0.0), frames) == list(range(10))


def test_a_frame_is_taken_that_was_captured_after_somebody_said_so() -> None:
    asked: list[None] = []
    rule = take_when_told(lambda: asked.append(None), clock=lambda: 10.0)
    frames = [frame(number, PARTS[0], captured_s=9.5 + 0.25 * number) for number in range(4)]
    assert taken(rule, frames) == [2, 3]
    assert len(asked) == 2


@pytest.mark.parametrize("answer", ["q\n", ""])
def test_whoever_has_no_more_parts_ends_it(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n" + answer))
    ask = ask_for_each(3)
    ask()
    with pytest.raises(EndOfPartsError):
        ask()


def test_a_camera_that_runs_free_needs_a_rule_and_pictures_need_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())  # no terminal
    with pytest.raises(SettingsError, match=r"shows a part many times: .*--on-change .*--every SECONDS .*--ask"):
        choose_rule(kind=SourceKind.CAMERA, every_s=None, on_change=False, ask=False)
    assert choose_rule(kind=SourceKind.FOLDER, every_s=None, on_change=False, ask=False) is take_all
    assert choose_rule(kind=SourceKind.CAMERA, every_s=None, on_change=False, ask=True) is None
    with pytest.raises(SettingsError, match="exclude each other"):
        choose_rule(kind=SourceKind.CAMERA, every_s=1.0, on_change=True, ask=False)
