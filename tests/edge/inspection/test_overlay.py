from __future__ import annotations

import numpy as np
import pytest

from edge.inspection.overlay import draw_overlay
from edge.records import AnomalyMap, Box, Defect, FrameIdentity, Outcome, Reason, UInt8Array, Verdict

HEIGHT, WIDTH = 200, 300
REGION = Box(50, 20, 200, 160)


def verdict(outcome: Outcome, *defects: Defect) -> Verdict:
    reason = Reason.IMAGE_UNUSABLE if outcome is Outcome.NO_RESULT else Reason.NONE
    return Verdict(FrameIdentity(0, 0.0, 0.0), outcome, 3.2, 2.0, "plate", "0" * 12, reason, defects=defects)


def picture() -> UInt8Array:
    return np.full((HEIGHT, WIDTH, 3), 100, np.uint8)


def map_of(value: float) -> AnomalyMap:
    return AnomalyMap(np.full((80, 100), value, np.float32), REGION)


def below_band(overlay: UInt8Array) -> UInt8Array:
    return overlay[-HEIGHT:]


def test_an_overlay_is_the_picture_with_a_band_above_it() -> None:
    overlay = draw_overlay(picture(), verdict(Outcome.PASS), None, 2.0)
    assert overlay.dtype == np.uint8
    assert overlay.shape[1:] == (WIDTH, 3)
    assert overlay.shape[0] > HEIGHT
    assert (below_band(overlay) == 100).all()


def test_the_band_s_colour_tells_the_outcome() -> None:
    colours = [tuple(draw_overlay(picture(), verdict(outcome), None, 2.0)[0, 0]) for outcome in Outcome]
    assert len(set(colours)) == 3


def test_a_normal_map_is_transparent_and_what_is_not_inspected_is_darkened() -> None:
    shown = below_band(draw_overlay(picture(), verdict(Outcome.PASS), map_of(0.9), 2.0))
    assert (shown[20:180, 50:250] == 100).all()
    assert (shown[:20] == 35).all()
    assert (shown[:, :50] == 35).all()


def test_patches_that_are_left_out_are_darkened_too() -> None:
    ignored = np.array([[True, False], [False, False]])
    shown = below_band(draw_overlay(picture(), verdict(Outcome.PASS), map_of(0.9), 2.0, ignored))
    assert (shown[20:100, 50:150] == 35).all()
    assert (shown[20:100, 150:250] == 100).all()
    assert (shown[100:180, 50:250] == 100).all()


def test_an_anomaly_is_coloured_where_it_is_and_outlined() -> None:
    anomaly = map_of(0.5)
    anomaly.values[20:40, 50:75] = 9.0  # the region is shown twice as large as the map
    shown = below_band(draw_overlay(picture(), verdict(Outcome.FAIL), anomaly, 2.0)).astype(int)
    coloured = np.abs(shown - 100).max(axis=2) > 20
    assert coloured[20 + 60, 50 + 125]
    assert not coloured[25, 60]
    assert not coloured[20 + 120, 50 + 30]
    assert (shown[20:180, 50:250] == 255).all(axis=2).any()


def test_a_colour_means_the_same_in_every_picture() -> None:
    alone = below_band(draw_overlay(picture(), verdict(Outcome.PASS), map_of(1.5), 2.0))
    other = map_of(1.5)
    other.values[:10, :10] = 50.0
    beside = below_band(draw_overlay(picture(), verdict(Outcome.FAIL), other, 2.0))
    assert (alone[100:180, 150:250] == beside[100:180, 150:250]).all()


def test_every_defect_has_its_box() -> None:
    boxes = (Box(60, 40, 50, 30), Box(150, 100, 40, 60))
    defects = [Defect(box, 10, 3.0) for box in boxes]
    shown = below_band(draw_overlay(picture(), verdict(Outcome.FAIL, *defects), None, 2.0))
    for box in boxes:
        for row, column in ((box.y, box.x), (box.bottom - 1, box.right - 1)):
            assert tuple(shown[row, column]) != (100, 100, 100)
        assert tuple(shown[box.y + box.height // 2, box.x + box.width // 2]) == (100, 100, 100)


def test_the_picture_itself_is_not_drawn_on() -> None:
    image = picture()
    draw_overlay(image, verdict(Outcome.FAIL, Defect(Box(10, 10, 50, 50), 1, 1.0)), map_of(9.0), 2.0)
    assert (image == 100).all()


@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (12, 40), (40, 12), (3000, 4000)])
def test_pictures_of_any_size_are_drawn(outcome: Outcome, size: tuple[int, int]) -> None:
    overlay = draw_overlay(np.zeros((*size, 3), np.uint8), verdict(outcome), None, 2.0)
    assert overlay.shape[1] == size[1]


def test_the_score_can_be_read_in_the_band() -> None:
    first = draw_overlay(picture(), verdict(Outcome.FAIL), None, 2.0)[:-HEIGHT]
    colour = first[0, 0].astype(int)
    assert np.abs(first.astype(int) - colour).max() > 60
