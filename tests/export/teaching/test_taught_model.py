from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.rig.station import FRAME_SIZE
from edge.bundle.ir import read_ir_description
from edge.errors import SettingsError
from edge.files.pictures import list_pictures, read_picture
from edge.records import Box
from export.conversion.reference import FeaturesError
from export.teaching.taught_model import TaughtModel, open_model, say_what_is_seen


def open_taught(ir_dir: Path, region: Box | None = None, mask: Path | None = None) -> TaughtModel:
    ir = read_ir_description(ir_dir)
    return open_model(ir_dir, ir, FRAME_SIZE, region=region, mask=mask, device="CPU", precision="f32")


def test_masked_patches_are_left_out(ir_dir: Path, good_pictures: Path, tmp_path: Path) -> None:
    mask = np.zeros(FRAME_SIZE, np.uint8)
    mask[: FRAME_SIZE[0] // 2] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    whole, masked = open_taught(ir_dir), open_taught(ir_dir, mask=tmp_path / "mask.png")
    assert (whole.patches, masked.patches) == (256, 128)
    path = list_pictures(good_pictures)[0]
    assert (masked.embed_picture(path) == whole.embed_picture(path)[128:]).all()


def test_a_bank_of_its_own_patches_finds_nothing_strange_in_a_picture(ir_dir: Path, good_pictures: Path) -> None:
    model = open_taught(ir_dir)
    first, second = list_pictures(good_pictures)[:2]
    bank = model.embed_picture(first).copy()
    scorer = model.make_scorer(bank, "exact", 0)
    own, other = (scorer.score(read_picture(path)).score for path in (first, second))
    assert own < 0.1 * other


def test_a_model_that_this_machine_miscalculates_is_refused(ir_dir: Path) -> None:
    ir = read_ir_description(ir_dir)
    assert ir.reference is not None
    other = ir.model_copy(update={"reference": tuple(-number for number in ir.reference)})
    with pytest.raises(FeaturesError, match="gives other features here"):
        open_model(ir_dir, other, FRAME_SIZE, region=None, mask=None, device="CPU", precision="f32")


def test_a_region_that_leaves_the_frame_is_refused(ir_dir: Path) -> None:
    with pytest.raises(SettingsError, match=r"--region"):
        open_taught(ir_dir, region=Box(200, 0, 100, 100))


def test_what_a_region_leaves_unseen_is_said(ir_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    say_what_is_seen(open_taught(ir_dir, region=Box(0, 0, 128, 96)))
    assert "note: 25% of the 256×192 frame is inspected: 128×96 at x 0, y 0" in capsys.readouterr().err
    say_what_is_seen(open_taught(ir_dir))
    assert capsys.readouterr().err == ""
