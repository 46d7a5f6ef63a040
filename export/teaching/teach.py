"""Pictures of good parts → bundle. Needs no torch: the same IR, resize and scorer as on the line.

Some of the pictures teach the bank (`memory_bank`); the others, held out (`held_out`), say where PASS ends
(`calibrate`). Which ones, and every other random choice, follow from the seed.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import cv2

from edge.bundle.bundle import (
    BANK,
    MANIFEST,
    MASK,
    BankRecord,
    GoldenRecord,
    Manifest,
    Region,
    ScoringRecord,
    ThresholdRecord,
    seal,
)
from edge.bundle.contents import encode_bank
from edge.bundle.ir import MODEL_BIN, MODEL_XML, IrDescription, read_ir_description
from edge.errors import ExportError
from edge.files.atomic import write_directory
from edge.files.pictures import list_pictures, read_picture
from edge.files.schema import hash_bytes
from edge.inspection.anomaly_map import BLUR_SIGMA
from edge.inspection.scorer import Scorer
from edge.records import Box, Float32Array, UInt8Array
from export.teaching.calibrate import best_f1, conformal, mean_sigma
from export.teaching.held_out import (
    Scores,
    choose_golden,
    name_outliers,
    score_all,
    teaching_record,
)
from export.teaching.memory_bank import select_bank
from export.teaching.options import TeachOptions, recipe_of, refuse_early
from export.teaching.picture_checks import Pictures, check_pictures
from export.teaching.promise import say_what_sets
from export.teaching.same_part import group_same_parts
from export.teaching.split import Part, Split, name_repeats, name_stillness, split_by_chance, split_given
from export.teaching.taught_model import TaughtModel, open_model, say_what_is_seen

__all__ = ["TeachOptions", "teach", "versions_here"]

# Another device or instruction set moves f32 scores by less than 1e-3 and bf16 scores by up to 1 %.
_GOLDEN_TOLERANCE = 0.02
_VERSIONS_OF = ("patchline", "openvino", "faiss-cpu", "numpy", "opencv-python-headless")


def teach(options: TeachOptions) -> Manifest:
    """Teach a product and write its bundle; nothing is left behind if that fails.

    Raises:
        ExportError: too few pictures, pictures that do not belong together, a full disk, random weights.
        BundleError: the IR directory is damaged.
        SettingsError: region, mask or device do not fit.
        SourceError: there are no pictures.
    """
    ir = read_ir_description(options.ir)
    refuse_early(options, ir)
    pictures = check_pictures(_list_good(options), skip_bad=options.skip_bad)
    split = _split(pictures, options)
    model = _open_model(options, ir, pictures)
    say_what_is_seen(model)
    bank, record = _select_bank(options, model, split.teaching)
    good, threshold = _find_threshold(options, model, bank, split.held_out)
    golden = choose_golden(good)
    files = _contents(model, bank, golden)
    manifest = seal(
        Manifest(
            identity="0" * 64,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            name=recipe_of(options),
            ir=ir,
            inference_precision=options.precision,
            frame_height=pictures.height,
            frame_width=pictures.width,
            region=_region_record(options.region),
            bank=record,
            scoring=_scoring_record(options),
            threshold=threshold,
            golden=tuple(record for _, record in golden),
            golden_tolerance=_GOLDEN_TOLERANCE,
            teaching=teaching_record(len(split.teaching), good, pictures.skipped),
            settings=_settings_record(options),
            versions=versions_here(),
            files={name: hash_bytes(contents) for name, contents in sorted(files.items())},
        )
    )
    files[MANIFEST] = (manifest.model_dump_json(indent=2) + "\n").encode()
    write_directory(options.out, files, replace=options.replace, error=ExportError)
    return manifest


def versions_here() -> dict[str, str]:
    """Of what decides about scores, as manifests record them."""
    return {name: version(name) for name in _VERSIONS_OF} | {"python": platform.python_version()}


def _list_good(options: TeachOptions) -> list[Path]:
    return [*(options.pictures or list_pictures(str(options.images))), *options.calibration]


def _split(pictures: Pictures, options: TeachOptions) -> Split:
    parts = _parts(pictures, options)
    if options.calibration:
        return split_given(pictures.paths, parts, options.calibration, options.images)
    return split_by_chance(
        pictures.paths,
        parts,
        rate=options.false_reject_rate,
        share=options.hold_out,
        seed=options.seed,
        place=options.images,
    )


def _parts(pictures: Pictures, options: TeachOptions) -> tuple[Part, ...]:
    alone = tuple((index,) for index in range(len(pictures.paths)))
    if options.independent:
        return alone
    parts = group_same_parts(pictures.looks)
    name_repeats(pictures.paths, parts)
    if parts == alone:
        name_stillness(pictures.paths, pictures.still)
    return parts


def _open_model(options: TeachOptions, ir: IrDescription, pictures: Pictures) -> TaughtModel:
    return open_model(
        options.ir,
        ir,
        (pictures.height, pictures.width),
        region=options.region,
        mask=options.mask,
        device=options.device,
        precision=options.precision,
    )


def _select_bank(
    options: TeachOptions, model: TaughtModel, teaching: tuple[Path, ...]
) -> tuple[Float32Array, BankRecord]:
    return select_bank(
        model,
        teaching,
        options.out,
        coreset=options.coreset,
        ratio=options.coreset_ratio,
        parts=options.coreset_parts,
        seed=options.seed,
    )


def _find_threshold(
    options: TeachOptions, model: TaughtModel, bank: Float32Array, held_out: tuple[Path, ...]
) -> tuple[Scores, ThresholdRecord]:
    scorer = model.make_scorer(bank, options.search, options.reweight_neighbours)
    good = score_all("scoring held-out parts", scorer, held_out)
    name_outliers(good)
    threshold = _calibrate(options, model, scorer, good)
    say_what_sets(good, threshold)
    return good, threshold


def _calibrate(options: TeachOptions, model: TaughtModel, scorer: Scorer, good: Scores) -> ThresholdRecord:
    if max(good.scores) <= 0 or max(good.map_peaks) <= 0:
        raise ExportError(f"{options.images}: the held-out pictures repeat the others; give pictures of other parts")
    match options.method:
        case "conformal":
            return conformal(good.scores, good.map_peaks, options.false_reject_rate)
        case "mean_sigma":
            return mean_sigma(good.scores, good.map_peaks, options.sigmas)
        case "best_f1":
            defects = check_pictures(list_pictures(str(options.defects)), skip_bad=options.skip_bad)
            if (defects.height, defects.width) != model.frame_size:
                raise ExportError(
                    f"{options.defects}: pictures of {defects.width}×{defects.height}, but the good parts have "
                    f"{model.frame_size[1]}×{model.frame_size[0]}; take both with the same camera settings"
                )
            bad = score_all("scoring defective parts", scorer, defects.paths)
            return best_f1(good.scores, bad.scores, good.map_peaks, bad.map_peaks)


def _contents(model: TaughtModel, bank: Float32Array, golden: Sequence[tuple[Path, GoldenRecord]]) -> dict[str, bytes]:
    """Every file of the bundle but the manifest."""
    mask = {} if model.mask is None else {MASK: _png(model.mask)}
    frames = {record.file: _png(read_picture(path)) for path, record in golden}
    return {MODEL_XML: model.xml, MODEL_BIN: model.weights, BANK: encode_bank(bank)} | mask | frames


def _scoring_record(options: TeachOptions) -> ScoringRecord:
    return ScoringRecord(search=options.search, reweight_neighbours=options.reweight_neighbours, blur_sigma=BLUR_SIGMA)


def _settings_record(options: TeachOptions) -> dict[str, str]:
    wanted = [
        "coreset",
        "coreset_ratio",
        "hold_out",
        "method",
        "false_reject_rate",
        "sigmas",
        "device",
        "seed",
        "skip_bad",
    ]
    if options.coreset_parts != 1:  # else the identity would not be that of a bundle made before there were parts
        wanted.append("coreset_parts")
    if options.independent:
        wanted.append("independent")
    return {name: str(getattr(options, name)) for name in wanted}


def _region_record(box: Box | None) -> Region | None:
    return None if box is None else Region(x=box.x, y=box.y, width=box.width, height=box.height)


def _png(image: UInt8Array) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()
