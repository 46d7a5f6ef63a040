"""All test pictures of a category, through the judge."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edge.files.names import shown
from edge.files.pictures import read_picture
from edge.inspection.inspector import Inspection
from edge.records import AnomalyMap, BoolArray, Float32Array, Frame, FrameIdentity, Outcome, StageTimes
from edge.terminal import phase
from export.datasets.category import Category, LabelledPicture
from export.datasets.ground_truth import read_mask_of
from export.evaluation.ensemble import EnsembleInspection
from export.evaluation.judge import Judge
from export.evaluation.results import PictureResult
from export.metrics.records import GOOD


@dataclass(frozen=True, slots=True, eq=False)
class Tested:
    """All test pictures, in the category's order."""

    pictures: tuple[PictureResult, ...]
    stages: tuple[StageTimes, ...]
    maps: tuple[Float32Array, ...]  # (height, width) of the model's input; empty where there are no masks
    masks: tuple[BoolArray, ...]  # of the same sizes


def inspect_all(category: Category, judge: Judge, copies: Path) -> Tested:
    """Judge every test picture; maps and masks are kept where all defective ones have masks.

    Raises:
        ExportError: a picture cannot be judged.
        SourceError: one cannot be read any more.
    """
    masked = all(picture.masks for picture in category.test if picture.kind != GOOD)
    pictures, stages, maps, masks = [], [], [], []
    with phase(f"inspecting {shown(category.name)}", len(category.test)) as done:
        for number, picture in enumerate(category.test):
            frame = read_frame(picture.path, number)
            inspection = judge.inspect(frame, picture.path)
            anomaly = _map_of(inspection)
            pictures.append(
                PictureResult(
                    path=_shown_path(picture.path, category, copies),
                    kind=shown(picture.kind),
                    score=inspection.verdict.score,
                    map_peak=float(anomaly.values.max()),
                    outcome="FAIL" if inspection.verdict.outcome is Outcome.FAIL else "PASS",
                )
            )
            stages.append(inspection.verdict.stages)
            mask = truth_of(picture, frame) if masked else None
            if mask is not None:
                maps.append(anomaly.values)
                masks.append(mask_on_map(mask, anomaly))
            done(number + 1)
    return Tested(tuple(pictures), tuple(stages), tuple(maps), tuple(masks))


def _shown_path(path: Path, category: Category, copies: Path) -> str:
    return shown(os.path.relpath(path, copies if path.is_relative_to(copies) else category.path))


def mask_on_map(mask: BoolArray, anomaly: AnomalyMap) -> BoolArray:
    """What of `mask` (frame height, width) lies in the map's region, at the map's resolution (nearest)."""
    region = anomaly.region
    inside = mask[region.y : region.bottom, region.x : region.right].astype(np.uint8)
    height, width = anomaly.values.shape
    return np.asarray(cv2.resize(inside, (width, height), interpolation=cv2.INTER_NEAREST_EXACT) != 0)


def read_frame(path: Path, number: int) -> Frame:
    """The picture as the `number`-th frame."""
    image = read_picture(path)
    return Frame(FrameIdentity(number, time.time(), time.monotonic(), name=shown(path.name)), image)


def _map_of(inspection: Inspection | EnsembleInspection) -> AnomalyMap:
    assert inspection.anomaly is not None  # it was asked for, and the frame was judged
    return inspection.anomaly


def truth_of(picture: LabelledPicture, frame: Frame) -> BoolArray | None:
    """What is defective of `frame`, the picture: (height, width); None where nobody has drawn it."""
    return read_mask_of(picture, frame.image.shape[0], frame.image.shape[1])
