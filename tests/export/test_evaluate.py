from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from edge.bundle import read_bundle
from edge.errors import ExportError
from edge.inspector import Inspector
from edge.pictures import list_pictures, read_picture, write_picture
from edge.records import Outcome
from export.convert import ConvertOptions, convert
from export.evaluate import CategoryResult, KindResult, evaluate_category, find_categories, print_results, write_results
from export.teach import TeachOptions
from export.weights import WeightsChoice
from tests.bundles import GOOD_PARTS, UNSEEN, draw_defective, draw_good, make_frame

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
BOTTLE = SHARED / "data" / "mvtec_bottle"
RESNET18 = SHARED / "weights" / "resnet18_imagenet_layers1-3.pth"
LARGE_DEFECTS = {"edge": (0, 14), "plate": (4, 19, 24)}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two categories in MVTec AD's layout, the second one without pictures."""
    root = tmp_path_factory.mktemp("dataset")
    for number in range(GOOD_PARTS):
        write_picture(root / "plate" / "train" / "good" / f"{number:03}.png", draw_good(number).image)
    for number in range(4):
        write_picture(root / "plate" / "test" / "good" / f"{number:03}.png", draw_good(UNSEEN + number).image)
    for kind, numbers in LARGE_DEFECTS.items():
        for number in numbers:
            write_picture(root / "plate" / "test" / kind / f"{number:03}.png", draw_defective(number).image)
    for directory in ("train/good", "test/good"):
        (root / "nut" / directory).mkdir(parents=True)
    (root / "plate" / "ground_truth").mkdir()
    return root


def test_categories_are_found_below_a_root(dataset: Path) -> None:
    assert find_categories(dataset, ()) == (dataset / "nut", dataset / "plate")


def test_a_category_itself_can_be_given(dataset: Path) -> None:
    assert find_categories(dataset / "plate", ()) == (dataset / "plate",)


def test_wanted_categories_are_given_in_the_wanted_order(dataset: Path) -> None:
    assert find_categories(dataset, ("plate", "nut")) == (dataset / "plate", dataset / "nut")


def test_a_missing_category_is_refused_with_those_that_are_there(dataset: Path) -> None:
    with pytest.raises(ExportError, match=r"no category screw, bolt; .*found: nut, plate"):
        find_categories(dataset, ("screw", "nut", "bolt"))


@pytest.mark.parametrize("name", ["plate/train", "nowhere"])
def test_a_place_without_categories_is_refused_with_what_one_looks_like(dataset: Path, name: str) -> None:
    with pytest.raises(ExportError, match="no category at all; a category has train/good, test/good"):
        find_categories(dataset / name, ())


def test_a_category_is_taught_inspected_and_counted(dataset: Path, ir_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundles" / "plate"
    result = evaluate_category(dataset / "plate", TeachOptions(ir=ir_dir, images=dataset, out=out))
    bundle = read_bundle(out)
    assert result.category == bundle.manifest.name == "plate"
    assert result.bundle == bundle.model
    assert result.threshold == bundle.manifest.threshold.image
    assert result.image_auroc == 1.0
    assert {kind.kind: kind.parts for kind in result.kinds} == {"edge": 2, "good": 4, "plate": 3}
    inspector = Inspector(bundle)
    for kind in result.kinds:
        pictures = list_pictures(dataset / "plate" / "test" / kind.kind)
        verdicts = [inspector.inspect(make_frame(read_picture(path))).verdict for path in pictures]
        assert kind.failed == sum(verdict.outcome is Outcome.FAIL for verdict in verdicts)
        assert kind.kind == "good" or kind.failed == kind.parts


def test_a_category_without_defective_parts_is_refused(dataset: Path, ir_dir: Path, tmp_path: Path) -> None:
    category = tmp_path / "plate"
    (category / "test").mkdir(parents=True)
    (category / "train").symlink_to(dataset / "plate" / "train")
    (category / "test" / "good").symlink_to(dataset / "plate" / "test" / "good")
    with pytest.raises(ExportError, match="no defective parts"):
        evaluate_category(category, TeachOptions(ir=ir_dir, images=category, out=tmp_path / "out"))


def results() -> list[CategoryResult]:
    kinds = (KindResult("chip", 7, 5), KindResult("good", 10, 1), KindResult("stain", 3, 3))
    return [CategoryResult("plate", 0.98765, 4.5, kinds, "0123456789ab")]


def test_results_are_a_table_for_people() -> None:
    stream = io.StringIO()
    print_results(results(), Console(file=stream, width=100))
    shown = stream.getvalue()
    for cell in ("plate", "98.77", "9 of 10", "8 of 10", "chip", "5 of 7", "stain", "3 of 3"):
        assert cell in shown


def test_results_are_json_for_machines(tmp_path: Path) -> None:
    path = tmp_path / "report" / "results.json"
    write_results(results(), path)
    (read,) = json.loads(path.read_text())
    assert read["category"] == "plate"
    assert read["image_auroc"] == 0.98765
    assert read["kinds"][0] == {"kind": "chip", "parts": 7, "failed": 5}


@pytest.mark.shared
@pytest.mark.skipif(not (BOTTLE.is_dir() and RESNET18.is_file()), reason=f"no data and weights in {SHARED}")
def test_bottles_are_told_apart_at_default_settings(tmp_path: Path) -> None:
    convert(ConvertOptions(backbone="resnet18", weights=WeightsChoice(file=RESNET18)), tmp_path / "ir")
    result = evaluate_category(BOTTLE, TeachOptions(ir=tmp_path / "ir", images=BOTTLE, out=tmp_path / "bottle"))
    good = next(kind for kind in result.kinds if kind.kind == "good")
    bad = [kind for kind in result.kinds if kind.kind != "good"]
    assert (good.parts, sum(kind.parts for kind in bad)) == (20, 63)
    assert result.image_auroc >= 0.999
    assert good.parts - good.failed >= 18
    assert sum(kind.failed for kind in bad) >= 60
