from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge.line.first_recipe import FirstRecipe, LastRecipe, choose_first
from edge.settings.tree import Settings

PLATE, DISC = Path("/bundles/plate"), Path("/bundles/disc")


@pytest.mark.parametrize(
    ("settings", "last", "expected"),
    [
        ({}, "", FirstRecipe("", PLATE, "")),
        ({}, "plate", FirstRecipe("", PLATE, "")),  # there is only one: nothing can differ
        ({"recipes": True}, "", FirstRecipe("plate", PLATE, "")),
        ({"recipes": True}, "plate", FirstRecipe("plate", PLATE, "")),
        ({"recipes": True}, "disc", FirstRecipe("plate", PLATE, "disc")),
        ({"recipes": True, "at_start": "last"}, "disc", FirstRecipe("disc", DISC, "")),
        ({"recipes": True, "at_start": "last"}, "", FirstRecipe("plate", PLATE, "")),
        ({"recipes": True, "at_start": "last"}, "gone", FirstRecipe("plate", PLATE, "gone")),
    ],
)
def test_a_start_begins_as_the_settings_say_and_knows_what_it_leaves(
    settings: dict[str, Any], last: str, expected: FirstRecipe
) -> None:
    recipes = {"recipes": {"plate": PLATE, "disc": DISC}} if "recipes" in settings else {}
    inspection = {"recipe_at_start": settings.get("at_start", "bundle")}
    given = Settings.model_validate({"bundle": PLATE, "inspection": inspection, **recipes})
    assert choose_first(given, last) == expected


def test_the_last_recipe_is_kept_over_restarts(tmp_path: Path) -> None:
    path = tmp_path / "state" / "last-recipe"
    assert LastRecipe(path).read() == ""
    for name in ("plate", "Flasche ½"):
        LastRecipe(path).write(name)
        assert LastRecipe(path).read() == name
    assert [file.name for file in path.parent.iterdir()] == ["last-recipe"]


def test_a_file_of_nonsense_or_none_at_all_is_no_recipe_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "last-recipe"
    path.write_bytes(b"\xff\x00" * 10_000)
    assert LastRecipe(path).read() not in {"", "plate"}
    path.unlink()
    path.mkdir()
    assert LastRecipe(path).read() == ""


def test_a_state_directory_that_cannot_be_written_is_said_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text("a file", encoding="utf-8")
    LastRecipe(tmp_path / "state" / "last-recipe").write("plate")
    assert "a restart will not know the recipe" in caplog.text
