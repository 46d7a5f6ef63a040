from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.rig.station import FRAME_SIZE
from edge.bundle.bundle import Bundle, read_bundle
from edge.bundle.ir import Geometry
from edge.errors import ExportError
from edge.files.pictures import list_pictures, read_picture, write_picture
from edge.inspection.inspector import Inspector
from edge.records import Box, Outcome, Reason
from export.conversion.convert import convert
from export.conversion.options import ConvertOptions
from export.datasets.find import find_categories
from export.evaluation.ensemble import Ensemble, Scale, combine
from export.evaluation.evaluate import EvaluateOptions, evaluate
from export.teaching.calibrate import conformal_rank
from export.teaching.teach import TeachOptions, teach
from tests.bundles import UNSEEN, draw_defective, draw_good, make_frame
from tests.datasets import draw_category


@pytest.fixture(scope="module")
def small_ir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network at another size, with the finer layer alone: other scores, another map size."""
    out = tmp_path_factory.mktemp("ir") / "small"
    geometry = Geometry(input_height=96, input_width=96)
    convert(ConvertOptions("efficientnet_lite0", layers=("layer2",), geometry=geometry), out)
    return out


@pytest.fixture(scope="module")
def bundles(
    tmp_path_factory: pytest.TempPathFactory, bundle_dir: Path, small_ir: Path, good_pictures: Path
) -> tuple[Bundle, Bundle]:
    """Taught from the same pictures by two IRs."""
    out = tmp_path_factory.mktemp("bundles") / "small"
    teach(TeachOptions(ir=small_ir, images=good_pictures, out=out))
    return read_bundle(bundle_dir), read_bundle(out)


@pytest.fixture(scope="module")
def ensemble(bundles: tuple[Bundle, Bundle]) -> Ensemble:
    return Ensemble(bundles)


def standard(bundle: Bundle, score: float) -> float:
    teaching = bundle.manifest.teaching
    return (score - teaching.normal_scores_mean) / teaching.normal_scores_deviation


@pytest.mark.parametrize("make", [draw_good, draw_defective])
def test_a_score_is_the_mean_of_what_the_members_find_unusual(
    ensemble: Ensemble, bundles: tuple[Bundle, Bundle], make: type
) -> None:
    for number in range(UNSEEN, UNSEEN + 3):
        frame = make_frame(make(number).image)
        inspection = ensemble.inspect(frame)
        alone = [Inspector(bundle).inspect(frame).verdict.score for bundle in bundles]
        assert inspection.member_scores == pytest.approx(alone, rel=1e-4)
        unusual = sum(map(standard, bundles, alone)) / 2
        deviation = sum(bundle.manifest.teaching.normal_scores_deviation for bundle in bundles) / 2
        mean = sum(bundle.manifest.teaching.normal_scores_mean for bundle in bundles) / 2
        assert inspection.verdict.score == pytest.approx(mean + deviation * unusual, rel=1e-3)


def test_good_parts_pass_and_defective_ones_fail_with_where_to_look(ensemble: Ensemble) -> None:
    good = [ensemble.inspect(make_frame(draw_good(UNSEEN + number).image)).verdict for number in range(6)]
    assert sum(verdict.outcome is Outcome.PASS for verdict in good) >= 5
    for number in (0, 4, 14, 19, 24):  # large ones
        part = draw_defective(number)
        verdict = ensemble.inspect(make_frame(part.image)).verdict
        assert verdict.outcome is Outcome.FAIL
        assert verdict.score > verdict.threshold == ensemble.threshold.image
        box = verdict.defects[0].box
        assert part.mask[box.y : box.bottom, box.x : box.right].any()


def test_a_bundle_together_with_itself_is_the_bundle(bundles: tuple[Bundle, Bundle]) -> None:
    bundle = bundles[0]
    twins = Ensemble((bundle, bundle))
    alone = Inspector(bundle)
    assert twins.threshold.image == pytest.approx(bundle.manifest.threshold.image)
    assert twins.threshold.pixel == pytest.approx(bundle.manifest.threshold.pixel)
    frame = make_frame(draw_defective(4).image)
    both, one = twins.inspect(frame), alone.inspect(frame, want_map=True)
    assert both.verdict.score == pytest.approx(one.verdict.score)
    assert both.anomaly is not None
    assert one.anomaly is not None
    np.testing.assert_allclose(both.anomaly.values, one.anomaly.values, rtol=1e-3, atol=1e-3)
    assert both.anomaly.region == one.anomaly.region


def test_the_threshold_is_the_conformal_one_of_parts_that_all_held_out(
    ensemble: Ensemble, good_pictures: Path, bundles: tuple[Bundle, Bundle]
) -> None:
    held_out = [part.sha256 for part in bundles[0].manifest.teaching.held_out_scores]
    assert held_out == [part.sha256 for part in bundles[1].manifest.teaching.held_out_scores]
    scores = [ensemble.inspect(make_frame(read_picture(path))).verdict.score for path in list_pictures(good_pictures)]
    # What the bank was taught from scores lower, so the largest of all are held-out ones.
    rank = conformal_rank(len(held_out), 0.01)
    assert rank == len(held_out)
    assert ensemble.threshold.image == pytest.approx(max(scores), rel=1e-3)
    assert ensemble.threshold.guarantee is not None
    assert ensemble.threshold.guarantee.held_out == len(held_out)


def test_the_map_of_a_good_held_out_part_stays_below_the_pixel_threshold(
    ensemble: Ensemble, good_pictures: Path
) -> None:
    for path in list_pictures(good_pictures):
        anomaly = ensemble.inspect(make_frame(read_picture(path))).anomaly
        assert anomaly is not None
        assert anomaly.values.shape == (128, 128)  # the first member's
        assert anomaly.values.max() <= ensemble.threshold.pixel * 1.001


def test_the_peak_of_a_combined_map_shows_the_defect(ensemble: Ensemble) -> None:
    part = draw_defective(19)
    anomaly = ensemble.inspect(make_frame(part.image)).anomaly
    assert anomaly is not None
    row, column = np.unravel_index(int(anomaly.values.argmax()), anomaly.values.shape)
    y, x = int(row * FRAME_SIZE[0] / 128), int(column * FRAME_SIZE[1] / 128)
    assert part.mask[max(0, y - 8) : y + 9, max(0, x - 8) : x + 9].any()


def test_a_frame_that_a_member_cannot_judge_is_no_result(ensemble: Ensemble) -> None:
    inspection = ensemble.inspect(make_frame(draw_good(0).image[:100]))
    assert (inspection.verdict.outcome, inspection.verdict.reason) == (Outcome.NO_RESULT, Reason.IMAGE_UNUSABLE)
    assert (inspection.anomaly, inspection.member_scores) == (None, ())


def test_bundles_that_held_out_different_parts_are_judged_by_the_common_ones(
    bundles: tuple[Bundle, Bundle], small_ir: Path, good_pictures: Path, tmp_path: Path
) -> None:
    teach(TeachOptions(ir=small_ir, images=good_pictures, out=tmp_path / "other", seed=5))
    other = read_bundle(tmp_path / "other")
    hashes = [{part.sha256 for part in bundle.manifest.teaching.held_out_scores} for bundle in (bundles[0], other)]
    common = hashes[0] & hashes[1]
    assert 0 < len(common) < 15
    guarantee = Ensemble((bundles[0], other)).threshold.guarantee
    assert guarantee is not None
    assert guarantee.held_out == len(common)


def test_bundles_without_a_common_held_out_part_are_refused(
    bundles: tuple[Bundle, Bundle], ir_dir: Path, tmp_path: Path
) -> None:
    for number in range(6):
        write_picture(tmp_path / "others" / f"{number}.png", draw_good(UNSEEN + number).image)
    teach(TeachOptions(ir=ir_dir, images=tmp_path / "others", out=tmp_path / "stranger"))
    with pytest.raises(ExportError, match=r"no good part was held out by all members .*same seed"):
        Ensemble((bundles[0], read_bundle(tmp_path / "stranger")))


def test_bundles_that_inspect_different_regions_are_refused(
    bundles: tuple[Bundle, Bundle], ir_dir: Path, good_pictures: Path, tmp_path: Path
) -> None:
    teach(TeachOptions(ir=ir_dir, images=good_pictures, out=tmp_path / "half", region=Box(0, 0, 128, 192)))
    with pytest.raises(ExportError, match="inspect 256×192 at x 0, y 0 and 128×192 at x 0, y 0"):
        Ensemble((bundles[0], read_bundle(tmp_path / "half")))


def test_a_bundle_with_one_held_out_part_cannot_be_standardised(
    bundles: tuple[Bundle, Bundle], ir_dir: Path, good_pictures: Path, tmp_path: Path
) -> None:
    teach(TeachOptions(ir=ir_dir, images=good_pictures, out=tmp_path / "lone", hold_out=0.01))
    with pytest.raises(ExportError, match=r"lone .*the scores of its 1 held-out good parts do not differ"):
        Ensemble((bundles[0], read_bundle(tmp_path / "lone")))


def test_a_member_with_large_scores_does_not_outweigh_one_with_small_ones() -> None:
    scales = (Scale(mean=100.0, deviation=10.0), Scale(mean=1.0, deviation=0.1))
    usual = combine((100.0, 1.0), scales)
    assert combine((110.0, 1.0), scales) - usual == pytest.approx(combine((100.0, 1.1), scales) - usual)
    assert usual == pytest.approx(50.5)
    assert math.isclose(combine((110.0, 1.1), scales), 50.5 + 5.05)


def test_an_ensemble_is_evaluated_like_a_bundle(ir_dir: Path, small_ir: Path, tmp_path: Path) -> None:
    (category,) = find_categories(draw_category(tmp_path / "plate", masks=True))
    teaching = TeachOptions(ir=ir_dir, images=tmp_path, out=tmp_path)
    options = EvaluateOptions(teaching, tmp_path / "out", ensemble=(small_ir,))
    results = evaluate(category, options)
    members = [read_bundle(tmp_path / "out" / "plate" / name) for name in ("bundle", "bundle_2")]
    ensemble = Ensemble(members)
    assert results.bundle == "+".join(bundle.model for bundle in members)
    assert results.backbone == "efficientnet_lite0 + efficientnet_lite0"
    assert results.bank_vectors == sum(len(bundle.bank) for bundle in members)
    assert results.operating.threshold == ensemble.threshold.image
    for picture, labelled in zip(results.pictures, category.test, strict=True):
        verdict = ensemble.inspect(make_frame(read_picture(labelled.path))).verdict
        assert picture.score == pytest.approx(verdict.score, rel=1e-4)
        assert picture.outcome == verdict.outcome.value
    assert results.image.auroc == 1.0
    assert results.pixel is not None
    alone = evaluate(category, replace(options, ensemble=()))
    assert alone.key != results.key
