from __future__ import annotations

import json
import random
import shutil
import stat
from pathlib import Path

import pytest

from benchmarks.campaigns._bundle_mutations import MUTATIONS, Mutation, mutate
from edge.bundle.bundle import MANIFEST, identity_of


def contents(directory: Path) -> dict[str, object]:
    """Every entry, by name; what is no regular file by its kind, what is sparse by its size."""
    found = sorted(directory.rglob("*"))
    return {str(path.relative_to(directory)): _content(path) for path in found}


def _content(path: Path) -> object:
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        return status.st_mode
    return status.st_size if status.st_size > 10**8 else path.read_bytes()


@pytest.mark.parametrize("seed", range(12))
def test_a_change_follows_from_its_seed_and_leaves_the_bundle_alone(
    bundle_dir: Path, tmp_path: Path, seed: int
) -> None:
    before = contents(bundle_dir)
    told = [mutate(bundle_dir, tmp_path / str(number), random.Random(seed)) for number in range(2)]
    assert told[0] == told[1]
    assert contents(tmp_path / "0") == contents(tmp_path / "1")
    assert contents(bundle_dir) == before


@pytest.mark.parametrize("forge", [mutation for mutation in set(MUTATIONS) if mutation.__name__.startswith("forge_")])
def test_what_is_called_sealed_has_its_identity(bundle_dir: Path, tmp_path: Path, forge: Mutation) -> None:
    copy = Path(shutil.copytree(bundle_dir, tmp_path / "copy"))
    told = forge(copy, random.Random(3))
    manifest = json.loads((copy / MANIFEST).read_bytes())
    assert told.endswith("sealed") == (manifest["identity"] == identity_of(manifest))
