"""A labelled dataset through the bundle and the inspector that the line uses.

For each category: teach on its good pictures, inspect every test picture, measure, choose the pictures that a person
should see, and write `OUT/<category>/results.json` last. What did not change since is not run again.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from edge.bundle.bundle import Bundle, Manifest, read_bundle
from edge.errors import ExportError, ResultsError
from edge.files.atomic import refuse_unwritable, write_file
from edge.files.names import shown
from edge.health.usage import cpu_model
from edge.terminal import say
from export.datasets.category import Category, LabelledPicture
from export.datasets.resize import make_uniform
from export.datasets.verify import check_category
from export.evaluation.gallery import Choice, choose_gallery, draw_panel, encode_panel
from export.evaluation.judge import Judge, joined, open_judge
from export.evaluation.key import evaluation_key
from export.evaluation.measure import measure_images, measure_operation, measure_rates, stage_medians
from export.evaluation.results import (
    RESULTS,
    CategoryResults,
    GalleryEntry,
    PictureResult,
    read_results,
    write_results,
)
from export.evaluation.tested import Tested, inspect_all, read_frame, truth_of
from export.metrics.detection import pixel_metrics
from export.teaching.promise import say_promise
from export.teaching.teach import TeachOptions, teach

BUNDLE = "bundle"
GALLERY = "gallery"
COPIES = "copies"  # of pictures that are not of the usual size
_PANEL_NAME = re.compile(r"\d{4,}_[a-z_]+\.jpg")


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """How to teach, and where results go."""

    teaching: TeachOptions  # for each category, its pictures, `out`, `name` and `replace` are set
    out: Path
    ensemble: tuple[Path, ...] = ()  # further IRs, taught alike, that judge together with the first
    gallery: int = 6  # pictures of each group, see `export.evaluation.gallery`


def evaluate(category: Category, options: EvaluateOptions) -> CategoryResults:
    """Teach and test one category, and write its results.

    Validation pictures, where the category has some (MVTec LOCO AD), set the threshold, and all others teach; else some
    of the others are held out for it.

    Pixel metrics are taken at the anomaly map's own resolution: a mask is cropped to the region that the model sees
    and resized to the map (nearest). A defect outside that region is not in them, nor are normal pixels out there;
    in the image metrics both parts count. Without masks there are none. Pictures are read one by one; of all of them
    only maps and masks are kept, where there are masks.

    An existing `results.json` made from the same settings, IRs, software and dataset files is returned as it is.

    Raises:
        ExportError: the category cannot be taught or measured, a test picture cannot be judged, or the disk refuses.
        BundleError: an IR is damaged.
        SettingsError: settings or device do not fit.
        SourceError: a picture cannot be read.
    """
    place = options.out / category.name
    refuse_unwritable(place, ExportError)
    key = evaluation_key(category, options.teaching, (options.teaching.ir, *options.ensemble), options.gallery)
    kept = _kept_results(place, key)
    if kept is not None:
        say(f"{place}: nothing changed since {kept.created_at}, so these results are kept (remove them to run again)")
        return kept
    copies = place / COPIES
    category = make_uniform(category, check_category(category), copies)
    started = time.monotonic()
    bundles = _teach_all(category, options, place)
    judge = open_judge(bundles, options.teaching.device, options.teaching.false_reject_rate)
    teach_s = time.monotonic() - started
    say_promise(judge.threshold)
    tested = inspect_all(category, judge, copies)
    results = _describe(category, options, judge, tested, key=key, teach_s=teach_s)
    gallery = _write_gallery(category, judge, results.pictures, options.gallery, place)
    results = results.model_copy(update={"gallery": gallery})
    write_results(results, place / RESULTS)
    return results


def evaluate_all(categories: Sequence[Category], options: EvaluateOptions) -> tuple[CategoryResults, ...]:
    """`evaluate` one category after the other, saying which.

    Raises:
        PatchlineError: as `evaluate`; what was finished before is kept and not run again.
    """
    results = []
    for number, category in enumerate(categories, start=1):
        say(f"category {number} of {len(categories)}: {shown(category.name)}")
        results.append(evaluate(category, options))
    return tuple(results)


def _kept_results(place: Path, key: str) -> CategoryResults | None:
    path = place / RESULTS
    if not path.is_file():
        return None
    try:
        results = read_results(path)
    except ResultsError as error:
        say(f"{error}; it is run again")
        return None
    whole = all((place / entry.panel).is_file() for entry in results.gallery)
    return results if results.key == key and whole else None


def _teach_all(category: Category, options: EvaluateOptions, place: Path) -> tuple[Bundle, ...]:
    bundles = []
    for number, ir in enumerate((options.teaching.ir, *options.ensemble), start=1):
        out = place / (BUNDLE if number == 1 else f"{BUNDLE}_{number}")
        teach(
            replace(
                options.teaching,
                ir=ir,
                images=category.path,
                out=out,
                name=_recipe(category.name),
                pictures=category.train,
                calibration=category.validation,
                replace=True,
            )
        )
        bundles.append(read_bundle(out))
    return tuple(bundles)


def _recipe(name: str) -> str:
    """The category's name as far as a recipe's name may have it."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:64]


def _describe(
    category: Category, options: EvaluateOptions, judge: Judge, tested: Tested, *, key: str, teach_s: float
) -> CategoryResults:
    manifests = [bundle.manifest for bundle in judge.bundles]
    first = manifests[0]
    geometry = first.ir.geometry
    return CategoryResults(
        key=key,
        category=shown(category.name),
        layout=category.layout.value,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        backbone=" + ".join(manifest.ir.backbone for manifest in manifests),
        ir_precision=joined(manifest.ir.precision for manifest in manifests),
        arithmetic=judge.arithmetic,
        input_size=(geometry.input_height, geometry.input_width),
        settings=_settings_of(first, options),
        bundle="+".join(bundle.model for bundle in judge.bundles),
        bank_vectors=sum(manifest.bank.vectors for manifest in manifests),
        dimension=first.bank.dimension,
        taught=first.teaching.pictures,
        held_out=first.teaching.held_out,
        image=measure_images(tested.pictures),
        pixel=pixel_metrics(tested.maps, tested.masks) if tested.maps else None,
        operating=measure_operation(tested.pictures, judge.threshold.image),
        operating_table=measure_rates(tested.pictures, judge.held_out),
        guarantee=judge.threshold.guarantee,
        pictures=tested.pictures,
        gallery=(),
        stage_ms=stage_medians(tested.stages),
        teach_s=round(teach_s, 3),
        versions=first.versions,
        machine=f"{cpu_model()}, {os.cpu_count()} cores",
    )


def _settings_of(manifest: Manifest, options: EvaluateOptions) -> dict[str, str]:
    """What a person compares runs by."""
    ir = manifest.ir
    geometry = ir.geometry
    return manifest.settings | {
        "ir": ", ".join(shown(ir.resolve().name) for ir in (options.teaching.ir, *options.ensemble)),
        "frame_size": f"{manifest.frame_width}×{manifest.frame_height}",
        "layers": ", ".join(ir.layers),
        "embedding": ir.embedding,
        "neighbourhood": str(ir.neighbourhood),
        "resize_shorter": "none" if geometry.resize_shorter is None else str(geometry.resize_shorter),
        "reweight_neighbours": str(manifest.scoring.reweight_neighbours),
        "weights": f"{ir.weights.source} {ir.weights.name}",
    }


def _write_gallery(
    category: Category, judge: Judge, pictures: Sequence[PictureResult], limit: int, place: Path
) -> tuple[GalleryEntry, ...]:
    """Inspect the chosen pictures once more, and write their panels; those of an earlier evaluation go."""
    directory = place / GALLERY
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path in directory.iterdir():
            if _PANEL_NAME.fullmatch(path.name):
                path.unlink()
        return tuple(
            _write_panel(choice, category.test[choice.picture], judge, place)
            for choice in choose_gallery(pictures, limit)
        )
    except OSError as error:
        raise ExportError(f"{directory}: cannot be written ({error.strerror}); check disk space") from error


def _write_panel(choice: Choice, picture: LabelledPicture, judge: Judge, place: Path) -> GalleryEntry:
    frame = read_frame(picture.path, choice.picture)
    inspection = judge.inspect(frame, picture.path)
    caption = f"{shown(picture.kind)}  {shown(picture.path.name)}"
    panel = draw_panel(
        frame.image,
        inspection.verdict,
        inspection.anomaly,
        pixel_threshold=judge.threshold.pixel,
        truth=truth_of(picture, frame),
        caption=caption,
    )
    name = f"{GALLERY}/{choice.picture:04}_{choice.group}.jpg"
    write_file(place / name, encode_panel(panel))
    return GalleryEntry(group=choice.group, picture=choice.picture, panel=name)
