"""Arguments, tables on standard output, messages on standard error, and exit codes of what evaluates."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge.errors import SettingsError
from export.cli.evaluate import plan_runs
from export.evaluation.results import RESULTS, read_results
from tests.datasets import TAUGHT, draw_category

EXPORT = Path(sys.executable).parent / "patchline-export"
WIDE = {**os.environ, "COLUMNS": "160", "NO_COLOR": "1"}


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(EXPORT), *map(str, arguments)], capture_output=True, text=True, check=False, env=WIDE, timeout=240
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two categories, one of them without masks."""
    root = tmp_path_factory.mktemp("dataset")
    draw_category(root / "plate", masks=True)
    draw_category(root / "cover", masks=False)
    return root


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory, dataset: Path, ir_dir: Path) -> tuple[Path, str, str]:
    """`--out` of an evaluation of both categories, what it printed, and what it said."""
    out = tmp_path_factory.mktemp("evaluation") / "out"
    done = run("evaluate", dataset, "--ir", ir_dir, "--out", out, "--best", "2")
    assert done.returncode == 0, done.stderr
    return out, done.stdout, done.stderr


def test_evaluate_prints_a_table_of_categories_and_their_mean(evaluated: tuple[Path, str, str]) -> None:
    _, table, messages = evaluated
    operating, _, table = table.partition("Image and pixel quality")
    rates = [line.split("│")[2].strip() for line in operating.splitlines() if line.startswith("│")]
    assert rates == 2 * ["0.1 % *", "0.5 % *", "1 % *", "2 % *", "5 % *", "10 %"]
    assert "cannot support the rate of 1.00%" in messages
    assert "10 held-out parts" in messages
    rows = {line.split("│")[1].strip(): line for line in table.splitlines() if line.startswith("│")}
    assert list(rows) == ["cover", "plate", "mean"]
    assert "100.00" in rows["plate"]
    assert "–" in rows["cover"]
    assert "10 of 10" in rows["mean"]
    assert "category 2 of 2: plate" in messages


def test_evaluate_writes_results_bundle_gallery_summary_and_report(evaluated: tuple[Path, str, str]) -> None:
    out, _, messages = evaluated
    for category in ("cover", "plate"):
        assert {path.name for path in (out / category).iterdir()} == {RESULTS, "bundle", "gallery"}
        results = read_results(out / category / RESULTS)
        assert 2 <= len(results.gallery) <= 8
    with (out / "summary.csv").open(encoding="utf-8") as stream:
        assert [row["category"] for row in csv.DictReader(stream)] == ["cover", "plate", "mean"]
    assert len(json.loads((out / "summary.json").read_text(encoding="utf-8"))) == 3
    assert f"report: {out / 'report.html'}" in messages
    assert "plate" in (out / "report.html").read_text(encoding="utf-8")


def test_evaluate_does_not_run_again_what_did_not_change(
    evaluated: tuple[Path, str, str], dataset: Path, ir_dir: Path
) -> None:
    out, table, _ = evaluated
    done = run("evaluate", dataset, "--ir", ir_dir, "--out", out, "--best", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout == table
    assert done.stderr.count("nothing changed since") == 2
    assert "embedding" not in done.stderr


def test_report_is_rendered_again_from_the_results_alone(evaluated: tuple[Path, str, str], tmp_path: Path) -> None:
    out = Path(shutil.copytree(evaluated[0], tmp_path / "out"))
    (out / "report.html").unlink()
    for category in ("cover", "plate"):
        shutil.rmtree(out / category / "bundle")
    done = run("report", out)
    assert done.returncode == 0, done.stderr
    assert (out / "report.html").is_file()


def test_report_of_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    done = run("report", tmp_path / "nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: " in done.stderr
    assert "nowhere: no such directory" in done.stderr


def test_runall_evaluates_every_network_and_ratio_and_summarize_collects_them(
    dataset: Path, ir_dir: Path, tmp_path: Path
) -> None:
    second = Path(shutil.copytree(ir_dir, tmp_path / "second"))
    out = tmp_path / "out"
    ratios = ("--coreset-ratio", "0.1", "--coreset-ratio", "0.01")
    irs = ("--ir", ir_dir, "--ir", second)
    settings = ("--category", "plate", "--coreset", "random", "--best", "0")
    done = run("runall", dataset, *irs, *ratios, *settings, "--out", out)
    assert done.returncode == 0, done.stderr
    names = [f"{ir_dir.name}_0.01", f"{ir_dir.name}_0.1", "second_0.01", "second_0.1"]
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == names
    for name in names:
        results = read_results(out / name / "plate" / RESULTS)
        assert results.settings["coreset"] == "random"
        assert results.bank_vectors == round(TAUGHT // 2 * 256 * float(results.settings["coreset_ratio"]))
        assert name in done.stdout

    collected = run("summarize", out, "--out", tmp_path / "all")
    assert collected.returncode == 0, collected.stderr
    with (tmp_path / "all" / "summary.csv").open(encoding="utf-8") as stream:
        rows = [(row["run"], row["category"]) for row in csv.DictReader(stream)]
    assert rows == [(name, category) for name in names for category in ("plate", "mean")]


def test_runs_that_would_share_a_name_are_refused() -> None:
    assert list(plan_runs([Path("a/wide"), Path("small")], [0.1, 0.01])) == [
        "wide_0.1",
        "wide_0.01",
        "small_0.1",
        "small_0.01",
    ]
    with pytest.raises(
        SettingsError, match=r"b/wide at a coreset ratio of 0\.1 would overwrite the run wide_0\.1 of a/"
    ):
        plan_runs([Path("a/wide"), Path("b/wide")], [0.1])
    with pytest.raises(SettingsError, match="would overwrite"):
        plan_runs([Path("wide")], [0.1, 0.1])


def test_an_ensemble_is_evaluated_by_one_command(dataset: Path, ir_dir: Path, tmp_path: Path) -> None:
    second = Path(shutil.copytree(ir_dir, tmp_path / "second"))
    arguments = (dataset / "plate", "--ir", ir_dir, "--ensemble", second, "--out", tmp_path / "out", "--best", "1")
    done = run("evaluate", *arguments, "--coreset-parts", "3")
    assert done.returncode == 0, done.stderr
    results = read_results(tmp_path / "out" / "plate" / RESULTS)
    assert results.settings["ir"] == f"{ir_dir.name}, second"
    assert results.settings["coreset_parts"] == "3"
    assert results.image.auroc == 1.0


def test_a_repeated_picture_is_refused_or_left_out(dataset: Path, ir_dir: Path, tmp_path: Path) -> None:
    category = Path(shutil.copytree(dataset / "plate", tmp_path / "plate"))
    shutil.copy(category / "train" / "good" / "003.png", category / "train" / "good" / "again.png")
    arguments = ("evaluate", category, "--ir", ir_dir, "--out", tmp_path / "out", "--best", "0")
    refused = run(*arguments)
    assert refused.returncode == 7
    assert f"again.png: the same picture as {category}/train/good/003.png" in refused.stderr
    assert "--skip-bad" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert run(*arguments, "--skip-bad").returncode == 0
    results = read_results(tmp_path / "out" / "plate" / RESULTS)
    assert results.taught + results.held_out == TAUGHT


def test_names_that_are_not_utf_8_are_shown_as_text_everywhere(dataset: Path, ir_dir: Path, tmp_path: Path) -> None:
    category = Path(shutil.copytree(dataset / "plate", tmp_path / os.fsdecode(b"plate\xff")))
    for directory, suffix in (("test/edge", ""), ("ground_truth/edge", "_mask")):
        named = category / directory / f"014{suffix}.png"
        named.rename(named.with_name(os.fsdecode(b"014\xfe") + f"{suffix}.png"))
    verified = run("dataset", "--verify", category)
    assert verified.stdout.startswith(r"plate\xff (mvtec)")
    out = tmp_path / os.fsdecode(b"out\xff")
    done = run("evaluate", category, "--ir", ir_dir, "--out", out, "--best", "2")
    assert done.returncode == 0, done.stderr
    results = read_results(out / os.fsdecode(b"plate\xff") / RESULTS)
    assert results.category == r"plate\xff"
    assert r"test/edge/014\xfe.png" in {picture.path for picture in results.pictures}
    assert r"test/edge/014\xfe.png" in (out / "report.html").read_text()


def test_a_broken_dataset_is_named_with_exit_code_7(tmp_path: Path, ir_dir: Path) -> None:
    (tmp_path / "plate" / "train" / "good").mkdir(parents=True)
    done = run("evaluate", tmp_path, "--ir", ir_dir, "--out", tmp_path / "out")
    assert (done.returncode, done.stdout) == (7, "")
    assert f"error: {tmp_path / 'plate'}" in done.stderr
    assert "extracted to its end" in done.stderr


def test_dataset_describes_and_verifies(dataset: Path) -> None:
    described = run("dataset", "visa")
    assert described.returncode == 0
    assert "CC BY 4.0" in described.stdout
    verified = run("dataset", "--verify", dataset)
    assert verified.stdout.splitlines() == [
        "cover (mvtec): 20 to teach; to test 2 edge (0 with masks), 4 good (0 with masks), 3 plate (0 with masks)",
        "plate (mvtec): 20 to teach; to test 2 edge (2 with masks), 4 good (0 with masks), 3 plate (3 with masks)",
    ]


@pytest.mark.parametrize("arguments", [(), ("visa", "--verify", "x")])
def test_dataset_wants_a_name_or_a_place(arguments: tuple[str, ...]) -> None:
    done = run("dataset", *arguments)
    assert done.returncode == 2
    assert "give either a NAME" in done.stderr


def test_a_dataset_that_cannot_be_fetched_is_told_how_by_hand(tmp_path: Path) -> None:
    done = run("dataset", "visa", "--fetch", tmp_path / "visa", "--address", "http://127.0.0.1:9")
    assert done.returncode == 7
    assert "cannot be fetched into" in done.stderr
    assert "By hand, on any machine with a network:" in done.stderr
    assert list(tmp_path.iterdir()) == []
