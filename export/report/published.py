"""What others published for PatchCore on MVTec AD, and how far a run of ours is comparable with it.

All figures are percentages. Image AUROC is published by all; pixel AUROC and AUPRO (to 30 % false positives) by few.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from export.evaluation.results import CategoryResults
from export.report.published_figures import FULL_SIZE, Input, Published, percentage


@dataclass(frozen=True, slots=True)
class Conditions:
    """What decides whether a run of ours is comparable. None: its results do not say."""

    backbone: str
    precision: str  # of the IR
    selection: str  # of the bank's vectors: `greedy`, as everybody's, or another
    coreset_ratio: float | None
    input: Input | None
    sizes_known: bool
    resized: tuple[str, ...]  # categories whose pictures are of another size than the published ones, with both


_NAMED = 3  # categories with resized pictures, before they are only counted


def published_category(results: CategoryResults) -> str | None:
    """MVTec AD's name of this category; none: these are no pictures that anybody published figures for.

    It is told by the name alone, `bottle` or `mvtec_bottle`, in MVTec AD's layout.
    """
    name = results.category.lower().removeprefix("mvtec_ad_").removeprefix("mvtec_")
    return name if results.layout == "mvtec" and name in FULL_SIZE else None


def conditions_of(results: Iterable[CategoryResults]) -> Conditions:
    """Of the categories of one run, which share their settings; `results` has at least one.

    Read from `settings`: `coreset`, `coreset_ratio`, `resize_shorter` (a number, or `none`) and `frame_size`
    (`900×900`, width first).
    """
    found = tuple(results)
    first = found[0]
    height, width = first.input_size
    resize = first.settings.get("resize_shorter")
    whole = resize in {"", "none", "None"}
    known = height == width and (whole or (resize is not None and resize.isdecimal()))
    return Conditions(
        backbone=first.backbone,
        precision=first.ir_precision,
        selection=first.settings.get("coreset", "greedy"),
        coreset_ratio=_number(first.settings.get("coreset_ratio")),
        input=Input(height, None if whole or resize is None else int(resize)) if known else None,
        sizes_known=all("frame_size" in item.settings for item in found),
        resized=tuple(text for text in (_resized(item) for item in found) if text),
    )


def differences(ours: Conditions, theirs: Published) -> tuple[str, ...]:
    """In what the two are not like for like; empty: as far as is known, in nothing."""
    found = []
    if ours.backbone != theirs.backbone:
        found.append(f"network {ours.backbone}, theirs {theirs.backbone}")
    if ours.precision != "f32":
        found.append(f"{ours.precision} network, theirs f32")
    if ours.selection != "greedy":
        found.append(f"bank selected by {ours.selection}, theirs greedy")
    if ours.coreset_ratio is None:
        found.append("bank size not recorded")
    elif ours.coreset_ratio != theirs.coreset_ratio:
        found.append(f"bank {percentage(ours.coreset_ratio)}, theirs {percentage(theirs.coreset_ratio)}")
    if ours.input is None or theirs.input is None:
        found.append("input size not " + ("recorded" if ours.input is None else "published"))
    elif ours.input != theirs.input:
        found.append(f"input {describe_input(ours.input)}, theirs {describe_input(theirs.input)}")
    if not ours.sizes_known:
        found.append("size of the pictures not recorded")
    elif ours.resized:
        more = f"; and {len(ours.resized) - _NAMED} more categories" if len(ours.resized) > _NAMED else ""
        found.append(f"pictures of another size ({'; '.join(ours.resized[:_NAMED])}{more})")
    return tuple(found)


def describe_input(given: Input) -> str:
    """Such as '224², cropped from 256'."""
    return f"{given.side}²" + (f", cropped from {given.resize_shorter}" if given.resize_shorter else ", not cropped")


def _resized(results: CategoryResults) -> str:
    name, side = published_category(results), results.settings.get("frame_size", "")
    if name is None or not side or side == f"{FULL_SIZE[name]}×{FULL_SIZE[name]}":
        return ""
    return f"{name} {side}, published {FULL_SIZE[name]}×{FULL_SIZE[name]}"


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
