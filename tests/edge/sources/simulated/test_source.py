from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import pytest

from edge.records import UInt8Array
from edge.settings.source import SimulatedSettings
from edge.sources import open_source
from edge.sources.base import SourceState
from edge.sources.simulated.defects import DefectKind
from edge.sources.simulated.source import SimulatedPart, draw_part, part_id, truth
from tests.edge.sources.test_files import read_all

SIZE = (480, 480)


@cache
def first_of(kind: DefectKind, count: int = 6) -> tuple[SimulatedPart, ...]:
    """The first parts of line 5 with this defect alone."""
    numbers = (number for number in range(10_000) if truth(5, number, 1.0) == (kind,))
    return tuple(draw_part(5, next(numbers), SIZE, 1.0) for _ in range(count))


@cache
def flawless_twins(kind: DefectKind) -> tuple[UInt8Array, ...]:
    """The same parts without their defects: pose, light and noise are drawn before any defect is."""
    numbers = (number for number in range(10_000) if truth(5, number, 1.0) == (kind,))
    return tuple(draw_part(5, next(numbers), SIZE, 0.0).image for _ in range(6))


def test_a_part_depends_on_its_seed_and_number_only() -> None:
    forwards = [draw_part(1, number, SIZE, 0.5).image for number in range(4)]
    backwards = [draw_part(1, number, SIZE, 0.5).image for number in reversed(range(4))]
    for image, again in zip(forwards, reversed(backwards), strict=True):
        np.testing.assert_array_equal(image, again)


def test_other_numbers_and_other_seeds_are_other_parts() -> None:
    image = draw_part(1, 0, SIZE, 0.0).image
    assert not np.array_equal(image, draw_part(1, 1, SIZE, 0.0).image)
    assert not np.array_equal(image, draw_part(2, 0, SIZE, 0.0).image)


def test_truth_knows_what_is_drawn() -> None:
    for number in range(40):
        part = draw_part(3, number, SIZE, 0.5)
        assert tuple(defect.kind for defect in part.defects) == truth(3, number, 0.5)


def test_the_share_of_defective_parts_is_the_one_asked_for() -> None:
    assert not any(truth(0, number, 0.0) for number in range(500))
    assert all(truth(0, number, 1.0) for number in range(500))
    defective = sum(bool(truth(0, number, 0.1)) for number in range(5000))
    assert 400 <= defective <= 600


def test_a_higher_rate_keeps_the_defects_of_a_lower_one() -> None:
    for number in range(300):
        if truth(0, number, 0.2):
            assert truth(0, number, 0.6) == truth(0, number, 0.2)


def test_every_kind_occurs_and_some_parts_have_two_defects() -> None:
    seen = [truth(0, number, 1.0) for number in range(400)]
    assert {kind for kinds in seen for kind in kinds} == set(DefectKind)
    assert {len(kinds) for kinds in seen} == {1, 2}
    assert all(len(set(kinds)) == len(kinds) for kinds in seen)


def test_a_good_part_has_no_defects_and_an_empty_mask() -> None:
    part = draw_part(4, 0, SIZE, 0.0)
    assert part.image.shape == (*SIZE, 3)
    assert part.image.dtype == np.uint8
    assert part.defects == ()
    assert part.mask.shape == SIZE
    assert not part.mask.any()


def test_good_parts_vary_in_light_and_pose() -> None:
    images = np.stack([draw_part(4, number, SIZE, 0.0).image[..., 1] for number in range(12)]).astype(float)
    brightness = images[:, 150:330, 100:400].mean(axis=(1, 2))
    assert 4 < np.ptp(brightness) < 60
    metal = images > 100
    assert 0.02 < (metal.any(axis=0) & ~metal.all(axis=0)).mean() < 0.2  # edges move, the part stays


@pytest.mark.parametrize("kind", list(DefectKind))
def test_a_defect_is_visible_inside_its_mask(kind: DefectKind) -> None:
    for part, twin in zip(first_of(kind), flawless_twins(kind), strict=True):
        inside = part.mask > 0
        change = cv2.absdiff(part.image, twin).max(axis=2)
        assert inside.sum() >= 30
        assert change[inside].mean() >= 8
        assert np.quantile(change[inside], 0.9) >= 14


@pytest.mark.parametrize("kind", list(DefectKind))
def test_nothing_differs_away_from_the_mask(kind: DefectKind) -> None:
    kernel = np.ones((9, 9), np.uint8)
    for part, twin in zip(first_of(kind), flawless_twins(kind), strict=True):
        around = cv2.dilate(part.mask, kernel) > 0
        assert cv2.absdiff(part.image, twin)[~around].max() <= 12


@pytest.mark.parametrize("kind", list(DefectKind))
def test_a_defect_lies_in_its_box_on_the_part(kind: DefectKind) -> None:
    for part in first_of(kind):
        (defect,) = part.defects
        box = defect.box
        assert box.width > 2
        assert box.height > 2
        assert 0 <= box.x < box.right <= 480
        assert 0 <= box.y < box.bottom <= 480
        outside = part.mask.copy()
        outside[box.y : box.bottom, box.x : box.right] = 0
        assert not outside.any()


@pytest.mark.parametrize("kind", sorted(set(DefectKind) - {DefectKind.MISSING_HOLE}))
def test_a_kind_comes_in_several_sizes(kind: DefectKind) -> None:
    areas = [int((part.mask > 0).sum()) for part in first_of(kind)]
    assert max(areas) > 1.5 * min(areas)


def test_two_defects_have_a_box_each() -> None:
    number = next(number for number in range(1000) if len(truth(6, number, 1.0)) == 2)
    part = draw_part(6, number, SIZE, 1.0)
    assert len(part.defects) == 2
    for defect in part.defects:
        assert part.mask[defect.box.y : defect.box.bottom, defect.box.x : defect.box.right].any()


@pytest.mark.parametrize("size", [(64, 64), (120, 300), (300, 120), (720, 1280)])
def test_frames_of_any_size_show_part_and_defects(size: tuple[int, int]) -> None:
    for number in range(16):
        part = draw_part(7, number, size, 1.0)
        assert part.image.shape == (*size, 3)
        assert part.mask.any()
        middle = part.image[size[0] // 2 - 3 : size[0] // 2 + 3, size[1] // 2 + 3 : size[1] // 2 + 9]
        assert middle.mean() > 80  # metal, not belt


def test_a_picture_belongs_to_the_caller() -> None:
    image = draw_part(1, 0, SIZE, 0.0).image
    expected = image.copy()
    image[:] = 0
    np.testing.assert_array_equal(draw_part(1, 0, SIZE, 0.0).image, expected)


def test_the_source_gives_numbered_simulated_parts() -> None:
    source = open_source(SimulatedSettings(seed=9, frames=3, defect_rate=1.0, simulated_width=96, simulated_height=80))
    assert not source.live
    frames = read_all(source)
    assert [frame.identity.part_id for frame in frames] == ["sim-9-0", "sim-9-1", "sim-9-2"]
    assert [frame.identity.sequence for frame in frames] == [0, 1, 2]
    assert all(frame.identity.simulated for frame in frames)
    assert source.state is SourceState.ENDED
    for number, frame in enumerate(frames):
        assert frame.identity.part_id == part_id(9, number)
        np.testing.assert_array_equal(frame.image, draw_part(9, number, (80, 96), 1.0).image)
