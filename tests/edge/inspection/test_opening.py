from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge.bundle.bundle import BANK, Bundle, read_bundle, read_manifest
from edge.bundle.contents import encode_bank
from edge.engine.model_cache import ModelCache
from edge.errors import BundleError, SelfTestError
from edge.files.schema import hash_bytes
from edge.inspection.inspector import Inspector
from edge.inspection.opening import Opened, open_inspector
from edge.inspection.options import InspectorOptions
from tests.bundles import draw_good, make_frame, reseal


class Opener:
    """Opens bundles and keeps what is said."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def __call__(self, bundle: Bundle, *, self_test: bool = True, **options: object) -> Opened:
        made = InspectorOptions(**options)  # type: ignore[arg-type]
        return open_inspector(bundle, made, note=self.notes.append, warn=self.warnings.append, self_test=self_test)


@pytest.fixture
def opener() -> Opener:
    return Opener()


def blob_of(cache: Path) -> Path:
    (blob,) = cache.glob("*/*.blob")
    return blob


def score(inspector: Inspector) -> float:
    return inspector.inspect(make_frame(draw_good(0).image)).verdict.score


def zero_pages(path: Path) -> None:
    """Sixteen among the weights, where OpenVINO itself does not notice them."""
    contents = bytearray(path.read_bytes())
    start = len(contents) * 3 // 4
    contents[start : start + 65_536] = bytes(65_536)
    path.write_bytes(contents)


def test_a_compiled_model_is_used_again(bundle_dir: Path, tmp_path: Path, opener: Opener) -> None:
    bundle = read_bundle(bundle_dir)
    opener(bundle, cache_dir=tmp_path)
    made = blob_of(tmp_path).stat()
    assert len(opener(bundle, cache_dir=tmp_path).golden) == 3
    again = blob_of(tmp_path).stat()
    assert (again.st_ino, again.st_mtime_ns) == (made.st_ino, made.st_mtime_ns)
    assert opener.warnings == opener.notes == []


def test_a_page_of_zeros_in_the_compiled_model_is_found_named_and_replaced(
    bundle_dir: Path, tmp_path: Path, opener: Opener
) -> None:
    bundle = read_bundle(bundle_dir)
    expected = score(opener(bundle, cache_dir=tmp_path).inspector)
    blob = blob_of(tmp_path)
    zero_pages(blob)
    # Without the self-test, too: it is the hash that finds it, and a page that no golden frame feels is found as well.
    assert score(opener(bundle, cache_dir=tmp_path, self_test=False).inspector) == pytest.approx(expected)
    assert opener.warnings == [f"compiled model damaged on disk, compiled again: {blob}"]
    opener(bundle, cache_dir=tmp_path)
    assert len(opener.warnings) == 1


def test_a_compiled_model_that_was_wrong_when_it_was_sealed_fails_the_self_test_once(
    bundle_dir: Path, tmp_path: Path, opener: Opener
) -> None:
    bundle = read_bundle(bundle_dir)
    expected = score(opener(bundle, cache_dir=tmp_path).inspector)
    blob = blob_of(tmp_path)
    zero_pages(blob)
    blob.with_name(blob.name + ".sha256").unlink()
    ModelCache(tmp_path, blob.parent.name).seal()
    assert score(opener(bundle, cache_dir=tmp_path).inspector) == pytest.approx(expected)
    assert opener.warnings == [f"golden self-test failed with the compiled model on disk, compiled again: {blob}"]
    opener(bundle, cache_dir=tmp_path)
    assert len(opener.warnings) == 1


@pytest.fixture
def wrong(bundle_dir: Path, tmp_path: Path) -> Bundle:
    """Valid in itself, but with another product's bank."""
    copy = Path(shutil.copytree(bundle_dir, tmp_path / "wrong"))
    reseal(copy, {}, {BANK: encode_bank(np.load(bundle_dir / BANK) * np.float32(1.2))})
    return read_bundle(copy)


def test_a_self_test_that_fails_for_another_reason_than_the_cache_fails(
    wrong: Bundle, tmp_path: Path, opener: Opener
) -> None:
    with pytest.raises(SelfTestError, match="teach again on this device"):
        opener(wrong, cache_dir=tmp_path / "cache")
    assert opener.warnings == []  # newly compiled: nothing on disk can be blamed
    opener(wrong, cache_dir=tmp_path / "cache", self_test=False)
    with pytest.raises(SelfTestError, match="teach again on this device"):
        opener(wrong, cache_dir=tmp_path / "cache")
    assert len(opener.warnings) == 1


def test_a_forced_precision_that_does_not_reproduce_the_scores_is_named_as_the_reason(
    wrong: Bundle, opener: Opener
) -> None:
    with pytest.raises(SelfTestError, match="taught with f32 and f16 is forced: leave the precision as taught"):
        opener(wrong, precision="f16")


def test_a_forced_precision_is_said(bundle_dir: Path, opener: Opener) -> None:
    opener(read_bundle(bundle_dir), precision="f16")
    assert opener.notes == ["f16 is forced, but bank and threshold were taught with f32: scores differ"]


@pytest.mark.parametrize("place", ["file", "/proc/nowhere"])
def test_a_place_that_takes_no_cache_costs_time_and_nothing_else(
    bundle_dir: Path, tmp_path: Path, opener: Opener, place: str
) -> None:
    (tmp_path / "file").touch()
    opened = opener(read_bundle(bundle_dir), cache_dir=tmp_path / place)
    assert len(opened.golden) == 3
    (warning,) = opener.warnings
    assert "every start compiles" in warning


def edit_xml(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def edit(contents: bytes) -> bytes:
        assert old in contents
        return contents.replace(old, new)

    return edit


@pytest.mark.parametrize(
    "edit",
    [
        lambda contents: contents[: len(contents) // 2],
        lambda _: b"",
        edit_xml(b'element_type="u8"', b'element_type="f32"'),
        edit_xml(b'shape="1,128,128,3"', b'shape="1,?,128,3"'),
        edit_xml(b'shape="1,128,128,3"', b'shape="1,128,4096,3"'),
    ],
    ids=["cut", "empty", "type", "dynamic", "wide"],
)
def test_a_model_that_is_not_the_described_one_is_refused(
    bundle_dir: Path, tmp_path: Path, opener: Opener, edit: Callable[[bytes], bytes]
) -> None:
    copy = Path(shutil.copytree(bundle_dir, tmp_path / "copy"))
    xml = edit((copy / "model.xml").read_bytes())
    ir = read_manifest(copy).ir
    sealed = ir.model_copy(update={"files": {**ir.files, "model.xml": hash_bytes(xml)}})
    reseal(copy, {"ir": sealed}, {"model.xml": xml})
    with pytest.raises(BundleError, match=r"model\.xml: "):
        opener(read_bundle(copy))
