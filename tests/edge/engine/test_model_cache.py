from __future__ import annotations

from pathlib import Path

import pytest

from edge.engine.model_cache import ModelCache


@pytest.fixture
def cache(tmp_path: Path) -> ModelCache:
    """With two sealed models."""
    made = ModelCache(tmp_path / "cache", "model")
    assert made.open() == ()
    for name in ("1.blob", "2.blob"):
        (made.directory / name).write_bytes(bytes(range(256)) * 40)
    made.seal()
    return made


def test_what_is_whole_is_kept(cache: ModelCache) -> None:
    assert cache.open() == ()
    assert len(list(cache.directory.glob("*.blob"))) == 2


@pytest.mark.parametrize("damage", ["flipped", "cut", "emptied", "lengthened", "seal flipped"])
def test_what_is_damaged_is_named_and_removed_and_the_others_are_kept(cache: ModelCache, damage: str) -> None:
    blob, seal = cache.directory / "1.blob", cache.directory / "1.blob.sha256"
    contents = blob.read_bytes()
    match damage:
        case "flipped":
            blob.write_bytes(contents[:5000] + bytes([contents[5000] ^ 1]) + contents[5001:])
        case "cut":
            blob.write_bytes(contents[:-1])
        case "emptied":
            blob.write_bytes(b"")
        case "lengthened":
            blob.write_bytes(contents + b"\0")
        case "seal flipped":
            seal.write_bytes(b"\xff" + seal.read_bytes()[1:])
    assert cache.open() == (str(blob),)
    assert sorted(path.name for path in cache.directory.iterdir()) == ["2.blob", "2.blob.sha256"]
    assert cache.open() == ()


def test_what_nobody_has_sealed_is_not_loaded(cache: ModelCache) -> None:
    (cache.directory / "1.blob.sha256").unlink()
    assert cache.open() == ()
    assert [path.name for path in cache.directory.glob("*.blob")] == ["2.blob"]


def test_models_do_not_see_one_another(cache: ModelCache, tmp_path: Path) -> None:
    other = ModelCache(tmp_path / "cache", "other")
    assert other.open() == ()
    assert other.clear() == ()
    assert len(cache.clear()) == 2
    assert list(cache.directory.iterdir()) == []
