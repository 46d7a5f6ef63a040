from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.rig.station import FRAME_SIZE
from edge.bundle.bundle import BANK, Bundle, read_bundle
from edge.bundle.contents import encode_bank
from edge.errors import SelfTestError
from edge.inspection.golden import run_golden
from edge.inspection.inspector import Inspector
from edge.inspection.options import InspectorOptions
from edge.records import Box
from tests.bundles import reseal


@pytest.fixture
def changed(bundle_dir: Path, tmp_path: Path) -> Callable[..., Bundle]:
    """A bundle with other contents, valid in itself."""

    def change(*, files: dict[str, bytes] | None = None, **changes: object) -> Bundle:
        copy = Path(shutil.copytree(bundle_dir, tmp_path / "copy"))
        reseal(copy, changes, files)
        return read_bundle(copy)

    return change


def test_the_device_that_taught_reproduces_its_own_scores(bundle_dir: Path) -> None:
    bundle = read_bundle(bundle_dir)
    results = run_golden(Inspector(bundle), bundle)
    assert [result.file for result in results] == ["golden/0.png", "golden/1.png", "golden/2.png"]
    for result in results:
        assert result.got == pytest.approx(result.expected, rel=1e-4)
        assert result.relative_error < 1e-4


def test_another_product_s_bank_is_noticed(bundle_dir: Path, changed: Callable[..., Bundle]) -> None:
    bank = np.load(bundle_dir / BANK)
    bundle = changed(files={BANK: encode_bank(np.ascontiguousarray(bank[::-1] * 1.2))})
    with pytest.raises(SelfTestError, match=r"golden/\d\.png: expected a score of .* within 2\.0%, got "):
        run_golden(Inspector(bundle), bundle)


def test_a_changed_expected_score_is_noticed_with_its_frame(bundle_dir: Path, changed: Callable[..., Bundle]) -> None:
    golden = read_bundle(bundle_dir).manifest.golden
    wrong = golden[1].model_copy(update={"score": golden[1].score * 1.03})
    bundle = changed(golden=(golden[0], wrong, golden[2]))
    with pytest.raises(SelfTestError, match=r"on CPU: golden/1\.png"):
        run_golden(Inspector(bundle), bundle)


def test_a_changed_map_is_noticed_even_if_the_score_agrees(bundle_dir: Path, changed: Callable[..., Bundle]) -> None:
    golden = read_bundle(bundle_dir).manifest.golden
    wrong = golden[0].model_copy(update={"map_peak": golden[0].map_peak * 0.9})
    bundle = changed(golden=(wrong, *golden[1:]))
    with pytest.raises(SelfTestError, match=r"golden/0\.png"):
        run_golden(Inspector(bundle), bundle)


def test_a_score_that_is_not_a_number_is_noticed(bundle_dir: Path) -> None:
    bundle = read_bundle(bundle_dir)
    broken = Bundle(
        manifest=bundle.manifest,
        model_xml=bundle.model_xml,
        model_bin=bundle.model_bin,
        bank=np.full_like(bundle.bank, np.nan),
        mask=None,
        golden=bundle.golden,
    )
    with pytest.raises(SelfTestError, match="got nan"):
        run_golden(Inspector(broken), broken)


def test_a_station_s_own_region_mask_and_threshold_do_not_disturb_it(bundle_dir: Path) -> None:
    bundle = read_bundle(bundle_dir)
    mask = np.zeros(FRAME_SIZE, np.uint8)
    mask[:, :128] = 255
    options = InspectorOptions(region=Box(10, 10, 200, 150), mask=mask, threshold=0.1, minimum_area=5)
    results = run_golden(Inspector(bundle, options), bundle)
    assert max(result.relative_error for result in results) < 1e-4
