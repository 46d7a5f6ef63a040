"""The pictures of an evaluation that a person should look at, each as one panel.

A panel is the picture, the anomaly map over it as the line draws it, and the ground truth as a contour, side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from edge.inspection.overlay import draw_overlay
from edge.records import AnomalyMap, BoolArray, UInt8Array, Verdict
from export.evaluation.results import PictureResult
from export.metrics.records import GOOD

Group = Literal["best", "worst", "missed", "false_reject"]

_SIDE = 300  # longer side of each of the three pictures of a panel, in pixels
_JPEG_QUALITY = 85
_CONTOUR = (0, 255, 255)  # BGR
_BAND = (60, 60, 60)


@dataclass(frozen=True, slots=True)
class Choice:
    """A picture to show, and why."""

    group: Group
    picture: int  # index into the test pictures


def choose_gallery(pictures: Sequence[PictureResult], limit: int) -> tuple[Choice, ...]:
    """At most `limit` pictures of each group; none is shown twice.

    missed: defective parts that passed, the lowest score first: the plainest failures.
    false_reject: good parts that failed, the highest score first.
    worst: what was only just judged rightly: failed defective parts with the lowest scores, then passed good parts
        with the highest, half of each.
    best: of the rest what was judged most clearly: failed defective parts with the highest scores, then passed good
        parts with the lowest, half of each.
    """
    rising = sorted(range(len(pictures)), key=lambda index: pictures[index].score)
    found = [index for index in rising if pictures[index].kind != GOOD and pictures[index].outcome == "FAIL"]
    missed = [index for index in rising if pictures[index].kind != GOOD and pictures[index].outcome == "PASS"]
    passed = [index for index in rising if pictures[index].kind == GOOD and pictures[index].outcome == "PASS"]
    rejected = [index for index in rising if pictures[index].kind == GOOD and pictures[index].outcome == "FAIL"]
    bad_share, good_share = limit - limit // 2, limit // 2
    worst = found[:bad_share] + passed[::-1][:good_share]
    clear_bad = [index for index in reversed(found) if index not in worst][:bad_share]
    clear_good = [index for index in passed if index not in worst][:good_share]
    groups: tuple[tuple[Group, list[int]], ...] = (
        ("missed", missed[:limit]),
        ("false_reject", rejected[::-1][:limit]),
        ("worst", worst),
        ("best", clear_bad + clear_good),
    )
    return tuple(Choice(group, index) for group, indices in groups for index in indices)


def draw_panel(
    image: UInt8Array,
    verdict: Verdict,
    anomaly: AnomalyMap | None,
    *,
    pixel_threshold: float,
    truth: BoolArray | None,
    caption: str,
) -> UInt8Array:
    """Picture, overlay and ground truth side by side, each about 300 pixels on its longer side.

    Args:
        image: (height, width, 3) BGR.
        verdict: the answer to it.
        anomaly: its map.
        pixel_threshold: a map value above it belongs to a defect.
        truth: (height, width) what is defective; None where nobody has drawn it.
        caption: over the picture; what is not ASCII shows as question marks.
    """
    overlay = draw_overlay(image, verdict, anomaly, pixel_threshold)
    band = overlay.shape[0] - image.shape[0]
    said = "ground truth" if truth is not None and truth.any() else "no mask" if truth is None else "no defect"
    panel = np.hstack(
        [_under_band(image, band, caption), overlay, _under_band(_with_contour(image, truth), band, said)]
    )
    scale = _SIDE / max(image.shape[:2])
    size = (round(panel.shape[1] * scale), round(panel.shape[0] * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(panel, size, interpolation=interpolation), np.uint8)


def encode_panel(panel: UInt8Array) -> bytes:
    """The panel as a JPEG."""
    return cv2.imencode(".jpg", panel, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()


def _with_contour(image: UInt8Array, truth: BoolArray | None) -> UInt8Array:
    drawn = image.copy()
    if truth is not None:
        contours, _ = cv2.findContours(truth.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        thickness = max(1, round(max(image.shape[:2]) / 200))
        cv2.drawContours(drawn, contours, -1, (0, 0, 0), thickness + 2)  # dark below light: seen on any product
        cv2.drawContours(drawn, contours, -1, _CONTOUR, thickness)
    return drawn


def _under_band(image: UInt8Array, height: int, text: str) -> UInt8Array:
    band = np.full((height, image.shape[1], 3), _BAND, np.uint8)
    scale = height / 40
    text = text.encode("ascii", "replace").decode()  # OpenCV draws no other, and dies of some
    (text_width, text_height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    scale *= min(1.0, (image.shape[1] - 12) / max(1, text_width))
    origin = (6, (height + text_height) // 2)
    cv2.putText(band, text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), max(1, height // 24), cv2.LINE_AA)
    return np.vstack([band, image])
