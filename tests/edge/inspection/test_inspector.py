from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.rig.station import FRAME_SIZE
from edge.bundle.bundle import Bundle, read_bundle
from edge.errors import SettingsError
from edge.files.pictures import write_picture
from edge.health.usage import read_usage
from edge.inspection.inspector import Inspector
from edge.inspection.options import InspectorOptions
from edge.inspection.preprocess import prepare
from edge.records import Box, Outcome, Reason, UInt8Array
from export.teaching.teach import TeachOptions, teach
from tests.bundles import UNSEEN, draw_defective, draw_good, make_frame, reseal

# Parts of the simulated line whose defects are large: their scores are far above the threshold.
CLEARLY_DEFECTIVE = (0, 4, 10, 14, 19, 24)


@pytest.fixture(scope="module")
def bundle(bundle_dir: Path) -> Bundle:
    return read_bundle(bundle_dir)


@pytest.fixture(scope="module")
def inspector(bundle: Bundle) -> Inspector:
    return Inspector(bundle)


def overlap(first: Box, second: Box) -> int:
    width = min(first.right, second.right) - max(first.x, second.x)
    height = min(first.bottom, second.bottom) - max(first.y, second.y)
    return max(0, width) * max(0, height)


def test_most_good_parts_that_were_never_seen_pass(ir_dir: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "good"
    pictures.mkdir()
    for number in range(60):
        write_picture(pictures / f"good-{number}.png", draw_good(number).image)
    teach(TeachOptions(ir=ir_dir, images=pictures, out=tmp_path / "bundle"))
    inspector = Inspector(read_bundle(tmp_path / "bundle"))
    # 30 held-out parts support a mean rate of 1/31, and no more than 10 % with 95 % confidence.
    outcomes = [inspector.inspect(make_frame(draw_good(UNSEEN + number).image)).verdict.outcome for number in range(20)]
    assert outcomes.count(Outcome.PASS) >= 17
    assert Outcome.NO_RESULT not in outcomes


def test_a_taught_part_passes_with_nothing_to_show(inspector: Inspector) -> None:
    inspection = inspector.inspect(make_frame(draw_good(0).image))
    assert inspection.verdict.outcome is Outcome.PASS
    assert inspection.verdict.score <= inspector.threshold
    assert inspection.verdict.defects == ()
    assert inspection.verdict.crops == ()
    assert inspection.anomaly is None


@pytest.mark.parametrize("number", CLEARLY_DEFECTIVE)
def test_a_defective_part_fails_where_its_defect_was_drawn(inspector: Inspector, number: int) -> None:
    part = draw_defective(number)
    verdict = inspector.inspect(make_frame(part.image)).verdict
    assert verdict.outcome is Outcome.FAIL
    assert verdict.score > verdict.threshold
    assert any(overlap(verdict.defects[0].box, drawn.box) > 0 for drawn in part.defects)
    assert verdict.defects[0].peak_score == max(defect.peak_score for defect in verdict.defects)


def test_crops_are_pictures_of_the_defects_within_the_limit(bundle: Bundle) -> None:
    inspector = Inspector(bundle, InspectorOptions(max_crops=2, crop_max_bytes=4096))
    image = draw_defective(0).image
    verdict = inspector.inspect(make_frame(image)).verdict
    assert 1 <= len(verdict.crops) <= 2
    for crop, defect in zip(verdict.crops, verdict.defects, strict=False):
        assert len(crop.jpeg) <= 4096
        assert overlap(crop.box, defect.box) == defect.box.width * defect.box.height
        shown = cv2.imdecode(np.frombuffer(crop.jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert shown is not None
        expected = image[crop.box.y : crop.box.bottom, crop.box.x : crop.box.right]
        expected = np.asarray(cv2.resize(expected, shown.shape[1::-1], interpolation=cv2.INTER_AREA), np.uint8)
        assert np.abs(shown.astype(float) - expected).mean() < 12


def test_a_verdict_carries_its_frame_s_identity_and_the_model(inspector: Inspector, bundle: Bundle) -> None:
    frame = make_frame(draw_good(0).image, sequence=41)
    frame = replace(frame, identity=replace(frame.identity, trigger_id="t7", part_id="p9", simulated=True))
    verdict = inspector.inspect(frame).verdict
    assert verdict.identity is frame.identity
    assert verdict.recipe == bundle.manifest.name
    assert verdict.model == bundle.manifest.identity[:12]
    assert verdict.threshold == bundle.manifest.threshold.image
    assert verdict.stages.total_ms > 0


def test_latency_is_counted_from_capture_by_the_given_clock(bundle: Bundle) -> None:
    inspector = Inspector(bundle, clock=lambda: 1000.0)
    frame = make_frame(draw_good(0).image)
    frame = replace(frame, identity=replace(frame.identity, captured_monotonic_s=999.5))
    assert inspector.inspect(frame).verdict.latency_ms == pytest.approx(500)
    assert inspector.no_result(frame.identity, Reason.OVERRUN, "").latency_ms == pytest.approx(500)


@pytest.mark.parametrize(
    ("image", "got"),
    [
        (np.zeros((100, 100, 3), np.uint8), "100×100 in 3 of uint8"),
        (np.zeros((*FRAME_SIZE[::-1], 3), np.uint8), "192×256 in 3"),
        (np.zeros(FRAME_SIZE, np.uint8), "256×192 in 1"),
        (np.zeros((*FRAME_SIZE, 4), np.uint8), "256×192 in 4"),
        (np.zeros((*FRAME_SIZE, 3), np.float32), "float32"),
    ],
    ids=["size", "turned", "grey", "transparent", "float"],
)
def test_a_picture_unlike_the_taught_ones_is_no_result_with_both_sizes(
    inspector: Inspector, image: UInt8Array, got: str
) -> None:
    inspection = inspector.inspect(make_frame(image))
    assert inspection.verdict.outcome is Outcome.NO_RESULT
    assert inspection.verdict.reason is Reason.IMAGE_UNUSABLE
    assert "expected 256×192 pixels in 3 channels" in inspection.verdict.detail
    assert got in inspection.verdict.detail
    assert inspection.anomaly is None


def test_a_stale_frame_is_no_result_though_its_picture_passes(inspector: Inspector) -> None:
    frame = make_frame(draw_good(0).image)
    assert inspector.inspect(frame).verdict.outcome is Outcome.PASS
    inspection = inspector.inspect(replace(frame, stale=True), want_map=True)
    assert (inspection.verdict.outcome, inspection.verdict.reason) == (Outcome.NO_RESULT, Reason.CAMERA_STALE)
    assert "equals the one before" in inspection.verdict.detail
    assert inspection.anomaly is None


def test_a_frame_that_came_damaged_is_no_result_and_says_why(inspector: Inspector) -> None:
    damaged = replace(make_frame(np.empty((0, 0, 3), np.uint8)), unusable="JPEG cut off")
    verdict = inspector.inspect(damaged).verdict
    assert (verdict.outcome, verdict.reason) == (Outcome.NO_RESULT, Reason.IMAGE_UNUSABLE)
    assert verdict.detail == "JPEG cut off"


def test_an_empty_picture_is_no_result(inspector: Inspector) -> None:
    verdict = inspector.inspect(make_frame(np.empty((0, 0, 3), np.uint8))).verdict
    assert (verdict.outcome, verdict.reason) == (Outcome.NO_RESULT, Reason.IMAGE_UNUSABLE)
    assert "cannot be read" in verdict.detail


@pytest.mark.parametrize("neighbours", [0, 5])
def test_a_score_that_is_not_a_number_is_no_result(bundle: Bundle, neighbours: int) -> None:
    manifest = bundle.manifest
    scoring = manifest.scoring.model_copy(update={"reweight_neighbours": neighbours})
    broken = replace(
        bundle,
        manifest=manifest.model_copy(update={"scoring": scoring}),
        bank=np.full_like(bundle.bank, np.nan),
    )
    inspection = Inspector(broken).inspect(make_frame(draw_good(0).image), want_map=True)
    assert inspection.verdict.outcome is Outcome.NO_RESULT
    assert inspection.verdict.reason is Reason.INTERNAL_ERROR
    assert inspection.anomaly is None


def mask_over(*boxes: Box) -> UInt8Array:
    mask = np.zeros(FRAME_SIZE, np.uint8)
    for box in boxes:
        # The features of a patch see its surroundings too.
        mask[max(0, box.y - 50) : box.bottom + 50, max(0, box.x - 50) : box.right + 50] = 255
    return mask


def test_a_defect_under_the_mask_passes(bundle: Bundle) -> None:
    part = draw_defective(10)
    mask = mask_over(*(defect.box for defect in part.defects))
    verdict = Inspector(bundle, InspectorOptions(mask=mask)).inspect(make_frame(part.image)).verdict
    assert verdict.outcome is Outcome.PASS


def test_a_mask_beside_the_defect_changes_nothing(bundle: Bundle, inspector: Inspector) -> None:
    frame = make_frame(draw_defective(10).image)  # a stain on the left half
    mask = np.zeros(FRAME_SIZE, np.uint8)
    mask[:, 200:] = 255
    masked = Inspector(bundle, InspectorOptions(mask=mask)).inspect(frame)
    plain = inspector.inspect(frame)
    assert masked.verdict.score == pytest.approx(plain.verdict.score)
    assert masked.verdict.defects[0].box == plain.verdict.defects[0].box


def test_masked_patches_are_not_scored(bundle: Bundle) -> None:
    mask = np.zeros(FRAME_SIZE, np.uint8)
    mask[:, :128] = 255
    inspection = Inspector(bundle, InspectorOptions(mask=mask)).inspect(
        make_frame(draw_defective(10).image), want_map=True
    )
    assert inspection.anomaly is not None
    assert inspection.anomaly.values[:, :40].max() == 0
    assert inspection.anomaly.values[:, 90:].min() > 0


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((10, 20), np.uint8), "expected a picture of the frame's size, 256×192, got 20×10"),
        (np.full(FRAME_SIZE, 255, np.uint8), "covers the whole inspected region"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(bundle: Bundle, mask: UInt8Array, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Inspector(bundle, InspectorOptions(mask=mask))


def test_a_region_of_the_station_leaves_out_the_rest_and_changes_nothing_within(
    bundle: Bundle, inspector: Inspector
) -> None:
    narrowed = Inspector(bundle, InspectorOptions(region=Box(0, 0, 160, 192)))
    assert narrowed.region == inspector.region
    assert narrowed.notes == ("inspection.region leaves out 96 of 256 patches of what was taught",)
    frame = make_frame(draw_defective(10).image)  # a stain on the left half
    assert narrowed.inspect(frame).verdict.score == pytest.approx(inspector.inspect(frame).verdict.score)
    elsewhere = Inspector(bundle, InspectorOptions(region=Box(160, 0, 96, 192)))
    assert elsewhere.inspect(frame).verdict.outcome is Outcome.PASS
    for number in range(15):  # what passes whole passes in part: the bank knows every patch that is left
        good = make_frame(draw_good(number).image)
        assert narrowed.inspect(good).verdict.score <= inspector.inspect(good).verdict.score * (1 + 1e-5)


def test_the_taught_region_given_again_changes_nothing(bundle: Bundle) -> None:
    whole = Inspector(bundle, InspectorOptions(region=Box(0, 0, *FRAME_SIZE[::-1])))
    assert whole.ignored is None
    assert whole.notes == ()


def test_a_region_beyond_the_frame_is_refused_with_the_setting_s_name(bundle: Bundle) -> None:
    with pytest.raises(SettingsError, match=r"inspection\.region: 100×100 at x 200, y 0 .*256×192"):
        Inspector(bundle, InspectorOptions(region=Box(200, 0, 100, 100)))


def test_a_region_that_covers_no_patch_is_refused(bundle: Bundle) -> None:
    with pytest.raises(SettingsError, match="leave no patch to inspect"):
        Inspector(bundle, InspectorOptions(region=Box(0, 0, 5, 5)))


def test_the_bundle_s_own_region_and_mask_are_used(ir_dir: Path, good_pictures: Path, tmp_path: Path) -> None:
    mask_file = tmp_path / "mask.png"
    mask = np.zeros(FRAME_SIZE, np.uint8)
    mask[:, :120] = 255
    cv2.imwrite(str(mask_file), mask)
    out, region = tmp_path / "bundle", Box(40, 0, 200, 192)
    teach(TeachOptions(ir=ir_dir, images=good_pictures, out=out, region=region, mask=mask_file))
    inspector = Inspector(read_bundle(out))
    assert inspector.region == region
    assert inspector.notes == ("as taught, the mask leaves out 96 of 256 patches",)
    with pytest.raises(SettingsError, match="reaches beyond what the bundle was taught with, 200×192 at x 40, y 0"):
        Inspector(read_bundle(out), InspectorOptions(region=Box(0, 0, 256, 192)))  # as long as the frame, not as taught
    right = np.zeros(FRAME_SIZE, np.uint8)
    right[:, 200:] = 255
    assert_left_out(Inspector(read_bundle(out), InspectorOptions(mask=right)), columns=[*range(6), 13, 14, 15])
    inspection = inspector.inspect(make_frame(draw_defective(10).image), want_map=True)  # its stain is masked
    assert inspection.verdict.outcome is Outcome.PASS
    assert inspection.anomaly is not None
    assert inspection.anomaly.values[:, :20].max() == 0


def assert_left_out(inspector: Inspector, columns: list[int]) -> None:
    """A station's own mask adds to the taught one, whose patches the bank does not know."""
    assert inspector.ignored is not None
    ignored = inspector.ignored.reshape(inspector.embedder.grid)
    assert np.flatnonzero(ignored.all(axis=0)).tolist() == columns
    assert ignored.sum() == len(columns) * ignored.shape[0]


def test_a_grey_picture_for_a_bundle_taught_in_colour_is_no_result_and_the_reverse(bundle: Bundle) -> None:
    def with_frames(change: Callable[[UInt8Array], UInt8Array]) -> Bundle:
        return replace(bundle, golden=tuple(replace(golden, image=change(golden.image)) for golden in bundle.golden))

    def grey(image: UInt8Array) -> UInt8Array:
        return np.repeat(image[..., :1], 3, axis=2)

    def coloured(image: UInt8Array) -> UInt8Array:
        return np.asarray(image * [1.0, 0.5, 0.25], np.uint8)

    image = draw_good(0).image
    for taught, wrong, text in ((coloured, grey, "the picture is grey"), (grey, coloured, "the picture is coloured")):
        inspector = Inspector(with_frames(taught))
        assert inspector.inspect(make_frame(taught(image))).verdict.outcome is not Outcome.NO_RESULT
        verdict = inspector.inspect(make_frame(wrong(image))).verdict
        assert (verdict.outcome, verdict.reason) == (Outcome.NO_RESULT, Reason.IMAGE_UNUSABLE)
        assert text in verdict.detail


@pytest.mark.parametrize(("threshold", "outcome"), [(0.5, Outcome.FAIL), (1000.0, Outcome.PASS)])
def test_a_threshold_of_the_station_replaces_the_bundle_s(bundle: Bundle, threshold: float, outcome: Outcome) -> None:
    inspector = Inspector(bundle, InspectorOptions(threshold=threshold))
    verdict = inspector.inspect(make_frame(draw_good(0).image)).verdict
    assert inspector.threshold == verdict.threshold == threshold
    (note,) = inspector.notes
    assert note.startswith(f"inspection.threshold is {threshold:g}, and {bundle.manifest.threshold.image:g} was taught")
    assert verdict.outcome is outcome


def test_a_failed_frame_always_says_where_to_look(bundle: Bundle) -> None:
    manifest = bundle.manifest
    high = manifest.threshold.model_copy(update={"pixel": 1e6})
    strict = replace(bundle, manifest=manifest.model_copy(update={"threshold": high}))
    verdict = Inspector(strict).inspect(make_frame(draw_defective(0).image)).verdict
    assert verdict.outcome is Outcome.FAIL
    assert len(verdict.defects) >= 1


def test_small_defects_are_not_listed_but_still_fail_the_part(bundle: Bundle) -> None:
    inspector = Inspector(bundle, InspectorOptions(minimum_area=10**6))
    verdict = inspector.inspect(make_frame(draw_defective(0).image)).verdict
    assert verdict.outcome is Outcome.FAIL
    assert verdict.defects == ()


def test_the_score_is_the_largest_patch_distance_and_reweighting_lowers_it(bundle: Bundle) -> None:
    frame = make_frame(draw_defective(0).image)
    plain = Inspector(bundle).inspect(frame).verdict.score
    manifest = bundle.manifest
    scoring = manifest.scoring.model_copy(update={"reweight_neighbours": 9})
    reweighted = replace(bundle, manifest=manifest.model_copy(update={"scoring": scoring}))
    inspector = Inspector(reweighted)
    assert 0 < inspector.inspect(frame).verdict.score < plain
    embedder = inspector.embedder
    region = inspector.region
    prepare(frame.image, region, embedder.input)
    patches = embedder.embed().patches
    distances = np.sqrt(((patches[:, None] - bundle.bank[None]).astype(np.float64) ** 2).sum(axis=2))
    assert plain == pytest.approx(distances.min(axis=1).max(), rel=1e-4)


def test_results_of_one_frame_survive_the_next_ones(inspector: Inspector) -> None:
    first = inspector.inspect(make_frame(draw_defective(0).image), want_map=True)
    assert first.anomaly is not None
    values, crops = first.anomaly.values.copy(), [crop.jpeg for crop in first.verdict.crops]
    inspector.inspect(make_frame(draw_defective(4).image), want_map=True)
    assert (first.anomaly.values == values).all()
    assert [crop.jpeg for crop in first.verdict.crops] == crops


def test_patch_scores_of_one_picture_survive_the_next_ones(inspector: Inspector) -> None:
    scorer = inspector.taught_scorer()
    first = scorer.score(draw_defective(0).image)
    patch_scores = scorer.patch_scores(first)
    copy = patch_scores.copy()
    scorer.patch_scores(scorer.score(draw_defective(4).image))
    assert (patch_scores == copy).all()


def test_the_same_frame_always_scores_the_same(inspector: Inspector) -> None:
    images = [draw_good(0).image, draw_defective(0).image]
    first = [inspector.inspect(make_frame(image)).verdict.score for image in images]
    again = [inspector.inspect(make_frame(image)).verdict.score for image in reversed(images)]
    assert first == again[::-1]


def test_the_frame_is_not_changed(inspector: Inspector) -> None:
    image = draw_defective(0).image
    before = image.copy()
    inspector.inspect(make_frame(image), want_map=True)
    assert (image == before).all()


def test_hundreds_of_inspections_need_no_more_memory_threads_or_descriptors(inspector: Inspector) -> None:
    images = [draw_good(0).image, draw_defective(0).image, np.empty((0, 0, 3), np.uint8)]

    def inspect(count: int) -> None:
        for number in range(count):
            inspector.inspect(make_frame(images[number % 3], number), want_map=True)

    inspect(60)
    before = read_usage()
    inspect(300)
    after = read_usage()
    # One leaked frame or map for each inspection would be 20 to 44 MB.
    assert float(after["memory_bytes"]) - float(before["memory_bytes"]) < 8e6
    assert (after["threads"], after["descriptors"]) == (before["threads"], before["descriptors"])


@pytest.fixture
def resealed(bundle_dir: Path, tmp_path: Path) -> Callable[..., Bundle]:
    def change(**changes: object) -> Bundle:
        copy = Path(shutil.copytree(bundle_dir, tmp_path / "copy"))
        reseal(copy, changes)
        return read_bundle(copy)

    return change


def test_the_precision_that_was_taught_is_the_one_that_is_used(resealed: Callable[..., Bundle]) -> None:
    bundle = resealed(inference_precision="bf16")
    taught = Inspector(bundle).embedder.execution_precision
    chosen = Inspector(bundle, InspectorOptions(precision="f32")).embedder.execution_precision
    assert chosen == "f32"
    assert taught in {"bf16", "f32"}  # f32 where the processor has no bf16


def test_no_result_has_the_reason_and_never_a_score(inspector: Inspector) -> None:
    identity = make_frame(draw_good(0).image).identity
    verdict = inspector.no_result(identity, Reason.CAMERA_STALE, "no frame for 3 s")
    assert (verdict.outcome, verdict.reason, verdict.score) == (Outcome.NO_RESULT, Reason.CAMERA_STALE, 0.0)
    assert verdict.detail == "no frame for 3 s"
    assert verdict.identity is identity


class UnreadablePicture(np.ndarray):
    """A picture whose memory is gone, as that of a camera that was unplugged."""

    def __getitem__(self, key: object) -> object:  # type: ignore[override]  # it gives nothing
        raise OSError("the camera was unplugged")


def test_an_error_while_inspecting_is_no_result_with_its_text(inspector: Inspector) -> None:
    frame = make_frame(draw_good(0).image.view(UnreadablePicture), sequence=5)
    verdict = inspector.answer(frame)
    assert (verdict.outcome, verdict.reason) == (Outcome.NO_RESULT, Reason.INTERNAL_ERROR)
    assert verdict.detail == "OSError: the camera was unplugged"
    assert verdict.identity is frame.identity
    assert inspector.answer(make_frame(draw_good(0).image)).outcome is Outcome.PASS  # the next frame is judged


def test_a_team_shares_model_and_bank_and_nothing_that_is_written(bundle: Bundle) -> None:
    team = Inspector(bundle, InspectorOptions(mode="throughput", workers=3)).team()
    assert len(team) == 3
    assert len({id(inspector.bank) for inspector in team}) == 1
    for first, second in combinations(team, 2):
        assert not np.shares_memory(first.embedder.input, second.embedder.input)
        assert not np.shares_memory(first.embedder.embed().patches, second.embedder.embed().patches)


def test_a_team_in_latency_mode_is_one_inspector(bundle: Bundle) -> None:
    inspector = Inspector(bundle, InspectorOptions(workers=3))
    assert inspector.team() == (inspector,)


@pytest.mark.parametrize(
    ("options", "threads"),
    [
        (InspectorOptions(search="exact"), len(os.sched_getaffinity(0))),
        (InspectorOptions(search="fast"), 1),
        (InspectorOptions(search="exact", mode="throughput"), 1),
        (InspectorOptions(search="fast", search_threads=2), 2),
        (InspectorOptions(search="exact", mode="throughput", search_threads=2), 2),
    ],
)
def test_a_search_has_as_many_threads_as_pay(bundle: Bundle, options: InspectorOptions, threads: int) -> None:
    assert Inspector(bundle, options).bank.threads == threads
