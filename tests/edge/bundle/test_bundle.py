from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from benchmarks.rig.station import FRAME_SIZE
from edge.bundle.bundle import BANK, MANIFEST, MASK, Manifest, encode_bank, read_bundle, seal
from edge.errors import BundleError
from edge.files.schema import read_json
from edge.records import Float32Array
from export.teaching.teach import TeachOptions, teach
from tests.bundles import reseal


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
    edit(copied, lambda manifest: manifest["threshold"].update(image=1e9))
    with pytest.raises(BundleError, match=r"manifest\.json: edited after it was made"):
        read_bundle(copied)


def test_a_bundle_from_before_a_setting_existed_is_read_with_its_default(copied: Path) -> None:
    contents = json.loads((copied / MANIFEST).read_bytes())
    del contents["scoring"]["search"]
    kept = {key: value for key, value in contents.items() if key not in {"identity", "created_at"}}
    canonical = json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    contents["identity"] = hashlib.sha256(canonical.encode()).hexdigest()
    (copied / MANIFEST).write_text(json.dumps(contents), encoding="utf-8")
    assert read_bundle(copied).manifest.scoring.search == "exact"


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


def with_nan(bank: Float32Array) -> bytes:
    changed = bank.copy()
    changed[0, 0] = np.nan
    return encode_bank(changed)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: save(np.array([Explosive()], object), allow_pickle=True), "not a NumPy array"),
        (lambda _: archive(), "not a NumPy array"),
        (lambda _: b"", "not a NumPy array"),
        (lambda bank: encode_bank(bank)[:-1], "not a NumPy array"),
        (lambda bank: save(bank.astype(np.float64)), "float32"),
        (lambda bank: encode_bank(bank[:, :-1]), "expected"),
        (lambda bank: encode_bank(bank[:-1]), "expected"),
        (with_nan, "not numbers"),
    ],
    ids=["pickle", "archive", "empty", "cut off", "float64", "narrow", "short", "nan"],
)
def test_a_bank_that_is_not_the_described_array_is_refused_even_with_a_valid_hash(
    copied: Path, make: Callable[[Float32Array], bytes], message: str
) -> None:
    reseal(copied, {}, {BANK: make(np.load(copied / BANK))})
    with pytest.raises(BundleError, match=rf"bank\.npy.*{message}"):
        read_bundle(copied)


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
