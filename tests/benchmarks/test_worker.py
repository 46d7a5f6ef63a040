from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as op

from benchmarks.worker import AnomalibLine, Spec


def test_anomalib_s_module_is_given_normalised_rgb_planes_and_its_score_is_found_among_its_outputs(
    tmp_path: Path,
) -> None:
    pictures = op.parameter([1, 3, 32, 32], np.float32)
    first_plane = op.gather(pictures, op.constant(np.array([0])), op.constant(1))
    score = op.reduce_mean(first_plane, op.constant(np.array([1, 2, 3])), keep_dims=False)
    ov.save_model(ov.Model([op.result(first_plane), op.result(score)], [pictures]), tmp_path / "model.xml")
    spec = Spec("anomalib", str(tmp_path / "model.xml"), "f32", "", "", str(tmp_path))
    blue = np.zeros((64, 64, 3), np.uint8)
    blue[:, :, 0] = 255
    # The first plane is red, of which a blue picture has none: -mean / deviation.
    assert AnomalibLine(spec).inspect(blue).score == pytest.approx(-0.485 / 0.229, rel=1e-5)
    assert AnomalibLine(spec).inspect(blue[:, :, ::-1].copy()).score == pytest.approx((1 - 0.485) / 0.229, rel=1e-5)
