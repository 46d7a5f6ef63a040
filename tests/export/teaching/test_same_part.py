from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.files.likeness import thumbnail
from edge.files.pictures import list_pictures, read_picture
from edge.records import Float32Array, UInt8Array
from export.teaching.same_part import CELLS, cells_of, group_same_parts
from tests.bundles import draw_good
from tests.places import SHARED

PARTS = 8
FRAMES = 4


def looks(images: list[UInt8Array]) -> Float32Array:
    return np.stack([cells_of(thumbnail(image)) for image in images])


def frames_of(image: UInt8Array, noise: float, seed: int) -> list[UInt8Array]:
    """A part that lies still before a camera."""
    random = np.random.default_rng(seed)
    return [np.clip(image + random.normal(0, noise, image.shape), 0, 255).astype(np.uint8) for _ in range(FRAMES)]


def test_different_parts_stay_apart() -> None:
    assert group_same_parts(looks([draw_good(number).image for number in range(60)])) == tuple(
        (number,) for number in range(60)
    )


@pytest.mark.parametrize("noise", [0.5, 2.0, 5.0])
def test_frames_of_a_part_that_lies_still_are_that_part(noise: float) -> None:
    frames = [frame for part in range(PARTS) for frame in frames_of(draw_good(part).image, noise, part)]
    expected = tuple(tuple(range(first, first + FRAMES)) for first in range(0, PARTS * FRAMES, FRAMES))
    assert group_same_parts(looks(frames)) == expected


def test_a_part_that_comes_again_later_is_the_same_part() -> None:
    rounds = [frames_of(draw_good(part).image, 2.0, part) for part in range(PARTS)]
    frames = [of_part[turn] for turn in range(FRAMES) for of_part in rounds]
    assert group_same_parts(looks(frames)) == tuple(tuple(range(part, PARTS * FRAMES, PARTS)) for part in range(PARTS))


@given(st.integers(0, 2**32 - 1), st.integers(2, 120), st.integers(2, 4))
def test_parts_that_differ_in_little_but_their_place_are_not_taken_for_one(seed: int, parts: int, ways: int) -> None:
    """Where all parts lie in a plane some are near by chance; there is no gap, so few are grouped."""
    random = np.random.default_rng(seed)
    directions = random.normal(0, 1, (ways, CELLS * CELLS))
    grouped = group_same_parts((random.random((parts, ways)) @ directions).astype(np.float32))
    assert sum(len(part) > 1 for part in grouped) <= max(2, parts // 4)


def test_parts_of_two_kinds_are_not_taken_for_two_parts() -> None:
    """Left and right parts, say: far from each other, near among themselves, and each with marks of its own."""
    random = np.random.default_rng(0)
    kinds = random.normal(0, 40, (2, CELLS * CELLS))
    marked = np.stack([kinds[number % 2] for number in range(60)])
    for part in marked:
        part[random.choice(CELLS * CELLS, 12, replace=False)] += 20
    assert len(group_same_parts(marked.astype(np.float32))) == 60


def test_equal_looks_and_single_ones_are_no_error() -> None:
    assert group_same_parts(np.zeros((3, CELLS * CELLS), np.float32)) == ((0,), (1,), (2,))
    assert group_same_parts(np.zeros((1, CELLS * CELLS), np.float32)) == ((0,),)


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no data in {SHARED}")
def test_repeats_in_a_published_set_are_found() -> None:
    paths = list_pictures(SHARED / "data" / "kolektor_sdd" / "train" / "good")
    parts = group_same_parts(looks([read_picture(path) for path in paths]))
    repeated = [[paths[index].stem for index in part] for part in parts if len(part) > 1]
    assert repeated == [["231", "251"], ["232", "247"]]
