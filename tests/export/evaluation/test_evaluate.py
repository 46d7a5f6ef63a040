from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.rig.station import FRAME_SIZE
from edge.bundle.bundle import read_bundle
from edge.errors import ExportError, SourceError
from edge.files.pictures import read_picture, write_picture
from edge.inspection.inspector import Inspector
from edge.inspection.options import InspectorOptions
from edge.normality.fast_bank import FastBank
from edge.records import AnomalyMap, Box, Outcome
from export.conversion.convert import convert
from export.conversion.options import ConvertOptions, WeightsChoice
from export.datasets.category import Category
from export.datasets.find import find_categories
from export.datasets.ground_truth import read_mask_of
from export.datasets.verify import verify_dataset
from export.evaluation.evaluate import BUNDLE, EvaluateOptions, evaluate, evaluate_all
from export.evaluation.results import RESULTS, CategoryResults, read_results
from export.evaluation.tested import mask_on_map
from export.metrics.detection import auroc, pixel_metrics
from export.metrics.records import GOOD
from export.teaching.latency_budget import SEARCHES
from export.teaching.teach import TeachOptions
from tests.bundles import make_frame
from tests.datasets import DEFECTIVE_TESTED, GOOD_TESTED, TAUGHT, draw_category
from tests.places import SHARED

BOTTLE = SHARED / "data" / "mvtec_bottle"
RESNET18 = SHARED / "weights" / "resnet18_imagenet_layers1-3.pth"


@pytest.fixture(scope="module")
def category(tmp_path_factory: pytest.TempPathFactory) -> Category:
    (found,) = find_categories(draw_category(tmp_path_factory.mktemp("dataset") / "plate", masks=True))
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, ir_dir: Path, category: Category) -> EvaluateOptions:
    """The options of an evaluation of `category` that has been run."""
    options = options_for(ir_dir, tmp_path_factory.mktemp("evaluation"))
    evaluate(category, options)
    return options


@pytest.fixture
def again(finished: EvaluateOptions, tmp_path: Path) -> EvaluateOptions:
    """A copy of the finished evaluation, to be spoilt."""
    shutil.copytree(finished.out, tmp_path / "out")
    return replace(finished, out=tmp_path / "out")


def options_for(ir: Path, out: Path) -> EvaluateOptions:
    return EvaluateOptions(teaching=TeachOptions(ir=ir, images=out, out=out), out=out)


def results_of(options: EvaluateOptions, category: Category) -> CategoryResults:
    return read_results(options.out / category.name / RESULTS)


def test_scores_and_outcomes_are_those_of_the_bundle_on_the_line(finished: EvaluateOptions, category: Category) -> None:
    results = results_of(finished, category)
    bundle = read_bundle(finished.out / "plate" / "bundle")
    inspector = Inspector(bundle)
    assert (results.bundle, results.operating.threshold) == (bundle.model, inspector.threshold)
    assert len(results.pictures) == len(category.test)
    for picture, labelled in zip(results.pictures, category.test, strict=True):
        inspection = inspector.inspect(make_frame(read_picture(labelled.path)), want_map=True)
        assert inspection.anomaly is not None
        assert category.path / picture.path == labelled.path
        assert (picture.kind, picture.outcome) == (labelled.kind, inspection.verdict.outcome.value)
        assert picture.score == pytest.approx(inspection.verdict.score, rel=1e-5)
        assert picture.map_peak == pytest.approx(inspection.anomaly.values.max(), rel=1e-5)


def test_figures_follow_from_the_pictures(finished: EvaluateOptions, category: Category) -> None:
    results = results_of(finished, category)
    good = [picture.score for picture in results.pictures if picture.kind == GOOD]
    bad = [picture.score for picture in results.pictures if picture.kind != GOOD]
    assert results.image.auroc == auroc(good, bad) == 1.0
    failed = {kind.kind: kind.failed for kind in results.operating.kinds}
    assert [(kind.kind, kind.parts) for kind in results.operating.kinds] == [("good", 4), ("edge", 2), ("plate", 3)]
    for kind, count in failed.items():
        assert count == sum(picture.kind == kind and picture.outcome == "FAIL" for picture in results.pictures)
    assert (results.operating.misses.count, results.operating.misses.parts) == (0, DEFECTIVE_TESTED)
    assert results.operating.misses.high == pytest.approx(1 - 0.025 ** (1 / DEFECTIVE_TESTED))
    assert (results.operating.false_rejects.count, results.operating.false_rejects.parts) == (failed[GOOD], GOOD_TESTED)


def test_pixel_figures_are_those_of_maps_and_masks(finished: EvaluateOptions, category: Category) -> None:
    inspector = Inspector(read_bundle(finished.out / "plate" / "bundle"))
    maps, masks = [], []
    for picture in category.test:
        inspection = inspector.inspect(make_frame(read_picture(picture.path)), want_map=True)
        mask = read_mask_of(picture, *FRAME_SIZE)
        assert inspection.anomaly is not None
        assert mask is not None
        maps.append(inspection.anomaly.values)
        masks.append(mask_on_map(mask, inspection.anomaly))
    expected = pixel_metrics(maps, masks)
    pixel = results_of(finished, category).pixel
    assert pixel is not None
    assert pixel.auroc == pytest.approx(expected.auroc, abs=1e-6)
    assert (pixel.aupro, pixel.aupro_strict) == pytest.approx((expected.aupro, expected.aupro_strict), abs=1e-4)
    assert (pixel.regions, pixel.pixels) == (expected.regions, len(category.test) * 128 * 128)
    assert pixel.auroc > 0.9


def test_what_was_run_on_what_is_recorded(finished: EvaluateOptions, category: Category) -> None:
    results = results_of(finished, category)
    assert (results.category, results.layout, results.backbone) == ("plate", "mvtec", "efficientnet_lite0")
    assert (results.ir_precision, results.arithmetic, results.input_size) == ("f32", "f32", (128, 128))
    assert (results.taught, results.held_out) == (TAUGHT // 2, TAUGHT // 2)
    assert results.settings["ir"] == finished.teaching.ir.name
    assert results.settings["coreset"] == "greedy"
    assert results.stage_ms.keys() == {"preprocess", "embed", "search", "score", "total"}
    assert results.stage_ms["total"] > results.stage_ms["embed"] > 0
    assert results.teach_s > 0
    assert "openvino" in results.versions


def test_every_panel_of_the_gallery_is_three_pictures_side_by_side(
    finished: EvaluateOptions, category: Category
) -> None:
    results = results_of(finished, category)
    assert {entry.group for entry in results.gallery} >= {"worst", "best"}
    directory = finished.out / "plate"
    assert {entry.panel for entry in results.gallery} == {f"gallery/{path.name}" for path in directory.glob("*/*.jpg")}
    for entry in results.gallery:
        height, width = read_picture(directory / entry.panel).shape[:2]
        assert width == 900
        assert 225 < height < 300  # 192 of 256 pixels, and the band


def test_without_masks_there_are_no_pixel_figures(ir_dir: Path, tmp_path: Path) -> None:
    (category,) = find_categories(draw_category(tmp_path / "plate", masks=False))
    results = evaluate(category, options_for(ir_dir, tmp_path / "out"))
    assert results.pixel is None
    assert results.image.auroc == 1.0


def test_validation_pictures_set_the_threshold_and_all_others_teach(
    ir_dir: Path, tmp_path: Path, category: Category
) -> None:
    split = replace(category, train=category.train[:12], validation=category.train[12:])
    results = evaluate(split, options_for(ir_dir, tmp_path))
    assert (results.taught, results.held_out) == (12, TAUGHT - 12)


def test_what_did_not_change_is_not_run_again(
    finished: EvaluateOptions, category: Category, capfd: pytest.CaptureFixture[str]
) -> None:
    path = finished.out / "plate" / RESULTS
    before = path.stat()
    assert evaluate(category, finished) == read_results(path)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    shown = capfd.readouterr().err
    assert "nothing changed since" in shown
    assert "inspecting" not in shown


def spoil_results(options: EvaluateOptions) -> EvaluateOptions:
    (options.out / "plate" / RESULTS).write_text('{"schema_version": 0}', encoding="utf-8")
    return options


def lose_panel(options: EvaluateOptions) -> EvaluateOptions:
    next(options.out.glob("plate/gallery/*.jpg")).unlink()
    return options


def with_seed(options: EvaluateOptions) -> EvaluateOptions:
    return replace(options, teaching=replace(options.teaching, seed=1))


def with_smaller_gallery(options: EvaluateOptions) -> EvaluateOptions:
    return replace(options, gallery=1)


@pytest.mark.parametrize("change", [spoil_results, lose_panel, with_seed, with_smaller_gallery])
def test_what_changed_is_run_again(
    again: EvaluateOptions, category: Category, change: Callable[[EvaluateOptions], EvaluateOptions]
) -> None:
    before = (again.out / "plate" / RESULTS).stat().st_ino
    changed = change(again)
    results = evaluate(category, changed)
    path = again.out / "plate" / RESULTS
    assert path.stat().st_ino != before
    assert read_results(path) == results
    panels = {entry.panel for entry in results.gallery}
    assert {f"gallery/{path.name}" for path in again.out.glob("plate/gallery/*.jpg")} == panels


def test_only_panels_are_removed_from_the_gallery(again: EvaluateOptions, category: Category) -> None:
    kept = again.out / "plate" / "gallery" / "for the customer.jpg"
    kept.write_bytes(b"mine")
    evaluate(category, with_smaller_gallery(again))
    assert kept.read_bytes() == b"mine"


@pytest.fixture
def copied(category: Category, tmp_path: Path) -> Path:
    return Path(shutil.copytree(category.path, tmp_path / "plate"))


def test_pictures_of_another_size_are_measured_as_resized_copies(copied: Path, ir_dir: Path, tmp_path: Path) -> None:
    for path in (copied / "test" / "edge" / "014.png", copied / "ground_truth" / "edge" / "014_mask.png"):
        write_picture(path, read_picture(path)[:100])
    (category,) = find_categories(copied)
    results = evaluate(category, options_for(ir_dir, tmp_path / "out"))
    assert len(results.pictures) == GOOD_TESTED + DEFECTIVE_TESTED
    assert "test/edge/014.png" in {picture.path for picture in results.pictures}
    assert read_picture(tmp_path / "out" / "plate" / "copies" / "test" / "edge" / "014.png").shape[:2] == FRAME_SIZE


def test_a_test_picture_that_was_cut_off_is_named(copied: Path, ir_dir: Path, tmp_path: Path) -> None:
    path = copied / "test" / "good" / "002.png"
    path.write_bytes(path.read_bytes()[:500])
    (category,) = find_categories(copied)
    with pytest.raises(SourceError, match=r"good/002\.png"):
        evaluate(category, options_for(ir_dir, tmp_path / "out"))


@pytest.mark.parametrize(
    ("size", "expected"), [(FRAME_SIZE, "marks no pixel"), ((192, 255), "mask of 255×192 pixels; expected 256×192")]
)
def test_a_mask_that_marks_nothing_or_has_another_size_is_named_before_any_work(
    copied: Path, ir_dir: Path, tmp_path: Path, size: tuple[int, int], expected: str
) -> None:
    write_picture(copied / "ground_truth" / "edge" / "014_mask.png", np.zeros((*size, 3), np.uint8))
    (category,) = find_categories(copied)
    with pytest.raises(ExportError, match=rf"edge/014_mask\.png: {expected}") as caught:
        evaluate(category, options_for(ir_dir, tmp_path / "out"))
    with pytest.raises(ExportError) as verified:
        verify_dataset(copied)
    assert str(caught.value) == str(verified.value)
    assert not (tmp_path / "out" / "plate" / "bundle").exists()


def test_what_was_finished_before_a_failure_is_kept(
    copied: Path, ir_dir: Path, category: Category, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (torn,) = find_categories(copied.rename(tmp_path / "torn"))
    path = torn.test[0].path
    contents = path.read_bytes()
    path.write_bytes(contents[:500])
    options = options_for(ir_dir, tmp_path / "out")
    with pytest.raises(SourceError):
        evaluate_all((category, torn), options)
    path.write_bytes(contents)
    first, second = evaluate_all((category, torn), options)
    assert (first.category, second.category) == ("plate", "torn")
    assert first.image == second.image
    shown = capfd.readouterr().err
    assert "category 2 of 2: torn" in shown
    assert "plate: nothing changed since" in shown


def test_a_category_whose_name_is_no_recipe_s_is_taught_under_a_similar_one(
    copied: Path, ir_dir: Path, tmp_path: Path
) -> None:
    (category,) = find_categories(copied.rename(tmp_path / "metal nut (new)"))
    evaluate(category, options_for(ir_dir, tmp_path / "out"))
    assert read_bundle(tmp_path / "out" / "metal nut (new)" / "bundle").manifest.name == "metal_nut__new_"


def test_a_mask_is_cut_to_the_region_and_takes_the_map_s_size() -> None:
    mask = np.zeros((40, 60), bool)
    mask[10:20, 20:40] = True
    mask[:5] = True  # outside the region
    anomaly = AnomalyMap(values=np.zeros((15, 20), np.float32), region=Box(10, 6, 40, 30))
    expected = np.zeros((15, 20), bool)
    expected[2:7, 5:15] = True  # rows (10 - 6)/2 … (20 - 6)/2, columns (20 - 10)/2 … (40 - 10)/2
    assert np.array_equal(mask_on_map(mask, anomaly), expected)


def test_files_are_known_by_size_and_time(copied: Path, ir_dir: Path, tmp_path: Path) -> None:
    options = options_for(ir_dir, tmp_path / "out")
    (category,) = find_categories(copied)
    first = evaluate(category, options)
    os.utime(category.test[0].path, ns=(1, 1))
    second = evaluate(category, options)
    assert first.key != second.key
    assert first.pictures == second.pictures


@pytest.mark.shared
@pytest.mark.skipif(not (BOTTLE.is_dir() and RESNET18.is_file()), reason=f"no data and weights in {SHARED}")
def test_bottles_are_told_apart_and_their_defects_found_at_default_settings(tmp_path: Path) -> None:
    convert(ConvertOptions("resnet18", weights=WeightsChoice(file=RESNET18)), tmp_path / "ir")
    (category,) = find_categories(BOTTLE)
    results = evaluate(category, options_for(tmp_path / "ir", tmp_path / "out"))
    assert results.image.auroc >= 0.999
    assert results.pixel is not None
    assert results.pixel.auroc >= 0.978
    assert results.pixel.aupro >= 0.93
    operating = results.operating
    assert (operating.false_rejects.parts, operating.misses.parts) == (20, 63)
    assert operating.false_rejects.count <= 2
    assert operating.misses.count <= 3
    assert all(picture.outcome in {Outcome.PASS, Outcome.FAIL} for picture in results.pictures)
    compare_searches(tmp_path / "out" / category.name / BUNDLE, [picture.path for picture in category.test])


def compare_searches(bundle_dir: Path, pictures: list[Path]) -> None:
    """The fast search gives the score of the exhaustive one on every picture, and nearly its map."""
    bundle = read_bundle(bundle_dir)
    exact, fast = (Inspector(bundle, InspectorOptions(search=search)) for search in SEARCHES)
    assert isinstance(fast.bank, FastBank)
    errors = []
    for path in pictures:
        frame = make_frame(read_picture(path))
        expected, found = (inspector.inspect(frame, want_map=True) for inspector in (exact, fast))
        assert found.verdict.score == pytest.approx(expected.verdict.score, rel=1e-3)
        assert found.anomaly is not None
        assert expected.anomaly is not None
        errors.append(float(np.abs(found.anomaly.values / expected.anomaly.values - 1).mean()))
    assert np.mean(errors) <= 0.002
