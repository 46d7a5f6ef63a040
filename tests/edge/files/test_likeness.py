from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from edge.files.likeness import alike, thumbnail
from edge.records import UInt8Array
from edge.sources.simulated.source import draw_part


def part(number: int) -> UInt8Array:
    return draw_part(0, number, (480, 480), 0.0).image


def seen_again(image: UInt8Array, seed: int, *, noise: float, brightness: float = 1.0) -> UInt8Array:
    levels = image * brightness + np.random.default_rng(seed).normal(0, noise, image.shape)
    return np.clip(levels, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("noise", [0.0, 2.0, 5.0])
def test_a_part_at_rest_is_alike_whatever_the_sensor_s_noise(noise: float) -> None:
    first, second = (thumbnail(seen_again(part(0), seed, noise=noise)) for seed in (1, 2))
    assert alike(first, second)


def test_a_lamp_that_flickers_makes_no_other_part() -> None:
    grey = np.full((100, 120, 3), 120, np.uint8)
    grey[30:60, 40:80] = 90
    assert alike(thumbnail(grey), thumbnail(seen_again(grey, 0, noise=1, brightness=1.03)))


def test_no_two_parts_of_the_simulated_line_are_alike() -> None:
    thumbnails = [thumbnail(part(number)) for number in range(12)]
    assert not any(alike(first, second) for first, second in combinations(thumbnails, 2))
