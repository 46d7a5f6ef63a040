from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import ExportError
from export.datasets.category import Category, KindSummary, Layout
from export.datasets.find import find_categories
from export.datasets.ground_truth import read_mask_of
from export.datasets.verify import verify_dataset
from tests.places import SHARED

DATA = SHARED / "data"
HEIGHT, WIDTH = 6, 8
MVTEC_NAMES = ("000", "001", "002")
Make = Callable[[Path], Path]


def draw(path: Path, *, height: int = HEIGHT, width: int = WIDTH) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((height, width, 3), sum(path.name.encode()) % 200, np.uint8)
    assert cv2.imwrite(str(path), image)


def draw_mask(path: Path, rows: slice, value: int = 255, *, width: int = WIDTH) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros((HEIGHT, width), np.uint8)
    mask[rows, 2:4] = value
    assert cv2.imwrite(str(path), mask)


def make_mvtec(category: Path) -> Path:
    """`train/good` 3, `test/good` 3, `test/dent` 3 and `test/scratch` 2, with masks."""
    for name in MVTEC_NAMES:
        draw(category / "train" / "good" / f"{name}.png")
        draw(category / "test" / "good" / f"{name}.png")
        draw(category / "test" / "dent" / f"{name}.png")
        draw_mask(category / "ground_truth" / "dent" / f"{name}_mask.png", slice(0, 2))
    for name in MVTEC_NAMES[:2]:
        draw(category / "test" / "scratch" / f"{name}.png")
        draw_mask(category / "ground_truth" / "scratch" / f"{name}_mask.png", slice(3, 5))
    return category


def make_loco(category: Path) -> Path:
    for name in MVTEC_NAMES:
        draw(category / "train" / "good" / f"{name}.png")
        draw(category / "test" / "good" / f"{name}.png")
        for kind in ("logical_anomalies", "structural_anomalies"):
            draw(category / "test" / kind / f"{name}.png")
            draw_mask(category / "ground_truth" / kind / name / "000.png", slice(0, 1), 3)
    for name in MVTEC_NAMES[:2]:
        draw(category / "validation" / "good" / f"{name}.png")
    draw_mask(category / "ground_truth" / "logical_anomalies" / "001" / "001.png", slice(4, 6), 255)
    return category


def make_btad(category: Path) -> Path:
    for name in MVTEC_NAMES:
        draw(category / "train" / "ok" / f"{name}.bmp")
        draw(category / "test" / "ok" / f"{name}.bmp")
        draw(category / "test" / "ko" / f"{name}.bmp")
        draw_mask(category / "ground_truth" / "ko" / f"{name}.png", slice(0, 2))
    return category


def make_folders(category: Path) -> Path:
    for number in range(10):
        draw(category / "good" / f"{number}.png")
    for name in MVTEC_NAMES[:2]:
        draw(category / "bad" / f"{name}.png")
        draw(category / "bad" / "dent" / f"{name}.jpg")
    return category


def make_visa(root: Path) -> Path:
    """Two objects, `candle` and `pcb1`, each with 3 normal pictures (2 to teach) and 2 anomalous ones."""
    lines = ["object,split,label,image,mask"]
    for name in ("pcb1", "candle"):
        for number in range(3):
            image = f"{name}/Data/Images/Normal/{number:04}.JPG"
            draw(root / image)
            lines.append(f"{name},{'train' if number else 'test'},normal,{image},")
        for number in range(2):
            image = f"{name}/Data/Images/Anomaly/{number:03}.JPG"
            mask = f"{name}/Data/Masks/Anomaly/{number:03}.png"
            draw(root / image)
            draw_mask(root / mask, slice(0, 2), number + 1)
            lines.append(f"{name},test,anomaly,{image},{mask}")
    write_split(root, lines)
    return root


def write_split(root: Path, lines: list[str]) -> None:
    (root / "split_csv").mkdir(parents=True, exist_ok=True)
    (root / "split_csv" / "1cls.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def one(root: Path) -> Category:
    (category,) = find_categories(root)
    return category


def names(category: Category, kind: str) -> list[str]:
    return [picture.path.name for picture in category.test if picture.kind == kind]


def mask_at(category: Category, kind: str, index: int) -> np.ndarray:
    picture = [picture for picture in category.test if picture.kind == kind][index]
    mask = read_mask_of(picture, HEIGHT, WIDTH)
    assert mask is not None
    assert mask.dtype == bool
    return mask


def marked_rows(mask: np.ndarray) -> list[int]:
    assert not mask[:, :2].any()
    assert not mask[:, 4:].any()
    return np.flatnonzero(mask[:, 2:4].all(axis=1)).tolist()


# ---- layouts


def test_mvtec_is_read_with_kinds_and_masks(tmp_path: Path) -> None:
    category = one(make_mvtec(tmp_path / "bottle"))
    assert (category.name, category.layout, category.path) == ("bottle", Layout.MVTEC, tmp_path / "bottle")
    assert [path.relative_to(tmp_path).as_posix() for path in category.train] == [
        f"bottle/train/good/{name}.png" for name in MVTEC_NAMES
    ]
    assert category.validation == ()
    assert [picture.kind for picture in category.test] == ["good"] * 3 + ["dent"] * 3 + ["scratch"] * 2
    assert names(category, "dent") == [f"{name}.png" for name in MVTEC_NAMES]
    assert category.test[0].masks == ()
    assert [path.name for path in category.test[4].masks] == ["001_mask.png"]
    assert marked_rows(mask_at(category, "dent", 0)) == [0, 1]
    assert marked_rows(mask_at(category, "scratch", 1)) == [3, 4]


def test_masks_named_like_their_pictures_are_found(tmp_path: Path) -> None:
    make_mvtec(tmp_path)
    for path in sorted(tmp_path.glob("ground_truth/*/*_mask.png")):
        path.rename(path.with_name(path.name.replace("_mask", "")))
    assert [path.name for path in one(tmp_path).test[-1].masks] == ["001.png"]


def test_a_picture_whose_own_name_ends_in_mask_finds_its_mask(tmp_path: Path) -> None:
    make_mvtec(tmp_path)
    draw(tmp_path / "test" / "dent" / "face_mask.png")
    draw_mask(tmp_path / "ground_truth" / "dent" / "face_mask.png", slice(5, 6))
    assert marked_rows(mask_at(one(tmp_path), "dent", 3)) == [5]


def test_loco_has_validation_pictures_and_the_union_of_masks(tmp_path: Path) -> None:
    category = one(make_loco(tmp_path / "breakfast_box"))
    assert category.layout is Layout.LOCO
    assert (len(category.train), len(category.validation)) == (3, 2)
    assert [picture.kind for picture in category.test] == (
        ["good"] * 3 + ["logical_anomalies"] * 3 + ["structural_anomalies"] * 3
    )
    assert marked_rows(mask_at(category, "logical_anomalies", 0)) == [0]
    assert marked_rows(mask_at(category, "logical_anomalies", 1)) == [0, 4, 5]


def test_visa_is_read_by_its_table(tmp_path: Path) -> None:
    categories = find_categories(make_visa(tmp_path))
    assert [(category.name, category.layout) for category in categories] == [
        ("candle", Layout.VISA),
        ("pcb1", Layout.VISA),
    ]
    candle = categories[0]
    assert [path.name for path in candle.train] == ["0001.JPG", "0002.JPG"]
    assert names(candle, "good") == ["0000.JPG"]
    assert names(candle, "anomaly") == ["000.JPG", "001.JPG"]
    assert marked_rows(mask_at(candle, "anomaly", 0)) == [0, 1]  # its grey level is 1: the number of a kind


def test_a_table_saved_by_a_spreadsheet_is_read_too(tmp_path: Path) -> None:
    expected = find_categories(make_visa(tmp_path))
    table = tmp_path / "split_csv" / "1cls.csv"
    table.write_text("\ufeff" + table.read_text(encoding="utf-8").replace("\n", "\r\n"), encoding="utf-8", newline="")
    assert find_categories(tmp_path) == expected


def test_one_object_of_visa_can_be_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = find_categories(make_visa(tmp_path), ["candle"])
    assert find_categories(tmp_path / "candle") == whole
    monkeypatch.chdir(tmp_path / "candle")
    assert find_categories(Path()) == whole


def test_converted_visa_is_read_like_mvtec(tmp_path: Path) -> None:
    category = tmp_path / "1cls" / "candle"
    for name in MVTEC_NAMES:
        draw(category / "train" / "good" / f"{name}.JPG")
        draw(category / "test" / "good" / f"{name}.JPG")
        draw(category / "test" / "bad" / f"{name}.JPG")
        draw_mask(category / "ground_truth" / "bad" / f"{name}.png", slice(1, 2))
    read = one(tmp_path / "1cls")
    assert (read.name, read.layout) == ("candle", Layout.MVTEC)
    assert marked_rows(mask_at(read, "bad", 2)) == [1]


def test_btad_calls_good_ok(tmp_path: Path) -> None:
    category = one(make_btad(tmp_path / "01"))
    assert (category.name, category.layout) == ("01", Layout.BTAD)
    assert len(category.train) == 3
    assert [picture.kind for picture in category.test] == ["good"] * 3 + ["ko"] * 3
    assert marked_rows(mask_at(category, "ko", 1)) == [0, 1]


def test_plain_folders_hold_out_a_share_of_the_good_pictures(tmp_path: Path) -> None:
    category = one(make_folders(tmp_path / "plate"))
    assert category.layout is Layout.FOLDERS
    tested = [picture.path for picture in category.test if picture.kind == "good"]
    assert len(tested) == 2
    assert len(category.train) == 8
    assert sorted([*tested, *category.train]) == sorted((tmp_path / "plate" / "good").iterdir())
    assert names(category, "bad") == ["000.png", "001.png"]
    assert names(category, "dent") == ["000.jpg", "001.jpg"]


def test_the_split_of_plain_folders_depends_on_seed_and_names_alone(tmp_path: Path) -> None:
    here, there = make_folders(tmp_path / "here"), make_folders(tmp_path / "elsewhere" / "there")

    def tested(path: Path, seed: int) -> list[str]:
        (category,) = find_categories(path, seed=seed)
        return names(category, "good")

    assert tested(here, 0) == tested(there, 0)
    assert len({tuple(tested(here, seed)) for seed in range(5)}) > 1


def test_plain_folders_with_masks(tmp_path: Path) -> None:
    make_folders(tmp_path)
    for name in MVTEC_NAMES[:2]:
        draw_mask(tmp_path / "ground_truth" / "bad" / f"{name}.png", slice(2, 3))
        draw_mask(tmp_path / "ground_truth" / "dent" / f"{name}_mask.png", slice(4, 5))
    category = one(tmp_path)
    assert marked_rows(mask_at(category, "bad", 0)) == [2]
    assert marked_rows(mask_at(category, "dent", 1)) == [4]


def test_plain_folders_of_two_good_pictures_teach_one_and_test_one(tmp_path: Path) -> None:
    for name in ("good/0.png", "good/1.png", "bad/0.png"):
        draw(tmp_path / name)
    category = one(tmp_path)
    assert (len(category.train), len(names(category, "good"))) == (1, 1)


@pytest.mark.parametrize("make", [make_mvtec, make_loco, make_btad, make_folders])
def test_masks_are_optional(tmp_path: Path, make: Make) -> None:
    make(tmp_path)
    shutil.rmtree(tmp_path / "ground_truth", ignore_errors=True)
    category = one(tmp_path)
    for picture in category.test:
        assert picture.masks == ()
        assert (read_mask_of(picture, HEIGHT, WIDTH) is None) == (picture.kind != "good")


def test_masks_of_visa_are_optional(tmp_path: Path) -> None:
    make_visa(tmp_path)
    shutil.rmtree(tmp_path / "pcb1" / "Data" / "Masks")
    assert all(not picture.masks for picture in find_categories(tmp_path, ["pcb1"])[0].test)


def test_masks_of_good_pictures_do_not_matter(tmp_path: Path) -> None:
    make_mvtec(tmp_path)
    draw_mask(tmp_path / "ground_truth" / "good" / "000_mask.png", slice(0, 1))
    assert not mask_at(one(tmp_path), "good", 0).any()


def test_hidden_files_and_directories_are_passed_over(tmp_path: Path) -> None:
    make_mvtec(tmp_path / "bottle")
    (tmp_path / "bottle" / "test" / ".cache").mkdir()
    draw(tmp_path / "bottle" / "ground_truth" / "dent" / ".hidden.png")
    (tmp_path / ".git" / "train").mkdir(parents=True)
    (tmp_path / "license.txt").write_text("free", encoding="utf-8")
    assert one(tmp_path).name == "bottle"


# ---- categories


def test_categories_are_given_by_name_or_in_the_wanted_order(tmp_path: Path) -> None:
    make_mvtec(tmp_path / "nut")
    make_btad(tmp_path / "01")
    make_folders(tmp_path / "plate")
    assert [category.name for category in find_categories(tmp_path)] == ["01", "nut", "plate"]
    assert [category.name for category in find_categories(tmp_path, ["plate", "01"])] == ["plate", "01"]


@pytest.mark.parametrize("inside", [False, True])
def test_a_missing_category_is_refused_with_those_that_are_there(tmp_path: Path, inside: bool) -> None:
    make_mvtec(tmp_path / "nut")
    root = tmp_path / "nut" if inside else tmp_path
    with pytest.raises(ExportError, match="no category bolt, screw; found: nut"):
        find_categories(root, ["bolt", "nut", "screw"])


def test_a_directory_of_another_layout_is_refused_with_what_was_looked_for_and_found(tmp_path: Path) -> None:
    draw(tmp_path / "images" / "a.png")
    (tmp_path / "notes.txt").write_text("", encoding="utf-8")
    with pytest.raises(
        ExportError, match=r"no category at all.*train/good.*1cls\.csv.*good and bad.*Found: images/, n"
    ):
        find_categories(tmp_path)


def test_an_empty_directory_and_none_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="Found: nothing"):
        find_categories(tmp_path)
    with pytest.raises(ExportError, match="nowhere: no such directory"):
        find_categories(tmp_path / "nowhere")


def test_a_dataset_one_level_deeper_is_pointed_at(tmp_path: Path) -> None:
    make_mvtec(tmp_path / "1cls" / "candle")
    with pytest.raises(ExportError, match=r"Did you mean .*1cls\?"):
        find_categories(tmp_path)


def test_every_broken_category_is_named(tmp_path: Path) -> None:
    for name in ("bolt", "nut", "screw"):
        make_mvtec(tmp_path / name)
    shutil.rmtree(tmp_path / "bolt" / "train")
    shutil.rmtree(tmp_path / "screw" / "test" / "good")
    with pytest.raises(ExportError) as caught:
        find_categories(tmp_path)
    bolt, screw = str(caught.value).splitlines()
    assert f"{tmp_path / 'bolt' / 'train' / 'good'}: no such directory" in bolt
    assert f"{tmp_path / 'screw' / 'test' / 'good'}: no such directory" in screw
    assert [category.name for category in find_categories(tmp_path, ["nut"])] == ["nut"]


# ---- broken datasets


def empty(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()


@pytest.mark.parametrize(
    ("make", "directory"),
    [
        (make_mvtec, "train/good"),
        (make_mvtec, "test/good"),
        (make_mvtec, "test/dent"),
        (make_loco, "validation/good"),
        (make_loco, "ground_truth/logical_anomalies/001"),
        (make_btad, "train/ok"),
        (make_btad, "test/ko"),
        (make_folders, "good"),
        (make_folders, "bad/dent"),
    ],
)
def test_an_empty_directory_is_named(tmp_path: Path, make: Make, directory: str) -> None:
    make(tmp_path)
    empty(tmp_path / directory)
    with pytest.raises(ExportError, match=f"{directory}: no pictures among 0 entries.*extracted to its end"):
        find_categories(tmp_path)


@pytest.mark.parametrize(
    ("make", "directory"),
    [
        (make_mvtec, "train"),
        (make_mvtec, "train/good"),
        (make_mvtec, "test"),
        (make_loco, "validation/good"),
        (make_btad, "train/ok"),
        (make_btad, "test/ok"),
    ],
)
def test_a_missing_directory_is_named(tmp_path: Path, make: Make, directory: str) -> None:
    make(tmp_path)
    shutil.rmtree(tmp_path / directory)
    with pytest.raises(ExportError, match=f"{directory}.*: no such directory; is the dataset extracted to its end"):
        find_categories(tmp_path)


@pytest.mark.parametrize(
    ("make", "defective"),
    [
        (make_mvtec, ["test/dent", "test/scratch"]),
        (make_loco, ["test/logical_anomalies", "test/structural_anomalies"]),
        (make_btad, ["test/ko"]),
    ],
)
def test_a_category_without_defective_pictures_is_refused(tmp_path: Path, make: Make, defective: list[str]) -> None:
    make(tmp_path)
    for directory in [*defective, "ground_truth"]:
        shutil.rmtree(tmp_path / directory)
    with pytest.raises(ExportError, match="no defective pictures among 3 to test with"):
        find_categories(tmp_path)


def test_plain_folders_without_bad_pictures_are_refused(tmp_path: Path) -> None:
    empty(make_folders(tmp_path) / "bad")
    with pytest.raises(ExportError, match="no defective pictures among 2"):
        find_categories(tmp_path)


def test_plain_folders_with_one_good_picture_are_refused(tmp_path: Path) -> None:
    draw(tmp_path / "good" / "0.png")
    draw(tmp_path / "bad" / "0.png")
    with pytest.raises(ExportError, match="good: one picture; expected at least two"):
        find_categories(tmp_path)


@pytest.mark.parametrize(("make", "directory"), [(make_folders, "bad"), (make_btad, "test")])
def test_good_pictures_among_the_defective_ones_are_refused(tmp_path: Path, make: Make, directory: str) -> None:
    make(tmp_path)
    draw(tmp_path / directory / "good" / "0.png")
    with pytest.raises(ExportError, match=f"{directory}/good: good pictures where kinds of defects are expected"):
        find_categories(tmp_path)


def test_masks_missing_for_some_pictures_are_named(tmp_path: Path) -> None:
    make_mvtec(tmp_path)
    (tmp_path / "ground_truth" / "dent" / "001_mask.png").unlink()
    shutil.rmtree(tmp_path / "ground_truth" / "scratch")
    with pytest.raises(ExportError, match=r"3 of 5 def.* no mask: dent/001\.png, scratch/000\.png, scratch/001\.png; "):
        find_categories(tmp_path)


def test_at_most_ten_files_are_named(tmp_path: Path) -> None:
    make_mvtec(tmp_path)
    for number in range(100, 125):
        draw(tmp_path / "test" / "dent" / f"{number}.png")
    with pytest.raises(ExportError, match=r"25 of 30 .*: dent/100\.png, .*dent/109\.png and 15 more; add them"):
        find_categories(tmp_path)


def test_a_mask_that_visa_s_table_names_and_that_is_missing_is_named(tmp_path: Path) -> None:
    make_visa(tmp_path)
    (tmp_path / "candle" / "Data" / "Masks" / "Anomaly" / "001.png").unlink()
    with pytest.raises(ExportError, match=r"candle: 1 of 2 defective pictures have no mask: anomaly/001\.JPG"):
        find_categories(tmp_path)


def test_a_mask_of_two_pictures_is_refused(tmp_path: Path) -> None:
    make_mvtec(tmp_path)
    shutil.copy(tmp_path / "test" / "dent" / "001.png", tmp_path / "test" / "dent" / "001.bmp")
    with pytest.raises(ExportError, match=r"test/dent: pictures that differ in their suffix alone.*001\.bmp, 001\.png"):
        one(tmp_path)


def test_a_mask_that_is_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    make_mvtec(tmp_path)
    for mask in (tmp_path / "ground_truth").rglob("*.png"):
        mask.unlink()
        mask.symlink_to(tmp_path / "nowhere" / mask.name)
    with pytest.raises(ExportError, match=r"dent/001_mask\.png: cannot be read"):
        verify_dataset(tmp_path)


def test_masks_without_a_picture_are_named(tmp_path: Path) -> None:
    make_mvtec(tmp_path)
    (tmp_path / "test" / "dent" / "001.png").unlink()
    with pytest.raises(ExportError, match=r"ground_truth/dent: 1 masks without a picture .*: dent/001_mask\.png"):
        find_categories(tmp_path)


def test_directories_of_masks_without_a_picture_are_named(tmp_path: Path) -> None:
    make_loco(tmp_path)
    (tmp_path / "test" / "logical_anomalies" / "001.png").unlink()
    with pytest.raises(ExportError, match=r"1 masks without a picture of their name: 001/000\.png"):
        find_categories(tmp_path)


def test_masks_of_visa_without_a_picture_are_named(tmp_path: Path) -> None:
    make_visa(tmp_path)
    draw_mask(tmp_path / "pcb1" / "Data" / "Masks" / "Anomaly" / "077.png", slice(0, 1))
    with pytest.raises(ExportError, match=r"1 masks without a picture of their name: Anomaly/077\.png"):
        find_categories(tmp_path)


@pytest.mark.parametrize(("make", "kind"), [(make_mvtec, "dent"), (make_folders, "bent")])
def test_masks_of_a_kind_without_pictures_are_named(tmp_path: Path, make: Make, kind: str) -> None:
    make(tmp_path)
    draw_mask(tmp_path / "ground_truth" / kind / "000.png", slice(0, 1))
    shutil.rmtree(tmp_path / "test" / kind, ignore_errors=True)
    with pytest.raises(ExportError, match=f"ground_truth: masks of kinds that have no pictures: {kind}; "):
        find_categories(tmp_path)


def test_pictures_missing_from_visa_are_named(tmp_path: Path) -> None:
    make_visa(tmp_path)
    shutil.rmtree(tmp_path / "candle" / "Data" / "Images" / "Normal")
    (tmp_path / "pcb1" / "Data" / "Images" / "Anomaly" / "001.JPG").unlink()
    with pytest.raises(ExportError) as caught:
        find_categories(tmp_path)
    candle, pcb1 = str(caught.value).splitlines()
    assert "of 5 pictures named in 1cls.csv, 3 are missing: candle/Data/Images/Normal/0000.JPG, " in candle
    assert "1 are missing: pcb1/Data/Images/Anomaly/001.JPG;" in pcb1


def test_an_object_of_visa_that_was_not_extracted_is_missed(tmp_path: Path) -> None:
    make_visa(tmp_path)
    shutil.rmtree(tmp_path / "pcb1")
    with pytest.raises(ExportError, match=r"pcb1: of 5 pictures named in 1cls\.csv, 5 are missing"):
        find_categories(tmp_path)


def test_visa_without_its_table_is_refused(tmp_path: Path) -> None:
    make_visa(tmp_path)
    shutil.rmtree(tmp_path / "split_csv")
    with pytest.raises(
        ExportError, match=r"1cls\.csv: cannot be read \(No such file or directory\); VisA comes with it"
    ):
        find_categories(tmp_path)


HEADING = "object,split,label,image,mask"
GOOD_ROW = "candle,test,normal,candle/Data/Images/Normal/0000.JPG,"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "no column object, split, label, image, mask"),
        (["object,split,image,mask"], "no column label; expected object,split,label,image,mask"),
        ([HEADING], "no pictures below the heading"),
        ([HEADING, GOOD_ROW, "candle,test,normal"], "line 3: expected object,train or test"),
        ([HEADING, GOOD_ROW.replace("test", "val")], "line 2: expected object,train or test"),
        ([HEADING, GOOD_ROW.replace("normal", "good")], "line 2: expected .*normal or anomaly"),
        ([HEADING, GOOD_ROW.replace("candle/Data", "../Data")], "line 2: object, image and mask must be paths inside"),
        ([HEADING, GOOD_ROW.replace("candle/Data", "/Data")], "line 2: object, image and mask must be paths inside"),
        ([HEADING, GOOD_ROW + "../mask.png"], "line 2: object, image and mask must be paths inside"),
        ([HEADING, "candle,test,normal,,"], "line 2: object, image and mask must be paths inside"),
        ([HEADING, GOOD_ROW.replace("candle", "", 1)], "line 2: object, image and mask must be paths inside"),
        ([HEADING, GOOD_ROW + '"torn'], "not a table of comma-separated values"),
        ([HEADING, GOOD_ROW.replace("test,normal", "train,anomaly")], "1 defective pictures to teach from: line 2: "),
        ([HEADING, GOOD_ROW], "candle: no good pictures to teach from"),
        ([HEADING, GOOD_ROW.replace("test", "train")], "candle: no good pictures to test with"),
        ([HEADING, GOOD_ROW, GOOD_ROW.replace("test", "train")], "no defective pictures among 1"),
    ],
)
def test_a_broken_table_of_visa_is_refused_with_its_line(tmp_path: Path, lines: list[str], message: str) -> None:
    make_visa(tmp_path)
    write_split(tmp_path, lines)
    with pytest.raises(ExportError, match=message):
        find_categories(tmp_path)


def test_a_table_that_is_no_text_is_refused(tmp_path: Path) -> None:
    make_visa(tmp_path)
    (tmp_path / "split_csv" / "1cls.csv").write_bytes(b"object,split,label,image,mask\n\xff\xfe\xff")
    with pytest.raises(ExportError, match=r"1cls\.csv: not a table of comma-separated values"):
        find_categories(tmp_path)


def test_an_object_that_the_table_does_not_name_is_refused(tmp_path: Path) -> None:
    make_visa(tmp_path)
    (tmp_path / "candle").rename(tmp_path / "cake")
    with pytest.raises(ExportError, match=r"1cls\.csv: no object 'cake'"):
        find_categories(tmp_path / "cake")


# ---- verify


def test_verifying_counts_pictures_and_masks(tmp_path: Path) -> None:
    make_loco(tmp_path / "breakfast_box")
    make_folders(tmp_path / "plate")
    loco, folders = verify_dataset(tmp_path)
    assert (loco.name, loco.layout, loco.train, loco.validation) == ("breakfast_box", Layout.LOCO, 3, 2)
    assert loco.kinds == (
        KindSummary("good", 3, 0),
        KindSummary("logical_anomalies", 3, 3),
        KindSummary("structural_anomalies", 3, 3),
    )
    assert (folders.train, folders.validation) == (8, 0)
    assert folders.kinds == (KindSummary("bad", 2, 0), KindSummary("dent", 2, 0), KindSummary("good", 2, 0))


@pytest.mark.parametrize(
    "file", ["train/good/001.png", "validation/good/000.png", "test/good/002.png", "test/logical_anomalies/000.png"]
)
def test_verifying_names_pictures_that_were_cut_off(tmp_path: Path, file: str) -> None:
    make_loco(tmp_path)
    path = tmp_path / file
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ExportError, match=f"1 files cannot be used: .*{file}.*again"):
        verify_dataset(tmp_path)


def test_verifying_names_masks_of_another_size_in_every_category(tmp_path: Path) -> None:
    for name in ("bolt", "nut", "screw"):
        make_mvtec(tmp_path / name)
    for name in ("bolt", "screw"):
        draw_mask(tmp_path / name / "ground_truth" / "dent" / "002_mask.png", slice(0, 1), width=5)
    with pytest.raises(ExportError) as caught:
        verify_dataset(tmp_path)
    assert [line.split(": ")[0] for line in str(caught.value).splitlines()] == [
        str(tmp_path / "bolt"),
        str(tmp_path / "screw"),
    ]
    assert [summary.name for summary in verify_dataset(tmp_path, ["nut"])] == ["nut"]


# ---- real ones


@pytest.mark.shared
@pytest.mark.skipif(not (DATA / "mvtec_bottle").is_dir(), reason=f"no data in {DATA}")
def test_the_real_datasets_are_whole() -> None:
    hazelnut, bottle = verify_dataset(DATA, ["hazelnut_toy", "mvtec_bottle"])
    assert (hazelnut.layout, hazelnut.train) == (Layout.MVTEC, 28)
    assert hazelnut.kinds == (KindSummary("colour", 17, 17), KindSummary("good", 6, 0))
    assert (bottle.layout, bottle.train) == (Layout.MVTEC, 209)
    assert bottle.kinds == (
        KindSummary("broken_large", 20, 20),
        KindSummary("broken_small", 22, 22),
        KindSummary("contamination", 21, 21),
        KindSummary("good", 20, 0),
    )
