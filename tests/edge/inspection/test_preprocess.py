from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.bundle.ir import Geometry
from edge.inspection.preprocess import ignored_patches, inspected_region, prepare
from edge.records import Box, UInt8Array
from edge.sources.simulated.source import draw_part

PAPER = Geometry(input_height=224, input_width=224, resize_shorter=256)
WHOLE = Geometry(input_height=128, input_width=192)


def smooth_picture(height: int, width: int) -> UInt8Array:
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [np.sin(rows / 47 + channel) + np.cos(columns / 61 - channel) for channel in range(3)]
    return np.asarray(127 + 60 * np.stack(waves, axis=2), np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (480, 640, Box(110, 30, 420, 420)),  # landscape: 224/256 of 480 is 420
        (640, 480, Box(30, 110, 420, 420)),  # portrait
        (512, 512, Box(32, 32, 448, 448)),  # square
        (256, 256, Box(16, 16, 224, 224)),  # no scaling at all
    ],
)
def test_the_paper_s_crop_is_the_centre_of_the_frame(height: int, width: int, expected: Box) -> None:
    assert inspected_region(height, width, PAPER, None) == expected


def test_without_a_crop_the_whole_frame_is_inspected() -> None:
    assert inspected_region(300, 700, WHOLE, None) == Box(0, 0, 700, 300)


def test_the_crop_is_taken_from_the_middle_of_the_region_of_interest() -> None:
    assert inspected_region(1000, 1000, PAPER, Box(500, 100, 256, 256)) == Box(516, 116, 224, 224)


@given(
    geometry=st.sampled_from([PAPER, WHOLE, Geometry(input_height=64, input_width=320, resize_shorter=320)]),
    x=st.integers(0, 300),
    y=st.integers(0, 300),
    width=st.integers(1, 700),
    height=st.integers(1, 700),
)
def test_what_is_inspected_never_leaves_the_region_of_interest(
    geometry: Geometry, x: int, y: int, width: int, height: int
) -> None:
    roi = Box(x, y, width, height)
    region = inspected_region(1000, 1000, geometry, roi)
    assert region.width >= 1
    assert region.height >= 1
    assert roi.x <= region.x <= region.right <= roi.right
    assert roi.y <= region.y <= region.bottom <= roi.bottom


@pytest.mark.parametrize("roi", [Box(600, 0, 100, 100), Box(0, 400, 100, 100)])
def test_a_region_of_interest_beyond_the_frame_is_refused_with_both_sizes(roi: Box) -> None:
    with pytest.raises(ValueError, match=f"{roi.right}×{roi.bottom}.*640×480"):
        inspected_region(480, 640, PAPER, roi)


@pytest.mark.parametrize(("height", "width"), [(480, 640), (900, 900), (1200, 800)])
def test_crop_then_resize_sees_what_the_paper_s_resize_then_crop_sees(height: int, width: int) -> None:
    picture = smooth_picture(height, width)
    scale = 256 / min(height, width)
    resized = cv2.resize(picture, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    top, left = (resized.shape[0] - 224) // 2, (resized.shape[1] - 224) // 2
    expected = resized[top : top + 224, left : left + 224].astype(int)
    got = np.empty((224, 224, 3), np.uint8)
    prepare(picture, inspected_region(height, width, PAPER, None), got)
    assert np.abs(got - expected).max() <= 3
    assert np.abs(got - expected).mean() <= 1


@pytest.mark.parametrize("size", [(128, 192), (64, 64), (900, 700)])
def test_the_model_s_input_is_written_in_place(size: tuple[int, int]) -> None:
    picture = np.full((*size, 3), (10, 20, 30), np.uint8)
    out = np.zeros((128, 192, 3), np.uint8)
    prepare(picture, Box(0, 0, size[1], size[0]), out)
    assert (out == (10, 20, 30)).all()


@pytest.mark.parametrize(
    ("size", "mean_error"),
    [
        ((1080, 1920), 1.5),
        ((720, 1280), 1.5),
        ((1081, 1921), 0.01),
        ((901, 801), 0.5),
        ((512, 4096), 1.5),
        ((480, 480), 0.2),
        ((256, 300), 0.2),
    ],
    ids=["halved twice", "halved once", "odd", "odd and smaller", "wide", "less than twice", "as high as the input"],
)
def test_large_frames_are_reduced_as_by_area_and_nothing_moves(size: tuple[int, int], mean_error: float) -> None:
    picture = draw_part(5, 1, size, defect_rate=1.0).image
    got = np.empty((256, 256, 3), np.uint8)
    prepare(picture, Box(0, 0, size[1], size[0]), got)
    expected = cv2.resize(picture, (256, 256), interpolation=cv2.INTER_AREA).astype(np.float32)
    assert np.abs(got - expected).mean() <= mean_error
    assert np.abs(got.mean(axis=(0, 1)) - expected.mean(axis=(0, 1))).max() < 0.5


@pytest.mark.parametrize("size", [(1080, 1920), (720, 1280), (2160, 3840), (512, 4096), (480, 480), (901, 801)])
def test_nothing_moves_when_a_large_frame_is_reduced(size: tuple[int, int]) -> None:
    rows, columns = np.arange(size[0]) / size[0], np.arange(size[1]) / size[1]
    waves = 60 * np.sin(50 * rows)[:, None] + 60 * np.sin(50 * columns)[None, :]  # 32 pixels of the input to a wave
    picture = np.repeat((127 + waves)[:, :, None], 3, axis=2).astype(np.uint8)
    got = np.empty((256, 256, 3), np.uint8)
    prepare(picture, Box(0, 0, size[1], size[0]), got)
    by_area = cv2.resize(picture, (256, 256), interpolation=cv2.INTER_AREA).astype(np.float32)
    assert np.abs(got - by_area).mean() < 1  # half a pixel would be 5


def test_an_exact_multiple_is_the_mean_of_its_pixels() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (512, 1024, 3)).astype(np.uint8)
    got = np.empty((128, 256, 3), np.uint8)
    prepare(picture, Box(0, 0, 1024, 512), got)
    expected = picture.reshape(128, 4, 256, 4, 3).mean(axis=(1, 3))
    assert np.abs(got - expected).max() <= 1


def test_the_frame_is_not_changed() -> None:
    picture = smooth_picture(1080, 1920)
    before = picture.copy()
    prepare(picture, Box(0, 0, 1920, 1080), np.empty((256, 256, 3), np.uint8))
    assert (picture == before).all()


def test_only_the_region_is_seen() -> None:
    picture = np.zeros((400, 400, 3), np.uint8)
    picture[100:300, 50:250] = 255
    out = np.empty((64, 64, 3), np.uint8)
    prepare(picture, Box(50, 100, 200, 200), out)
    assert (out == 255).all()


def test_a_mask_ignores_the_patches_that_it_mostly_covers() -> None:
    mask = np.zeros((100, 200), np.uint8)
    mask[20:60, 100:200] = 255
    region = Box(0, 20, 200, 80)  # a grid of 4×8 patches of 20×25 pixels
    expected = np.zeros((4, 8), bool)
    expected[0:2, 4:8] = True
    assert (ignored_patches(mask, region, (4, 8)).reshape(4, 8) == expected).all()


@pytest.mark.parametrize(("columns", "ignored"), [(10, False), (11, True)])
def test_half_a_patch_is_not_ignored_and_more_than_half_is(columns: int, ignored: bool) -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[:, :columns] = 1
    assert ignored_patches(mask, Box(0, 0, 20, 20), (1, 1)).tolist() == [ignored]
