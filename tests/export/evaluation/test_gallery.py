from __future__ import annotations

import os

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.records import AnomalyMap, BoolArray, Box, FrameIdentity, Outcome, UInt8Array, Verdict
from export.evaluation.gallery import choose_gallery, draw_panel, encode_panel
from export.evaluation.results import PictureResult

THRESHOLD = 5.0


def picture(kind: str, score: float) -> PictureResult:
    outcome = "FAIL" if score > THRESHOLD else "PASS"
    return PictureResult(path=f"{kind}/{score}.png", kind=kind, score=score, map_peak=score, outcome=outcome)


PICTURES = [
    *(picture("good", score) for score in (1.0, 2.0, 3.0, 4.0, 4.5, 6.0, 7.0)),
    *(picture("dent", score) for score in (4.9, 3.5, 5.5, 8.0, 9.0)),
    *(picture("hole", score) for score in (5.1, 20.0)),
]


def chosen(limit: int) -> dict[str, list[tuple[str, float]]]:
    groups: dict[str, list[tuple[str, float]]] = {}
    for choice in choose_gallery(PICTURES, limit):
        found = PICTURES[choice.picture]
        groups.setdefault(choice.group, []).append((found.kind, found.score))
    return groups


def test_groups_begin_with_what_tells_most() -> None:
    assert chosen(4) == {
        "missed": [("dent", 3.5), ("dent", 4.9)],
        "false_reject": [("good", 7.0), ("good", 6.0)],
        "worst": [("hole", 5.1), ("dent", 5.5), ("good", 4.5), ("good", 4.0)],
        "best": [("hole", 20.0), ("dent", 9.0), ("good", 1.0), ("good", 2.0)],
    }


def test_a_gallery_of_one_shows_defective_parts_and_a_gallery_of_none_nothing() -> None:
    assert chosen(1) == {
        "missed": [("dent", 3.5)],
        "false_reject": [("good", 7.0)],
        "worst": [("hole", 5.1)],
        "best": [("hole", 20.0)],
    }
    assert chosen(0) == {}


Parts = st.lists(st.tuples(st.sampled_from(["good", "dent"]), st.integers(0, 10).map(float)), max_size=30)


@given(Parts, st.integers(0, 12))
def test_nothing_is_shown_twice_or_in_a_group_that_it_is_not_of(parts: list[tuple[str, float]], limit: int) -> None:
    pictures = [picture(kind, score) for kind, score in parts]
    choices = choose_gallery(pictures, limit)
    assert len({choice.picture for choice in choices}) == len(choices)
    for group in ("missed", "false_reject", "worst", "best"):
        assert sum(choice.group == group for choice in choices) <= limit
    for choice in choices:
        found = pictures[choice.picture]
        right = (found.kind == "good") == (found.outcome == "PASS")
        assert right == (choice.group in {"worst", "best"})
        assert found.kind == "good" or choice.group != "false_reject"
    if limit:
        for group, kind in (("missed", "dent"), ("false_reject", "good")):
            wrong = sum(one.kind == kind and (kind == "good") == (one.outcome == "FAIL") for one in pictures)
            assert sum(choice.group == group for choice in choices) == min(limit, wrong)


def panel_of(truth: BoolArray | None, size: tuple[int, int] = (480, 640), caption: str = "dent 000.png") -> UInt8Array:
    image = np.full((*size, 3), 90, np.uint8)
    anomaly = AnomalyMap(np.zeros((64, 64), np.float32), Box(0, 0, size[1], size[0]))
    anomaly.values[40:50, 10:20] = 30.0
    verdict = Verdict(FrameIdentity(0, 0.0, 0.0), Outcome.FAIL, 9.0, THRESHOLD, "plate", "0" * 12)
    return draw_panel(image, verdict, anomaly, pixel_threshold=THRESHOLD, truth=truth, caption=caption)


@pytest.mark.parametrize(("size", "width"), [((480, 640), 900), ((640, 480), 675), ((96, 128), 900)])
def test_a_panel_is_three_pictures_of_300_pixels(size: tuple[int, int], width: int) -> None:
    panel = panel_of(None, size)
    assert panel.dtype == np.uint8
    assert panel.shape[1] == width
    decoded = cv2.imdecode(np.frombuffer(encode_panel(panel), np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert decoded.shape == panel.shape


def test_the_ground_truth_is_a_contour_and_the_map_lies_over_the_middle() -> None:
    truth = np.zeros((480, 640), bool)
    truth[300:380, 100:200] = True
    with_truth, without = panel_of(truth), panel_of(np.zeros_like(truth))
    band = with_truth.shape[0] - 225
    third = with_truth[band:, 600:]
    assert tuple(third[round(340 * 225 / 480), round(150 * 300 / 640)]) == (90, 90, 90)  # the inside is not covered
    yellow = (third[..., 2] > 200) & (third[..., 1] > 200) & (third[..., 0] < 120)
    rows, columns = np.nonzero(yellow)
    assert rows.min() == pytest.approx(300 * 225 / 480, abs=3)
    assert rows.max() == pytest.approx(380 * 225 / 480, abs=3)
    assert columns.min() == pytest.approx(100 * 300 / 640, abs=3)
    assert (without[band:, 600:] == 90).all()
    assert (with_truth[band:, :300] == 90).all()  # the picture as it is
    assert not (with_truth[band:, 300:600] == 90).all()  # the map over it
    assert (with_truth[:, :600] == without[:, :600]).all()


@pytest.mark.parametrize("caption", [os.fsdecode(b"scratch\xff.png"), "Kratzer größer 漢字.png", "\x1b[31m\n"])
def test_any_name_can_be_a_caption(caption: str) -> None:
    assert panel_of(None, caption=caption).shape == panel_of(None).shape


def test_where_nobody_drew_a_mask_the_panel_says_so() -> None:
    nothing, clean = panel_of(None), panel_of(np.zeros((480, 640), bool))
    band = nothing.shape[0] - 225
    assert (nothing[:band, 600:] != clean[:band, 600:]).any()
    assert (nothing[band:] == clean[band:]).all()
