from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import PatchlineError, SourceError
from edge.files import pictures
from edge.files.pictures import SUFFIXES, list_pictures, read_picture, write_picture
from edge.records import UInt8Array


def drawn(height: int = 60, width: int = 80) -> UInt8Array:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 3, columns * 2, rows + columns], axis=2).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff", ".ppm"])
def test_a_lossless_picture_is_read_as_it_was_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"part{suffix}"
    write_picture(path, drawn())
    np.testing.assert_array_equal(read_picture(path), drawn())


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".webp"])
def test_a_lossy_picture_is_read_nearly_as_it_was_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"part{suffix}"
    write_picture(path, drawn())
    difference = np.abs(read_picture(path).astype(int) - drawn().astype(int))
    assert difference.mean() < 4


@pytest.mark.parametrize(
    "stored",
    [
        np.full((20, 30), 200, np.uint8),
        np.full((20, 30, 4), 200, np.uint8),
        np.full((20, 30, 3), 200 * 257, np.uint16),
    ],
    ids=["grey", "transparent", "16 bit"],
)
def test_every_picture_becomes_bgr_of_8_bits(tmp_path: Path, stored: np.ndarray) -> None:
    path = tmp_path / "part.png"
    assert cv2.imwrite(str(path), stored)
    image = read_picture(path)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, np.full((20, 30, 3), 200, np.uint8))


@pytest.mark.parametrize(("depth", "suffix"), [(10, ".png"), (12, ".png"), (14, ".tif")])
def test_a_camera_s_bits_in_a_file_of_16_are_refused_not_taken_for_black(
    tmp_path: Path, depth: int, suffix: str
) -> None:
    path = tmp_path / f"part{suffix}"
    cv2.imwrite(str(path), drawn().astype(np.uint16) << (depth - 8))
    with pytest.raises(SourceError, match=rf"part\{suffix}: 16 bits, of which {depth} are used"):
        read_picture(path)


@pytest.mark.parametrize("largest", [100, 1023, 4095, 65535])
def test_a_pgm_is_scaled_by_the_largest_value_that_it_states(tmp_path: Path, largest: int) -> None:
    values = np.round(drawn()[:, :, 0] / 255.0 * largest).astype(">u2" if largest > 255 else np.uint8)
    path = tmp_path / "part.pgm"
    path.write_bytes(b"P5 # by a camera\n80 60\n%d\n" % largest + values.tobytes())
    difference = read_picture(path)[:, :, 0].astype(int) - drawn()[:, :, 0]
    assert np.abs(difference).max() <= (2 if largest < 255 else 1)


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int32, np.float32])
def test_values_that_are_not_unsigned_are_refused(tmp_path: Path, kind: type) -> None:
    path = tmp_path / "part.tif"
    assert cv2.imwrite(str(path), drawn().astype(kind))
    with pytest.raises(SourceError, match=r"part\.tif: .*8 or 16 unsigned bits"):
        read_picture(path)


@pytest.mark.parametrize(("suffix", "channels", "pages"), [(".png", 4, 1), (".tif", 4, 1), (".tif", 3, 2)])
def test_what_is_left_out_of_a_picture_is_said_once_for_a_directory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str, channels: int, pages: int
) -> None:
    page = np.dstack([drawn(), np.full((60, 80), 9, np.uint8)])[:, :, :channels]
    for name in ("a", "b"):
        assert (
            cv2.imwritemulti(str(tmp_path / f"{name}{suffix}"), [page] * pages)
            if pages > 1
            else cv2.imwrite(str(tmp_path / f"{name}{suffix}"), page)
        )
        np.testing.assert_array_equal(read_picture(tmp_path / f"{name}{suffix}"), drawn())
    (said,) = [record.getMessage() for record in caplog.records]
    assert f"pictures have {'further pages' if pages > 1 else 'transparency'}, which is left out" in said


def test_a_jpeg_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    path = tmp_path / "part.jpg"
    write_picture(path, drawn())
    data = path.read_bytes()
    quarter_turn = (
        b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00\x00\x00" + bytes(4)
    )
    path.write_bytes(data[:2] + b"\xff\xe1" + (len(quarter_turn) + 2).to_bytes(2, "big") + quarter_turn + data[2:])
    assert read_picture(path).shape == (80, 60, 3)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(SourceError, match="JPEG cut off or damaged"):
        read_picture(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".ppm"])
def test_a_picture_of_too_many_pixels_is_not_decoded(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"part{suffix}"
    write_picture(path, drawn())
    assert read_picture(path, 60 * 80).shape == (60, 80, 3)
    with pytest.raises(SourceError, match="80×60 pixels; expected at most 4799 of them: not decoded"):
        read_picture(path, 60 * 80 - 1)


@pytest.mark.parametrize("name", ["Prüfteil 1 – ø 8.png", os.fsdecode(b"part\xff.png"), "p" * 251 + ".png"])
def test_names_with_any_characters_are_read_and_told(tmp_path: Path, name: str) -> None:
    write_picture(tmp_path / "part.png", drawn())
    (tmp_path / "part.png").rename(tmp_path / name)
    (path,) = list_pictures(tmp_path)
    assert read_picture(path).shape == (60, 80, 3)
    path.write_bytes(b"torn")
    with pytest.raises(SourceError) as refused:
        read_picture(path)
    assert str(refused.value).isprintable()


def test_a_link_that_leads_nowhere_is_named_not_left_out(tmp_path: Path) -> None:
    write_picture(tmp_path / "1.png", drawn())
    (tmp_path / "2.png").symlink_to("absent.png")
    _, broken = list_pictures(tmp_path)
    with pytest.raises(SourceError, match=r"2\.png: cannot be read \(a link to absent\.png, which is not there\)"):
        read_picture(broken)


def test_a_pipe_is_no_picture_and_nobody_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "part.png")
    with pytest.raises(SourceError, match=r"part\.png: cannot be read \(it is no regular file"):
        read_picture(tmp_path / "part.png")


def test_a_glob_enters_no_directory_twice(tmp_path: Path) -> None:
    for name in ("a/1.png", "a/b/2.png", "[c]/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for link in ("a/up", "a/b/up", "again"):  # three ways round: 3 to the power of 40 paths
        (tmp_path / link).symlink_to(tmp_path)
    for pattern in ("**/*.png", "**"):
        found = list_pictures(f"{tmp_path}/{pattern}")
        assert [str(path.relative_to(tmp_path)) for path in found] == ["[c]/3.png", "a/1.png", "a/b/2.png"]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif", ".webp", ".ppm"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
def test_a_cut_off_picture_is_refused_by_name(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"part{suffix}"
    write_picture(path, drawn(200, 300))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(SourceError, match=f"part{suffix}"):
        read_picture(path)


def test_a_jpeg_cut_off_in_its_last_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "part.jpg"
    write_picture(path, drawn())
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(SourceError, match="JPEG cut off or damaged"):
        read_picture(path)


def test_a_jpeg_cut_off_behind_its_thumbnail_is_refused(tmp_path: Path) -> None:
    write_picture(tmp_path / "part.jpg", drawn(200, 300))
    write_picture(tmp_path / "thumbnail.jpg", drawn(20, 30))
    picture, thumbnail = (tmp_path / "part.jpg").read_bytes(), (tmp_path / "thumbnail.jpg").read_bytes()
    comment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    whole = picture[:2] + comment + picture[2:]
    (tmp_path / "part.jpg").write_bytes(whole)
    assert read_picture(tmp_path / "part.jpg").shape == (200, 300, 3)
    (tmp_path / "part.jpg").write_bytes(whole[:-20])
    with pytest.raises(SourceError, match="JPEG cut off or damaged"):
        read_picture(tmp_path / "part.jpg")


def test_a_jpeg_followed_by_other_bytes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "part.jpg"
    write_picture(path, drawn())
    whole = path.read_bytes()
    # Some cameras append their own data, a preview or a film, which may begin as a scan does and never end as one.
    path.write_bytes(whole + b"trailer" + whole[:200] + b"\xff\xda and on")
    assert read_picture(path).shape == (60, 80, 3)


def test_a_damaged_png_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "part.png"
    write_picture(path, drawn())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x55
    path.write_bytes(data)
    with pytest.raises(SourceError, match=r"part\.png: not a picture"):
        read_picture(path)


def test_missing_empty_and_foreign_files_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no picture")
    for name, problem in [("absent.png", "No such file"), ("empty.png", "empty file"), ("text.png", "not a picture")]:
        with pytest.raises(SourceError, match=f"{name}: .*{problem}"):
            read_picture(tmp_path / name)
    with pytest.raises(SourceError, match="cannot be read"):
        read_picture(tmp_path)


def test_a_file_too_large_for_a_picture_is_not_even_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    with path.open("wb") as stream:
        stream.truncate(pictures.MAX_FILE_BYTES + 1)  # sparse
    with pytest.raises(SourceError, match="expected at most"):
        read_picture(path)


def test_importing_edge_first_limits_the_size_of_decoded_pictures(tmp_path: Path) -> None:
    # 20,000 × 20,000 pixels in the header, nothing behind it, in a format whose header only the decoder reads.
    header = struct.pack("<2sIIIIiiHHIIiiII", b"BM", 1054, 0, 54, 40, 20_000, 20_000, 1, 24, 0, 0, 0, 0, 0, 0)
    (tmp_path / "bomb.bmp").write_bytes(header + bytes(1000))
    code = (
        "import sys, pathlib, edge.files.pictures, edge.errors\n"
        "try: edge.files.pictures.read_picture(pathlib.Path(sys.argv[1]))\n"
        "except edge.errors.SourceError as error: print(error)\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENCV")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "bomb.bmp")],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert "CV_IO_MAX_IMAGE_PIXELS" in done.stdout
    assert done.stderr == ""


def test_a_directory_gives_its_pictures_in_natural_order(tmp_path: Path) -> None:
    for name in ["part10.png", "part2.PNG", "part1.jpg", "notes.txt", ".hidden.png"]:
        (tmp_path / name).touch()
    (tmp_path / "deeper.png").mkdir()
    assert [path.name for path in list_pictures(tmp_path)] == ["part1.jpg", "part2.PNG", "part10.png"]


def test_a_glob_reaches_into_subdirectories(tmp_path: Path) -> None:
    for name in ["b/3.png", "a/20.png", "a/5.png", "a/5.txt"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = list_pictures(f"{tmp_path}/**/*")
    assert [str(path.relative_to(tmp_path)) for path in found] == ["a/5.png", "a/20.png", "b/3.png"]


def test_one_file_is_taken_whatever_its_suffix(tmp_path: Path) -> None:
    path = tmp_path / "picture.dat"
    path.touch()
    assert list_pictures(str(path)) == [path]


def test_an_existing_name_with_brackets_is_not_a_glob(tmp_path: Path) -> None:
    folder = tmp_path / "batch [7]"
    folder.mkdir()
    (folder / "1.png").touch()
    assert list_pictures(folder) == [folder / "1.png"]


@pytest.mark.parametrize("where", ["absent", "absent/*.png", "."])
def test_nothing_found_is_a_source_error_naming_the_place(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError) as refused:
        list_pictures(where)
    assert str(refused.value).startswith(f"{where}: no ")


@given(st.sets(st.integers(0, 10**6), min_size=1, max_size=20))
def test_numbers_in_names_sort_by_value(numbers: set[int]) -> None:
    names = [Path(f"part{number}.png") for number in numbers]
    assert sorted(names, key=pictures._natural_key) == [Path(f"part{n}.png") for n in sorted(numbers)]


@given(st.lists(st.text("ab01٣²_", max_size=6), max_size=6))
def test_any_names_can_be_ordered(names: list[str]) -> None:
    paths = [Path(name) for name in names]
    once = sorted(paths, key=pictures._natural_key)
    backwards = paths[::-1]
    assert sorted(backwards, key=pictures._natural_key) == once


def test_writing_replaces_a_picture_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "part.png"
    write_picture(path, drawn())
    write_picture(path, 255 - drawn())
    np.testing.assert_array_equal(read_picture(path), 255 - drawn())
    assert list(tmp_path.iterdir()) == [path]


def test_an_unknown_suffix_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(PatchlineError, match=r"unknown picture suffix '\.xyz'.*\.png"):
        write_picture(tmp_path / "part.xyz", drawn())
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PatchlineError, match=r"file/part\.png: cannot be written \("):
        write_picture(tmp_path / "file" / "part.png", drawn())


def test_an_empty_picture_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(PatchlineError, match="cannot be encoded"):
        write_picture(tmp_path / "part.png", np.empty((0, 0, 3), np.uint8))


def test_every_listed_suffix_can_be_written_and_read(tmp_path: Path) -> None:
    for suffix in SUFFIXES - {".pgm"}:
        write_picture(tmp_path / f"part{suffix}", drawn())
        assert read_picture(tmp_path / f"part{suffix}").shape == (60, 80, 3)
    write_picture(tmp_path / "part.pgm", drawn()[:, :, 0])
    assert read_picture(tmp_path / "part.pgm").shape == (60, 80, 3)
