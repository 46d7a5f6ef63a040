from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from benchmarks.rig.station import FRAME_SIZE
from edge.bundle.bundle import BANK, MANIFEST, MASK, Manifest, read_bundle, read_manifest, seal
from edge.bundle.contents import encode_bank
from edge.bundle.ir import read_ir_description
from edge.errors import BundleError
from edge.files.schema import read_json
from edge.records import Float32Array
from export.teaching.teach import TeachOptions, teach
from tests.bundles import edit_and_seal, reseal

KEPT = Path(__file__).parent / "kept"  # as they were written before numbers and words had bounds


@pytest.fixture
def copied(bundle_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_dir, tmp_path / "copy"))


def edit(directory: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = directory / MANIFEST
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def test_a_taught_bundle_is_read_as_it_was_written(bundle_dir: Path) -> None:
    bundle = read_bundle(bundle_dir)
    manifest = bundle.manifest
    assert bundle.bank.shape == (manifest.bank.vectors, manifest.ir.dimension)
    assert (bundle.bank == np.load(bundle_dir / BANK)).all()
    assert bundle.model_xml == (bundle_dir / "model.xml").read_bytes()
    assert bundle.model_bin == (bundle_dir / "model.bin").read_bytes()
    assert bundle.mask is None
    assert [golden.image.shape for golden in bundle.golden] == [(*FRAME_SIZE, 3)] * 3
    assert bundle.model == manifest.identity[:12]


def test_a_manifest_survives_its_own_json(bundle_dir: Path) -> None:
    manifest = read_bundle(bundle_dir).manifest
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest
    assert seal(manifest) == manifest


def test_one_changed_byte_in_any_file_is_refused_by_name(bundle_dir: Path, tmp_path: Path) -> None:
    names = sorted(read_bundle(bundle_dir).manifest.files)
    assert len(names) >= 6
    for number, name in enumerate(names):
        copy = Path(shutil.copytree(bundle_dir, tmp_path / str(number)))
        data = bytearray((copy / name).read_bytes())
        data[len(data) // 2] ^= 1
        (copy / name).write_bytes(data)
        with pytest.raises(BundleError, match=f"{copy / name}: contents differ"):
            read_bundle(copy)


def test_a_missing_file_is_refused_by_name(bundle_dir: Path, tmp_path: Path) -> None:
    for number, name in enumerate([*read_bundle(bundle_dir).manifest.files, MANIFEST]):
        copy = Path(shutil.copytree(bundle_dir, tmp_path / str(number)))
        (copy / name).unlink()
        with pytest.raises(BundleError, match=f"{copy / name}: cannot be read"):
            read_bundle(copy)


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such directory"):
        read_bundle(tmp_path / "nowhere")


def test_an_edited_threshold_is_refused(copied: Path) -> None:
    edit(copied, lambda manifest: manifest["threshold"].update(pixel=1e6))
    with pytest.raises(BundleError, match=r"manifest\.json: edited after it was made"):
        read_bundle(copied)


def test_a_bundle_from_before_a_setting_existed_is_read_with_its_default(copied: Path) -> None:
    edit_and_seal(copied, lambda manifest: manifest["scoring"].pop("search"))
    assert read_bundle(copied).manifest.scoring.search == "exact"


def test_a_manifest_and_an_ir_s_description_of_version_0_1_0_are_read(tmp_path: Path) -> None:
    manifest = read_manifest(Path(shutil.copytree(KEPT, tmp_path / "kept")))
    assert manifest.identity[:12] == "c03f58635c42"
    (tmp_path / "kept" / MANIFEST).unlink()
    assert read_ir_description(tmp_path / "kept") == manifest.ir


def test_another_schema_version_is_refused(copied: Path) -> None:
    edit(copied, lambda manifest: manifest.update(schema_version=2))
    with pytest.raises(BundleError, match="schema_version"):
        read_bundle(copied)


def test_an_unknown_key_is_refused(copied: Path) -> None:
    edit(copied, lambda manifest: manifest["bank"].update(index="faiss"))
    with pytest.raises(BundleError, match=r"bank\.index"):
        read_bundle(copied)


def test_the_time_of_teaching_is_not_part_of_the_identity(copied: Path) -> None:
    identity = read_bundle(copied).manifest.identity
    edit(copied, lambda manifest: manifest.update(created_at="2001-01-01T00:00:00+00:00"))
    assert read_bundle(copied).manifest.identity == identity


@pytest.mark.parametrize("key", ["name", "frame_width", "golden_tolerance", "settings", "versions"])
def test_everything_else_is_part_of_the_identity(bundle_dir: Path, key: str) -> None:
    manifest = read_json(bundle_dir / MANIFEST, Manifest)
    changed = {
        "name": "other",
        "frame_width": 999,
        "golden_tolerance": 0.5,
        "settings": {"seed": "1"},
        "versions": {"numpy": "0"},
    }
    assert seal(manifest.model_copy(update={key: changed[key]})).identity != manifest.identity


def save(array: object, *, allow_pickle: bool = False) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=allow_pickle)  # type: ignore[arg-type]
    return stream.getvalue()


class Explosive:
    """Unpickling it would raise."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return exec, ("raise SystemExit('unpickled')",)


def archive() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, bank=np.zeros((2, 2), np.float32))
    return stream.getvalue()


def with_value(bank: Float32Array, value: float) -> bytes:
    changed = bank.copy()
    changed[0, 0] = value
    return encode_bank(changed)


def with_header(bank: Float32Array, old: bytes, new: bytes) -> bytes:
    contents = encode_bank(bank)
    assert contents.count(old) == 1
    return contents.replace(old, new)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: save(np.array([Explosive()], object), allow_pickle=True), "has"),
        (lambda _: archive(), "has"),
        (lambda _: b"", "has 0 bytes"),
        (lambda bank: encode_bank(bank)[:-1], "expected"),
        (lambda bank: save(bank.astype(np.float64)), "has"),
        (lambda bank: encode_bank(bank[:, :-1]), "has"),
        (lambda bank: encode_bank(bank[:-1]), "has"),
        (lambda bank: encode_bank(bank)[:-1] + b"12", "expected"),
        (lambda bank: with_value(bank, np.nan), "not numbers"),
        (lambda bank: with_value(bank, -np.inf), "not numbers"),
        (lambda bank: with_value(bank, 1e30), "none that features have"),
        (lambda bank: with_header(bank, b"'<f4'", b"'|V4'"), "not a NumPy array"),
        (lambda bank: with_header(bank, b"False", b"True "), "not a NumPy array"),
        (lambda bank: with_header(bank, b"(384, ", b"(" * 6), "not a NumPy array"),
        (lambda bank: with_header(bank, b"(384, ", b"(38*10"), "not a NumPy array"),
        (lambda bank: with_header(bank, b"\x01\x00v", b"\x03\x00v"), "not a NumPy array"),
    ],
    ids=[
        *("pickle", "archive", "empty", "cut off", "float64", "narrow", "short", "long", "nan", "inf", "huge"),
        *("void", "transposed", "nested", "computed", "version"),
    ],
)
def test_a_bank_that_is_not_the_described_array_is_refused_even_with_a_valid_hash(
    copied: Path, make: Callable[[Float32Array], bytes], message: str
) -> None:
    reseal(copied, {}, {BANK: make(np.load(copied / BANK))})
    with pytest.raises(BundleError, match=rf"bank\.npy.*{message}"):
        read_bundle(copied)


def put(*path: str | int, value: object) -> Callable[[dict[str, Any]], object]:
    """Set one value of a manifest."""

    def change(manifest: dict[str, Any]) -> None:
        place: Any = manifest
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value

    return change


def rename(old: str, new: str) -> Callable[[dict[str, Any]], object]:
    """Let a golden frame lie elsewhere."""

    def change(manifest: dict[str, Any]) -> None:
        manifest["files"][new] = manifest["files"].pop(old)
        manifest["golden"][0]["file"] = new

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("threshold", "image", value=1e308), "threshold"),
        (put("threshold", "image", value=float("inf")), "threshold.image"),
        (put("threshold", "image", value=5e-324), "held-out scores give"),
        (put("threshold", "image", value=1000.0), "held-out scores give"),
        (put("threshold", "pixel", value=float("nan")), "threshold.pixel"),
        (put("threshold", "parameters", "rank", value=99), "rank is 99, of 15"),
        (put("threshold", "method", value="mean_sigma"), "held-out scores give"),
        (put("golden", value=[]), "golden"),
        (put("golden", 0, "map_peak", value=float("nan")), r"golden\.0\.map_peak"),
        (put("golden", 0, "score", value=float("inf")), r"golden\.0\.score"),
        (put("golden_tolerance", value=float("inf")), "golden_tolerance"),
        (put("golden_tolerance", value=0.5), "golden_tolerance"),
        (put("scoring", "reweight_neighbours", value=1), "one neighbour"),
        (put("scoring", "blur_sigma", value=-1), "blur_sigma"),
        (put("frame_height", value=10**9), "frame_height"),
        (put("frame_height", value=2**16), "256×65536"),
        (put("region", value={"x": 200, "y": 0, "width": 100, "height": 100}), "beyond the frame of 256×192"),
        (put("bank", "vectors", value=10**9), "has 233600 bytes"),
        (put("bank", "dimension", value=10**6), r"bank\.dimension"),
        (put("ir", "grid", value=[0, 16]), r"ir\.grid"),
        (put("ir", "dimension", value=151), "the model 151"),
        (put("ir", "files", "model.bin", "sha256", value="0" * 64), r"model\.bin is not the one that the network"),
        (put("ir", "files", value={}), r"model\.xml is not the one that the network"),
        (put("created_at", value="today\x1b[2J"), "created_at"),
        (put("files", "bank.npy", "size", value=6 * 10**9), "has 6000000000 bytes"),
        (put("files", "golden/0.png", "size", value=6 * 10**9), "expected 6000000000 bytes"),
        (rename("golden/0.png", "../golden/0.png"), r"golden\.0\.file"),
        (rename("golden/0.png", "/dev/zero"), r"golden\.0\.file"),
        (rename("golden/0.png", "golden/0\0.png"), r"golden\.0\.file"),
    ],
)
def test_what_no_teaching_writes_is_refused_though_it_is_sealed(
    copied: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    edit_and_seal(copied, change)
    with pytest.raises(BundleError, match=message):
        read_bundle(copied)


@pytest.mark.parametrize(
    ("old", "new"),
    [('"seed": 0', f'"seed": {"9" * 5000}'), ('"plate"', r'"\ud800"'), ('"device": "CPU"', r'"device": "\udc00"')],
    ids=["thousands of digits", "half a character", "half a character in a setting"],
)
def test_json_that_python_and_others_read_differently_is_refused(copied: Path, old: str, new: str) -> None:
    text = (copied / MANIFEST).read_text()
    assert text.count(old) == 1
    (copied / MANIFEST).write_text(text.replace(old, new))
    with pytest.raises(BundleError, match=r"manifest\.json: "):
        read_bundle(copied)


@pytest.mark.parametrize("name", [MANIFEST, BANK, "golden/0.png"])
def test_what_is_no_file_of_the_bundle_is_refused_at_once_by_name(copied: Path, tmp_path: Path, name: str) -> None:
    path = copied / name
    elsewhere = path.rename(tmp_path / "elsewhere")
    path.symlink_to(elsewhere)
    with pytest.raises(BundleError, match=f"{path}: cannot be read .*symbolic link"):
        read_bundle(copied)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(BundleError, match=f"{path}: cannot be read .*FIFO"):
        read_bundle(copied)


def test_a_file_much_larger_than_its_record_is_refused_unread(copied: Path) -> None:
    os.truncate(copied / BANK, 2**40)  # takes no room on the disk, and no memory holds it
    with pytest.raises(BundleError, match=rf"bank\.npy: contents differ from the record: .* got {2**40}"):
        read_bundle(copied)


def test_an_ir_directory_is_told_from_a_bundle(ir_dir: Path) -> None:
    with pytest.raises(BundleError, match=r"is a converted network \(IR\), not a bundle"):
        read_bundle(ir_dir)


def png(height: int, width: int) -> bytes:
    return cv2.imencode(".png", np.zeros((height, width), np.uint8))[1].tobytes()


@pytest.mark.parametrize("contents", [b"", b"no picture", png(10, 10)], ids=["empty", "text", "other size"])
@pytest.mark.parametrize("name", [MASK, "golden/0.png"])
def test_a_picture_that_is_none_of_the_frame_s_size_is_refused(copied: Path, name: str, contents: bytes) -> None:
    reseal(copied, {}, {name: contents})
    with pytest.raises(BundleError, match=name):
        read_bundle(copied)


def test_a_mask_is_read_at_the_frame_s_size(copied: Path) -> None:
    reseal(copied, {}, {MASK: png(*FRAME_SIZE)})
    mask = read_bundle(copied).mask
    assert mask is not None
    assert mask.shape == FRAME_SIZE


def test_a_manifest_that_lists_no_bank_is_refused(copied: Path) -> None:
    manifest = read_bundle(copied).manifest
    files = {name: record for name, record in manifest.files.items() if name != BANK}
    changed = seal(manifest.model_copy(update={"files": files}))
    (copied / MANIFEST).write_text(changed.model_dump_json())
    with pytest.raises(BundleError, match=r"does not list bank\.npy"):
        read_bundle(copied)


def test_a_golden_frame_that_is_not_listed_is_refused(copied: Path) -> None:
    manifest = read_bundle(copied).manifest
    files = {name: record for name, record in manifest.files.items() if name != "golden/1.png"}
    (copied / MANIFEST).write_text(seal(manifest.model_copy(update={"files": files})).model_dump_json())
    with pytest.raises(BundleError, match=r"does not list golden/1\.png"):
        read_bundle(copied)


def test_the_identity_follows_from_pictures_and_settings_alone(
    bundle_dir: Path, ir_dir: Path, good_pictures: Path, tmp_path: Path
) -> None:
    def identity(seed: int, out: str) -> str:
        return teach(
            TeachOptions(ir=ir_dir, images=good_pictures, out=tmp_path / out, name=bundle_dir.name, seed=seed)
        ).identity

    expected = read_bundle(bundle_dir).manifest.identity
    assert identity(0, "again") == expected
    assert identity(1, "other") != expected
