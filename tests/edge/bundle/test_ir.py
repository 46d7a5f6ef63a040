from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from edge.bundle.ir import MODEL_BIN, MODEL_JSON, MODEL_XML, REFERENCE_NUMBERS, Geometry, read_ir_description
from edge.errors import BundleError
from edge.files.schema import hash_bytes, read_verified


@pytest.fixture
def copied(ir_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(ir_dir, tmp_path / "ir"))


def edit(directory: Path, **changes: Any) -> None:
    path = directory / MODEL_JSON
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_converted_ir_describes_itself(ir_dir: Path) -> None:
    description = read_ir_description(ir_dir)
    assert description.backbone == "efficientnet_lite0"
    assert (description.geometry.input_height, description.geometry.input_width) == (128, 128)
    assert description.grid == (16, 16)
    assert set(description.files) == {MODEL_XML, MODEL_BIN}
    for name, record in description.files.items():
        assert hash_bytes(read_verified(ir_dir, name, record)) == record


def test_a_changed_byte_is_refused_with_file_and_hashes(copied: Path) -> None:
    record = read_ir_description(copied).files[MODEL_BIN]
    data = bytearray((copied / MODEL_BIN).read_bytes())
    data[len(data) // 2] ^= 1
    (copied / MODEL_BIN).write_bytes(data)
    with pytest.raises(BundleError, match=rf"model\.bin: contents differ.*{record.sha256[:12]}"):
        read_verified(copied, MODEL_BIN, record)


def test_a_missing_file_is_refused_by_name(copied: Path) -> None:
    record = read_ir_description(copied).files[MODEL_XML]
    (copied / MODEL_XML).unlink()
    with pytest.raises(BundleError, match=r"model\.xml: cannot be read \(No such file"):
        read_verified(copied, MODEL_XML, record)


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"colour_order": "RGB"}, "colour_order"),
        ({"unheard_of": 1}, "unheard_of"),
        ({"grid": [16]}, "grid"),
        ({"geometry": {"input_height": 128}}, "geometry.input_width"),
        ({"reference": [1.0, 2.0]}, "reference"),
    ],
)
def test_a_description_that_departs_from_the_schema_is_refused_with_the_key(
    copied: Path, changes: dict[str, Any], where: str
) -> None:
    edit(copied, **changes)
    with pytest.raises(BundleError, match=rf"model\.json: {where}"):
        read_ir_description(copied)


def test_a_description_without_a_reference_is_an_older_one_and_read(copied: Path) -> None:
    contents = json.loads((copied / MODEL_JSON).read_text())
    assert len(contents.pop("reference")) == REFERENCE_NUMBERS
    (copied / MODEL_JSON).write_text(json.dumps(contents))
    assert read_ir_description(copied).reference is None


@pytest.mark.parametrize(
    ("key", "value"),
    [("grid", [0, 16]), ("dimension", 10**9), ("backbone", "a\nb"), ("reference", [float("nan")] * REFERENCE_NUMBERS)],
)
def test_numbers_and_words_that_no_conversion_writes_are_refused(copied: Path, key: str, value: object) -> None:
    edit(copied, **{key: value})
    with pytest.raises(BundleError, match=rf"model\.json: {key}"):
        read_ir_description(copied)


def test_a_key_that_would_move_the_terminal_s_cursor_is_shown_escaped(copied: Path) -> None:
    edit(copied, **{"\x1b[2J": 1})
    with pytest.raises(BundleError, match=r"model\.json: \\x1b\[2J: "):
        read_ir_description(copied)


def test_a_bundle_is_told_from_an_ir_directory(bundle_dir: Path) -> None:
    with pytest.raises(BundleError, match=r"is a bundle, not a converted network"):
        read_ir_description(bundle_dir)


@pytest.mark.parametrize("contents", [b"", b"{", b"\xff\xfe", b"[]"])
def test_a_description_that_is_not_json_is_refused(copied: Path, contents: bytes) -> None:
    (copied / MODEL_JSON).write_bytes(contents)
    with pytest.raises(BundleError, match=r"model\.json"):
        read_ir_description(copied)


def test_a_directory_without_a_description_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"model\.json: cannot be read"):
        read_ir_description(tmp_path)


def test_a_crop_larger_than_the_resized_picture_is_refused() -> None:
    with pytest.raises(ValidationError, match="less than the crop of 224"):
        Geometry(input_height=64, input_width=224, resize_shorter=200)
