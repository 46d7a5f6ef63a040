"""What a person looks at: the anomaly map over the picture, contours, score and verdict (pure)."""

from __future__ import annotations

import cv2
import numpy as np

from edge.records import AnomalyMap, BoolArray, Outcome, UInt8Array, Verdict

_COLOURS = {Outcome.PASS: (80, 175, 76), Outcome.FAIL: (54, 67, 244), Outcome.NO_RESULT: (11, 158, 245)}  # BGR
_OPACITY = 0.55
_OUTSIDE = 0.35  # brightness of what the model does not see
_BAND = 0.07  # height of the text band, as a share of the picture's shorter side


def draw_overlay(
    image: UInt8Array,
    verdict: Verdict,
    anomaly: AnomalyMap | None,
    pixel_threshold: float,
    ignored: BoolArray | None = None,
) -> UInt8Array:
    """An overlay of the size of `image` (height, width, 3) BGR, with a text band above it.

    Colours mean the same in every picture: the map is transparent up to 85 % of the pixel threshold, so that a good
    part looks as it is, and saturated at twice the threshold. What is not judged is dark: all outside the map's region,
    and the `ignored` patches (rows, columns) within it.
    """
    picture = image.copy()
    if anomaly is not None:
        _blend(picture, anomaly, pixel_threshold, ignored)
    colour = _COLOURS[verdict.outcome]
    thickness = max(1, round(min(image.shape[:2]) / 300))
    for defect in verdict.defects:
        box = defect.box
        cv2.rectangle(picture, (box.x, box.y), (box.right - 1, box.bottom - 1), colour, thickness)
    return np.vstack([_text_band(image.shape[1], min(image.shape[:2]), verdict), picture])


def _blend(picture: UInt8Array, anomaly: AnomalyMap, pixel_threshold: float, ignored: BoolArray | None) -> None:
    region = anomaly.region
    inside = np.s_[region.y : region.bottom, region.x : region.right]
    values = cv2.resize(anomaly.values, (region.width, region.height), interpolation=cv2.INTER_LINEAR)
    relative = values / pixel_threshold
    colours = cv2.applyColorMap((255 * np.clip(relative / 2, 0, 1)).astype(np.uint8), cv2.COLORMAP_TURBO)
    opacity = (_OPACITY * np.clip((relative - 0.85) / 0.3, 0, 1))[..., None]
    blended = (picture[inside] * (1 - opacity) + colours * opacity).astype(np.uint8)
    above = (values > pixel_threshold).astype(np.uint8)
    contours, _ = cv2.findContours(above, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(blended, contours, -1, (255, 255, 255), max(1, round(min(picture.shape[:2]) / 400)))
    dark = (picture * _OUTSIDE).astype(np.uint8)
    if ignored is not None:
        left_out = cv2.resize(ignored.astype(np.uint8), (region.width, region.height), interpolation=cv2.INTER_NEAREST)
        blended = np.where(left_out[..., None] != 0, dark[inside], blended)
    picture[:] = dark
    picture[inside] = blended


def _text_band(width: int, shorter: int, verdict: Verdict) -> UInt8Array:
    height = max(24, round(_BAND * shorter))
    band = np.full((height, width, 3), _COLOURS[verdict.outcome], np.uint8)
    text = f"{verdict.outcome}  score {verdict.score:.3f}  threshold {verdict.threshold:.3f}"
    if verdict.outcome is Outcome.NO_RESULT:
        text = f"{verdict.outcome}  {verdict.reason}"
    scale = height / 40
    (text_width, text_height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    scale *= min(1.0, (width - 12) / text_width)
    origin = (6, (height + text_height) // 2)
    cv2.putText(band, text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), max(1, height // 24), cv2.LINE_AA)
    return band
