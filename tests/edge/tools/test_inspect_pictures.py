from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.rig.station import FRAME_SIZE
from edge.bundle.bundle import read_bundle
from edge.errors import SettingsError, SourceError
from edge.files.pictures import read_picture, write_picture
from edge.inspection.inspector import Inspector
from edge.records import Outcome, Verdict
from edge.tools.inspect_pictures import inspect_pictures, plan_outputs
from tests.bundles import draw_defective, draw_good
from tests.disks import run_with_file_limit


@pytest.fixture(scope="module")
def inspector(bundle_dir: Path) -> Inspector:
    return Inspector(read_bundle(bundle_dir))


def some_picture(path: Path) -> Path:
    write_picture(path, np.zeros((8, 8, 3), np.uint8))
    return path


def test_results_are_named_after_their_pictures(tmp_path: Path) -> None:
    some_picture(tmp_path / "in" / "a.png")
    (planned,) = plan_outputs([str(tmp_path / "in")], tmp_path / "out")
    assert (planned.overlay, planned.map) == (tmp_path / "out" / "a.jpg", tmp_path / "out" / "a.npy")


def test_no_two_pictures_share_a_result(tmp_path: Path) -> None:
    for name in ("x/a.png", "y/a.png", "x/a.jpg", "x/a_png.png", "x/b.png", "z/x/a.png"):
        some_picture(tmp_path / name)
    places = [str(tmp_path / name) for name in ("x", "y", "z/x")]
    planned = plan_outputs(places, tmp_path / "out")
    assert len(planned) == 6
    assert len({entry.overlay for entry in planned}) == 6
    assert len({entry.map for entry in planned}) == 6


def test_pictures_of_the_same_name_are_told_apart_by_their_directory_and_suffix(tmp_path: Path) -> None:
    for name in ("x/a.png", "y/a.png", "y/b.png"):
        some_picture(tmp_path / name)
    planned = plan_outputs([str(tmp_path / "x"), str(tmp_path / "y")], tmp_path / "out")
    assert [entry.overlay.name for entry in planned] == ["x_a_png.jpg", "y_a_png.jpg", "b.jpg"]
    assert [entry.name for entry in planned] == [str(tmp_path / "x/a.png"), str(tmp_path / "y/a.png"), "b.png"]


def test_a_picture_whose_name_is_as_long_as_names_can_be_gets_a_shorter_one(tmp_path: Path) -> None:
    first, second = ("ä" * 120 + end for end in ("1", "2"))
    for name in (first, second):
        some_picture(tmp_path / "p.png").rename(tmp_path / f"{name}.png")
    planned = plan_outputs([str(tmp_path)], tmp_path / "out")
    assert len({entry.overlay for entry in planned}) == 2
    for entry in planned:
        write_picture(entry.overlay, np.zeros((8, 8, 3), np.uint8))


def test_a_picture_named_twice_is_inspected_once(tmp_path: Path) -> None:
    picture = some_picture(tmp_path / "a.png")
    assert len(plan_outputs([str(picture), str(tmp_path)], tmp_path / "out")) == 1


def test_a_picture_is_never_overwritten_by_its_overlay(tmp_path: Path) -> None:
    picture = some_picture(tmp_path / "a.jpg")
    with pytest.raises(SettingsError, match=f"would overwrite {picture}"):
        plan_outputs([str(tmp_path)], tmp_path)


def test_a_place_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such picture"):
        plan_outputs([str(tmp_path / "nowhere")], tmp_path / "out")


def test_every_picture_gets_an_overlay_a_map_and_a_verdict_and_what_cannot_be_judged_is_named(
    tmp_path: Path, inspector: Inspector
) -> None:
    pictures, out = tmp_path / "in", tmp_path / "out"
    write_picture(pictures / "1-good.png", draw_good(0).image)
    write_picture(pictures / "2-defective.png", draw_defective(0).image)
    (pictures / "3-torn.png").write_bytes(b"torn")
    write_picture(pictures / "4-small.png", np.zeros((50, 60, 3), np.uint8))
    told: list[tuple[int, Verdict]] = []
    complaints: list[str] = []
    unjudged = inspect_pictures(
        inspector,
        plan_outputs([str(pictures)], out),
        pixel_threshold=17.0,
        tell=lambda number, verdict: told.append((number, verdict)),
        complain=complaints.append,
    )
    assert unjudged == 2
    assert [(number, verdict.outcome) for number, verdict in told] == [
        (1, Outcome.PASS),
        (2, Outcome.FAIL),
        (3, Outcome.NO_RESULT),
        (4, Outcome.NO_RESULT),
    ]
    assert [verdict.identity.name for _, verdict in told] == [path.name for path in sorted(pictures.iterdir())]
    assert complaints[0].count("3-torn.png") == 1
    assert "4-small.png: expected 256×192" in complaints[1]
    assert sorted(path.name for path in out.iterdir()) == [
        "1-good.jpg",
        "1-good.npy",
        "2-defective.jpg",
        "2-defective.npy",
        "4-small.jpg",
    ]
    assert read_picture(out / "2-defective.jpg").shape[1] == FRAME_SIZE[1]
    good, bad = np.load(out / "1-good.npy"), np.load(out / "2-defective.npy")
    assert good.dtype == bad.dtype == np.float32
    assert good.shape == bad.shape == (128, 128)
    assert bad.max() > 17.0 > good.max()


INSPECT = """
import sys
from pathlib import Path
from edge.bundle.bundle import read_bundle
from edge.errors import PatchlineError
from edge.inspection.inspector import Inspector
from edge.tools.inspect_pictures import inspect_pictures, plan_outputs
bundle, picture, out = sys.argv[1:]
try:
    inspect_pictures(Inspector(read_bundle(Path(bundle))), plan_outputs([picture], Path(out)),
                     pixel_threshold=17.0, tell=print, complain=print)
except PatchlineError as error:
    sys.exit(str(error))
"""


def test_a_disk_that_takes_no_map_is_one_clear_error(tmp_path: Path, bundle_dir: Path) -> None:
    write_picture(tmp_path / "a.png", draw_good(0).image)
    arguments = (str(bundle_dir), str(tmp_path / "a.png"), str(tmp_path / "out"))
    done = run_with_file_limit(INSPECT, *arguments, max_bytes=50_000)  # an overlay fits, a map has 65 KB
    assert done.stderr.splitlines() == [
        f"{tmp_path / 'out' / 'a.npy'}: cannot be written (File too large); check disk space"
    ]
