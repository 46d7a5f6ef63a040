from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from edge.bundle.ir import Geometry
from edge.errors import ExportError, SettingsError
from export.cli.experiments import parse_weights
from export.conversion.options import ConvertOptions, WeightsChoice
from export.datasets.category import Category
from export.datasets.find import find_categories
from export.experiments.categories import NOISE, few_shots, with_noise
from export.experiments.conclusion import conclude
from export.experiments.results import CategoryMeasurement, ExperimentRow, read_experiment
from export.experiments.run import run_experiment
from export.experiments.settings import EXPERIMENTS, Base, Setting
from export.metrics.records import GOOD
from export.teaching.teach import TeachOptions
from tests.datasets import TAUGHT, draw_category

pytestmark = pytest.mark.long

SMALL = ConvertOptions(backbone="efficientnet_lite0", geometry=Geometry(input_height=96, input_width=96))


@pytest.fixture(scope="module")
def category(tmp_path_factory: pytest.TempPathFactory) -> Category:
    path = draw_category(tmp_path_factory.mktemp("dataset") / "plate", masks=True)
    return find_categories(path)[0]


def base(out: Path) -> Base:
    return Base(network=SMALL, teaching=TeachOptions(ir=out, images=out, out=out, replace=True))


def row(label: str, auroc: float, total_ms: float) -> ExperimentRow:
    measured = CategoryMeasurement(
        category="plate",
        image_auroc=auroc,
        false_reject=0,
        miss=0,
        embed_ms=1,
        search_ms=1,
        total_ms=total_ms,
        bank_vectors=10,
    )
    return ExperimentRow(label=label, value=label, categories=(measured,))


def test_an_experiment_measures_every_setting_and_keeps_what_did_not_change(
    category: Category, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two = (
        Setting("10 %", 0.1, teaching={"coreset_ratio": 0.1}),
        Setting("1 %", 0.01, teaching={"coreset_ratio": 0.01}),
    )
    experiment = replace(EXPERIMENTS["coreset"], settings=lambda _: two)

    results = run_experiment(experiment, base(tmp_path), [category], tmp_path)

    assert [entry.label for entry in results.rows] == ["10 %", "1 %"]
    banks = [entry.categories[0].bank_vectors for entry in results.rows]
    assert banks[0] == pytest.approx(10 * banks[1], rel=0.2)
    assert results == read_experiment(tmp_path / "coreset" / "experiment.json")
    capsys.readouterr()
    again = run_experiment(experiment, base(tmp_path), [category], tmp_path)
    assert capsys.readouterr().err.count("nothing changed since") == 2
    assert again.rows == results.rows


def test_settings_that_change_the_network_make_their_own_ir(category: Category, tmp_path: Path) -> None:
    two = (
        Setting("layer2", "layer2", network={"layers": ("layer2",)}),
        Setting("int8", "int8", precision="int8"),
    )
    experiment = replace(EXPERIMENTS["layers"], settings=lambda _: two)

    results = run_experiment(experiment, base(tmp_path), [category], tmp_path)

    assert len(list((tmp_path / "ir").iterdir())) == 2
    assert len(results.rows) == 2


@pytest.mark.parametrize("name", sorted(set(EXPERIMENTS) - {"pretrainings"}))
def test_every_experiment_has_settings_that_differ_in_one_thing(name: str, tmp_path: Path) -> None:
    settings = EXPERIMENTS[name].settings(base(tmp_path))
    places = [(setting.series, setting.value) for setting in settings]
    assert len(settings) >= 4
    assert len(set(places)) == len(places)
    for setting in settings:
        replace(SMALL, **setting.network)
        replace(base(tmp_path).teaching, **setting.teaching)


def test_pretrainings_need_checkpoints_and_end_with_an_untrained_network(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="--weights LABEL=FILE"):
        EXPERIMENTS["pretrainings"].settings(base(tmp_path))
    given = replace(base(tmp_path), weights={"imagenet": Path("a.pth"), "swsl": Path("b.pth")})
    labels = [setting.label for setting in EXPERIMENTS["pretrainings"].settings(given)]
    assert labels == ["imagenet", "swsl", "untrained"]
    with pytest.raises(ExportError, match="choose another"):
        EXPERIMENTS["pretrainings"].settings(replace(given, weights={"untrained": Path("c.pth")}))


def test_a_network_without_weights_of_its_own_says_that_its_quality_means_nothing(tmp_path: Path) -> None:
    settings = {setting.label: setting for setting in EXPERIMENTS["backbones"].settings(base(tmp_path))}
    assert settings["resnet34"].network["weights"] == WeightsChoice(random_seed=0)
    assert settings["efficientnet_lite0"].network == {"backbone": "efficientnet_lite0"}
    given = replace(base(tmp_path), weights={"resnet34": Path("r34.pth")})
    settings = {setting.label: setting for setting in EXPERIMENTS["backbones"].settings(given)}
    assert settings["resnet34"].network["weights"] == WeightsChoice(file=Path("r34.pth"))


def test_few_shots_teach_from_so_many_and_set_the_threshold_by_the_others(category: Category) -> None:
    changed = few_shots(category, 0, shots=3)
    assert len(changed.train) == 3
    assert sorted(changed.train + changed.validation) == sorted(category.train)
    assert changed == few_shots(category, 0, shots=3)
    assert changed.train != few_shots(category, 1, shots=3).train
    with pytest.raises(ExportError, match=f"more than {TAUGHT} good pictures"):
        few_shots(category, 0, shots=TAUGHT)


def test_noise_moves_defective_parts_from_test_to_teaching_and_all_shares_test_on_the_same(category: Category) -> None:
    # The drawn set is small: enough good pictures are left out for its few defective ones to suffice.
    small = replace(category, train=category.train[:18])
    clean, noisy = with_noise(small, 0, share=0.0), with_noise(small, 0, share=max(NOISE))
    assert clean.train == small.train
    added = set(noisy.train) - set(small.train)
    assert len(added) == 2
    assert added <= {picture.path for picture in small.test if picture.kind != GOOD}
    assert clean.test == noisy.test
    assert not added & {picture.path for picture in noisy.test}
    assert Counter(picture.kind for picture in noisy.test)[GOOD] == Counter(p.kind for p in small.test)[GOOD]


def test_too_few_defective_parts_for_the_noise_are_an_error(category: Category) -> None:
    bad = [picture for picture in category.test if picture.kind != GOOD][:1]
    good = [picture for picture in category.test if picture.kind == GOOD]
    with pytest.raises(ExportError, match="too few"):
        with_noise(replace(category, test=(*good, *bad)), 0, share=0.1)


def test_the_conclusion_is_what_the_figures_say() -> None:
    lines = conclude([row("a", 0.99, 30.0), row("b", 0.9895, 10.0), row("c", 0.90, 1.0)])
    assert lines == (
        "Best mean image AUROC: 99.00 with a; worst: 90.00 with c.",
        "The fastest setting within 0.1 point of the best is b: 98.95 at 10.0 ms per picture.",
    )
    assert conclude([row("a", 1.0, 30.0), row("b", 1.0, 10.0)])[0] == "Every setting has a mean image AUROC of 100.00."


def test_the_conclusion_tells_of_misses_where_they_differ() -> None:
    worse = row("b", 1.0, 10.0)
    worse = worse.model_copy(update={"categories": (worse.categories[0].model_copy(update={"miss": 0.25}),)})
    lines = conclude([row("a", 1.0, 30.0), worse])
    assert lines[2] == "At the taught threshold, defective parts missed: from 0.0 % with a to 25.0 % with b."


def test_networks_without_weights_draw_no_conclusion_unless_there_is_nothing_else() -> None:
    untrained = row("d", 0.5, 0.5).model_copy(update={"extra": {"weights": "random: its quality means nothing"}})
    assert "worst: 90.00 with c" in conclude([row("a", 0.99, 30.0), row("c", 0.90, 1.0), untrained])[0]
    assert "worst: 50.00 with d" in conclude([row("a", 0.99, 30.0), untrained])[0]


def test_weights_are_for_the_base_or_for_a_label() -> None:
    assert parse_weights(["r18.pth", "swsl=s.pth"]) == (Path("r18.pth"), {"swsl": Path("s.pth")})
    with pytest.raises(SettingsError, match="LABEL=FILE"):
        parse_weights(["a.pth", "b.pth"])
    with pytest.raises(SettingsError, match="already"):
        parse_weights(["x=a.pth", "x=b.pth"])


def test_the_command_leaves_a_page_and_prints_a_table(category: Category, tmp_path: Path) -> None:
    command = [str(Path(sys.executable).parent / "patchline-export"), "experiment", "reweighting", str(category.path)]
    arguments = ["--out", str(tmp_path), "--input-size", "96"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Re-weighting of the image score" in done.stdout
    assert "mean image AUROC" in done.stdout
    pages = list((tmp_path / "reweighting").glob("*.html"))
    assert len(pages) == 1
    assert "http://" not in pages[0].read_text(encoding="utf-8").split("</style>")[0]
