"""anomalib's own Patchcore, bank included, as OpenVINO IR: run by a Python that has anomalib, not by ours.

`python benchmarks/anomalib_export.py BACKBONE BANK.npy SIDE OUT.xml`; `benchmarks.beside_anomalib` calls it.
"""

from __future__ import annotations

import sys

import numpy as np
import openvino as ov
import torch

# A torchvision whose compiled part does not fit this torch does not import for want of operators that it only declares.
for _operator in ("nms", "qnms"):
    if not hasattr(torch.ops.torchvision, _operator):
        torch.library.define(f"torchvision::{_operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from anomalib.models.image.patchcore.torch_model import PatchcoreModel  # noqa: E402 — see above


class ScoreAndMap(torch.nn.Module):
    """Its result as a tuple: tracing takes no record with empty fields."""

    def __init__(self, model: PatchcoreModel) -> None:
        super().__init__()
        self._model = model

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pictures (1, 3, side, side), normalised → image score, anomaly map."""
        found = self._model(pictures)
        return found.pred_score, found.anomaly_map


def main() -> None:
    """Random weights, on which speed does not depend; the bank is the one that ours searches."""
    backbone, bank, side, out = sys.argv[1:]
    torch.manual_seed(0)
    model = PatchcoreModel(layers=("layer2", "layer3"), backbone=backbone, pre_trained=False, num_neighbors=9).eval()
    model.memory_bank = torch.from_numpy(np.load(bank))
    shape = [1, 3, int(side), int(side)]
    converted = ov.convert_model(ScoreAndMap(model), example_input=torch.zeros(shape), input=shape)
    ov.save_model(converted, out, compress_to_fp16=False)


if __name__ == "__main__":
    main()
