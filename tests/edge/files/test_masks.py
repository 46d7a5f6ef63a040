from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import SettingsError, SourceError
from edge.files.masks import read_mask
from edge.records import UInt8Array

HEIGHT, WIDTH = 40, 60


def drawn() -> UInt8Array:
    """White on the right."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:, 25:] = 255
    return mask


def write(path: Path, image: object) -> Path:
    assert cv2.imwrite(str(path), image)  # type: ignore[call-overload]
    return path


@pytest.mark.parametrize(
    ("suffix", "image"),
    [
        (".png", drawn()),
        (".bmp", drawn()),
        (".tif", drawn()),
        (".jpg", drawn()),
        (".png", cv2.merge([drawn()] * 3)),
        (".jpg", cv2.merge([drawn()] * 3)),
        (".png", drawn().astype(np.uint16) * 257),
        (".png", cv2.merge([*[drawn()] * 3, np.full((HEIGHT, WIDTH), 255, np.uint8)])),
        (".png", cv2.GaussianBlur(drawn(), (3, 3), 0)),
    ],
    ids=["png", "bmp", "tif", "jpeg", "three channels", "colour jpeg", "16 bits", "opaque", "smooth edges"],
)
def test_black_and_white_is_read_the_same_however_it_is_stored(tmp_path: Path, suffix: str, image: UInt8Array) -> None:
    np.testing.assert_array_equal(read_mask(write(tmp_path / f"mask{suffix}", image)), drawn())


def in_alpha() -> UInt8Array:
    black = np.zeros((HEIGHT, WIDTH), np.uint8)
    return np.asarray(cv2.merge([black, black, black, drawn()]), np.uint8)


def painted() -> UInt8Array:
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[:, 25:, 2] = 255
    return picture


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (drawn() // 255, "nothing in it is white: its largest value is 0.39% of white"),
        (drawn().astype(np.uint16), "nothing in it is white: its largest value is 0.39% of white"),
        (np.zeros((HEIGHT, WIDTH), np.uint8), "nothing in it is white"),
        (in_alpha(), "transparent in parts"),
        (painted(), "is coloured"),
        (np.tile(np.arange(WIDTH, dtype=np.uint8) * 4, (HEIGHT, 1)), "neither black nor white"),
    ],
    ids=["labels 0 and 1", "255 in 16 bits", "black", "alpha", "painted red", "a picture"],
)
def test_what_leaves_nothing_out_for_certain_is_refused_with_the_reason(
    tmp_path: Path, image: UInt8Array, why: str
) -> None:
    path = write(tmp_path / "mask.png", image)
    with pytest.raises(SettingsError, match=rf"^{path}: not a mask: .*{why}.*expected black \(0\)"):
        read_mask(path)


def test_a_mask_of_signed_numbers_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "mask.tif", drawn().astype(np.float32))
    with pytest.raises(SettingsError, match="its values are float32"):
        read_mask(path)


def test_a_linked_mask_is_read(tmp_path: Path) -> None:
    write(tmp_path / "real.png", drawn())
    (tmp_path / "mask.png").symlink_to("real.png")
    assert read_mask(tmp_path / "mask.png").any()


def test_what_is_no_readable_picture_is_refused_by_name_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "text").write_text("no picture")
    (tmp_path / "empty").touch()
    (tmp_path / "circle").symlink_to("circle")
    for name in ("fifo", "text", "empty", "circle", "nowhere"):
        with pytest.raises(SourceError, match=f"^{tmp_path / name}: the mask "):
            read_mask(tmp_path / name)
