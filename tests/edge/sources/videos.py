"""Videos for tests: frames that are told apart, and packets damaged in one stated way."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.rig import videos
from benchmarks.rig.videos import GOP, Damage
from edge.records import UInt8Array

__all__ = ["DAMAGES", "GOP", "damage_packet", "moving_texture", "write_video"]

SIZE = (96, 128)

DAMAGES: dict[str, Damage] = {
    "cut": lambda data: data[: len(data) // 2],
    "zeroed": lambda data: bytes(len(data)),
    "half zeroed": lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
    "end zeroed": lambda data: data[: len(data) * 4 // 5] + bytes(len(data) - len(data) * 4 // 5),
    "garbage": lambda data: np.random.default_rng(0).bytes(len(data)),
}


def moving_texture(number: int) -> UInt8Array:
    """A texture that moves three pixels a frame, with noise: what follows builds on what was before."""
    texture = np.random.default_rng(0).integers(0, 256, (SIZE[0] // 8, SIZE[1] // 8, 3), np.uint8)
    picture = np.roll(np.kron(texture, np.ones((8, 8, 1), np.uint8)), 3 * number, axis=1)
    noise = np.random.default_rng(number).integers(0, 9, picture.shape, np.uint8)
    return np.asarray(picture // 2 + noise, np.uint8)


def write_video(path: Path, codec: str, frames: int, options: dict[str, str] | None = None) -> None:
    """So many moving textures."""
    videos.write_video(path, codec, map(moving_texture, range(frames)), options)


def damage_packet(path: Path, number: int, damage: Damage) -> None:
    """Damage packet `number` of the video at `path`."""
    copy = path.with_suffix(f".damaged{path.suffix}")
    videos.damage_packet(path, copy, number, damage)
    copy.replace(path)
