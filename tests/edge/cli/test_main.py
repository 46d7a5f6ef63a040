"""Arguments, results on standard output, messages on standard error, and exit codes of `patchline-edge`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.bundle.bundle import BANK
from edge.bundle.contents import encode_bank
from tests.bundles import reseal

EDGE = Path(sys.executable).parent / "patchline-edge"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(EDGE), *map(str, arguments)], capture_output=True, text=True, check=False)


def test_inspect_leaves_an_overlay_a_map_and_a_line_for_each_picture(
    bundle_dir: Path, defective_pictures: Path, tmp_path: Path
) -> None:
    done = run("inspect", "--bundle", bundle_dir, "--out", tmp_path, defective_pictures)
    assert done.returncode == 0, done.stderr
    verdicts = [json.loads(line) for line in done.stdout.splitlines()]
    pictures = sorted(defective_pictures.iterdir())
    assert {verdict["part_id"] for verdict in verdicts} == {picture.name for picture in pictures}
    assert "FAIL" in {verdict["verdict"] for verdict in verdicts}
    for picture in pictures:
        overlay, original = cv2.imread(str(tmp_path / f"{picture.stem}.jpg")), cv2.imread(str(picture))
        assert overlay is not None
        assert original is not None
        assert overlay.shape[1] == original.shape[1]
        assert np.load(tmp_path / f"{picture.stem}.npy").shape == (128, 128)


def test_inspect_names_unreadable_pictures_answers_them_and_goes_on(
    bundle_dir: Path, defective_pictures: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    done = run("inspect", "--bundle", bundle_dir, "--out", tmp_path / "out", broken, defective_pictures)
    assert done.returncode == 4
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == 1 + len(list(defective_pictures.iterdir()))
    assert (answers[0]["part_id"], answers[0]["reason"]) == ("broken.png", "image_unusable")
    assert f"error: {broken}" in done.stderr
    assert "error: 1 of 9 pictures could not be judged" in done.stderr


def test_inspect_of_pictures_of_another_size_does_not_end_well(bundle_dir: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "small.png"), np.zeros((50, 60, 3), np.uint8))
    done = run("inspect", "--bundle", bundle_dir, "--out", tmp_path / "out", tmp_path / "small.png")
    assert done.returncode == 4
    assert json.loads(done.stdout)["verdict"] == "NO_RESULT"
    assert "error: 1 of 1 pictures could not be judged" in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("check",),
        ("inspect", "--out", "out", "good"),
        ("bench", "--frames", "good", "--count", "10"),
        ("run", "--check", "--config", "station.toml"),
    ],
    ids=lambda command: command[0],
)
def test_every_command_that_judges_tests_itself(bundle_dir: Path, tmp_path: Path, command: tuple[str, ...]) -> None:
    copy = Path(shutil.copytree(bundle_dir, tmp_path / "bundle"))
    reseal(copy, {}, {BANK: encode_bank(np.load(copy / BANK) * np.float32(1.2))})
    (tmp_path / "good").mkdir()
    shutil.copy(copy / "golden/0.png", tmp_path / "good")
    (tmp_path / "station.toml").write_text('bundle = "bundle"\n')
    bundle = () if command[0] == "run" else ("--bundle", "bundle")
    done = subprocess.run([EDGE, *command, *bundle], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 5, done.stderr
    assert "error: golden self-test on CPU" in done.stderr
    assert "verdict" not in done.stdout


def test_bench_prints_a_table_and_writes_what_it_measured(
    bundle_dir: Path, good_pictures: Path, tmp_path: Path
) -> None:
    figures = tmp_path / "bench.json"
    done = run(
        "bench", "--bundle", bundle_dir, "--frames", good_pictures, "--count", "20", "--warm-up", "2", "--json", figures
    )
    assert done.returncode == 0, done.stderr
    assert "throughput" in done.stdout
    report = json.loads(figures.read_text(encoding="utf-8"))
    assert set(report["latency_ms"]) == {"preprocess", "embed", "search", "score", "overhead", "total"}
    assert list(report["latency_ms"]["total"]) == ["p50", "p90", "p95", "p99", "p99.9", "max"]
    assert report["environment"]["device"] == "CPU"
    assert report["environment"]["precision"] == "f32 IR, f32 arithmetic"
    assert report["frames"] == 20


def test_check_tells_a_whole_bundle_from_a_damaged_one(bundle_dir: Path, tmp_path: Path) -> None:
    whole = run("check", "--bundle", bundle_dir)
    assert whole.returncode == 0, whole.stderr
    assert "golden self-test passed on CPU" in whole.stdout
    refused = run("check", "--bundle", tmp_path)
    assert refused.returncode == 3
    assert refused.stderr.startswith(f"error: {tmp_path}/manifest.json: cannot be read")


def test_a_reader_that_goes_away_ends_the_service_with_its_own_exit_code(bundle_dir: Path, tmp_path: Path) -> None:
    config = tmp_path / "station.toml"
    text = f'bundle = "{bundle_dir}"\npublish = ["jsonl"]\n[source]\nsimulated_width = 256\nsimulated_height = 192\n'
    config.write_text(text, encoding="utf-8")
    command = [str(EDGE), "run", "--config", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        log = process.stderr.read()
        assert process.wait(60) == 6
    assert "error: verdicts as JSON lines: cannot write" in log
    assert "Traceback" not in log


def test_capture_takes_pictures_of_the_source(tmp_path: Path) -> None:
    config = tmp_path / "station.toml"
    config.write_text("[source]\nsimulated_width = 256\nsimulated_height = 192\n", encoding="utf-8")
    done = run("capture", "--config", config, "--count", "3", "--out", tmp_path / "good")
    assert done.returncode == 0, done.stderr
    pictures = [cv2.imread(str(path)) for path in (tmp_path / "good").glob("*.png")]
    assert [picture.shape for picture in pictures if picture is not None] == [(192, 256, 3)] * 3
    assert "these will be drawn parts, not your camera's" in done.stderr


def test_capture_tells_how_many_pictures_there_are_not_how_many_were_asked_for(tmp_path: Path) -> None:
    config = tmp_path / "station.toml"
    config.write_text("[source]\nsimulated_width = 256\nsimulated_height = 192\nframes = 2\n", encoding="utf-8")
    done = run("capture", "--config", config, "--count", "5", "--out", tmp_path / "good")
    assert done.returncode == 0, done.stderr
    assert "capturing: 2/5" in done.stderr
    assert "5/5" not in done.stderr
    assert "2 pictures in" in done.stderr
    assert "of 5: the source or the parts have ended" in done.stderr
