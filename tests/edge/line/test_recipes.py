from __future__ import annotations

import gc
import os
import queue
import shutil
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.rig.brokers import wait_until
from edge.bundle.bundle import MANIFEST, GoldenRecord, read_manifest
from edge.errors import BundleError, SelfTestError
from edge.inspection.inspector import Inspector
from edge.inspection.options import InspectorOptions
from edge.line.recipe import Recipe, open_recipe
from edge.line.recipes import Recipes, RecipeState, Shelf, Switch
from edge.records import Outcome, Reason
from tests.bundles import draw_good, make_frame, reseal

PATIENCE_S = 60.0
ALL = ("a", "b", "c")
WRONG_GOLDEN = (GoldenRecord(file="golden/0.png", score=1.0, map_peak=1.0),)


class Bundles:
    """Bundles on disk, opened as in the service; opening can be held up."""

    def __init__(self, bundle: Path, root: Path) -> None:
        self.root = root
        self.opened: list[str] = []
        self.remembered: list[str] = []
        self.told: queue.Queue[Switch] = queue.Queue()
        self.may_open = threading.Event()
        self.may_open.set()
        self._bundle = bundle

    def add(self, name: str) -> Path:
        return Path(shutil.copytree(self._bundle, self.root / name))

    def shelf(self) -> Shelf:
        return Shelf(frozenset(ALL), self.identify, self.open)

    def identify(self, name: str) -> str:
        return read_manifest(self.root / name).identity

    def open(self, name: str) -> Recipe:
        self.opened.append(name)
        assert self.may_open.wait(PATIENCE_S)
        return open_recipe(self.root / name, InspectorOptions(), self_test=True, name=name)

    def switch_and_wait(self, recipes: Recipes, name: str) -> Switch:
        assert recipes.switch(name, self.told.put).state is RecipeState.LOADING
        return self.wait()

    def wait(self) -> Switch:
        return self.told.get(timeout=PATIENCE_S)

    def wait_until_opening(self, *names: str) -> None:
        wait_until(lambda: self.opened == list(names), f"{names} are opened")


@pytest.fixture
def shelf(bundle_dir: Path, tmp_path: Path) -> Bundles:
    shelf = Bundles(bundle_dir, tmp_path)
    for name in ALL:
        shelf.add(name)
    return shelf


@pytest.fixture
def station(shelf: Bundles) -> Iterator[Callable[[int], Recipes]]:
    """Recipes a, b and c, with a active."""
    opened: list[Recipes] = []

    def start(most_loaded: int = 2) -> Recipes:
        opened.append(Recipes(shelf.open("a"), shelf.shelf(), most_loaded, shelf.remembered.append))
        return opened[-1]

    yield start
    shelf.may_open.set()
    for recipes in opened:
        recipes.close()


Station = Callable[..., Recipes]


def test_a_recipe_is_loaded_in_the_background_and_then_answers_the_frames(shelf: Bundles, station: Station) -> None:
    recipes = station()
    shelf.may_open.clear()
    assert recipes.switch("b", shelf.told.put).state is RecipeState.LOADING
    shelf.wait_until_opening("a", "b")
    assert recipes.states() == {"a": RecipeState.ACTIVE, "b": RecipeState.LOADING, "c": RecipeState.ON_DISK}
    assert recipes.active.name == "a"
    verdict = recipes.active.inspectors[0].inspect(make_frame(draw_good(0).image)).verdict
    assert verdict.outcome is Outcome.PASS  # the old one goes on
    shelf.may_open.set()
    assert shelf.wait() == Switch("b", RecipeState.ACTIVE, "b", recipes.active.model)
    assert recipes.active.name == "b"
    assert recipes.states() == {"a": RecipeState.READY, "b": RecipeState.ACTIVE, "c": RecipeState.ON_DISK}
    assert recipes.active.inspectors[0].inspect(make_frame(draw_good(0).image)).verdict.outcome is Outcome.PASS


def test_a_recipe_that_is_ready_is_active_at_once_and_not_opened_again(shelf: Bundles, station: Station) -> None:
    recipes = station()
    shelf.switch_and_wait(recipes, "b")
    for name in ("a", "b", "b"):
        outcome = shelf.switch_and_wait(recipes, name)
        assert (outcome.state, outcome.recipe, recipes.active.name) == (RecipeState.ACTIVE, name, name)
    assert shelf.opened == ["a", "b"]


def test_a_damaged_bundle_is_refused_and_the_old_recipe_goes_on(shelf: Bundles, station: Station) -> None:
    recipes = station()
    before = recipes.active
    bank = shelf.root / "b" / "bank.npy"
    contents = bank.read_bytes()
    bank.write_bytes(contents[:-1] + bytes([contents[-1] ^ 1]))
    outcome = shelf.switch_and_wait(recipes, "b")
    assert outcome.state is RecipeState.REFUSED
    assert "bank.npy: contents differ from the record" in outcome.detail
    assert recipes.active is before
    assert recipes.states()["b"] is RecipeState.REFUSED
    bank.write_bytes(contents)
    assert shelf.switch_and_wait(recipes, "b").state is RecipeState.ACTIVE  # mended, and tried again


def test_a_recipe_that_fails_its_self_test_is_refused(shelf: Bundles, station: Station) -> None:
    recipes = station()
    reseal(shelf.root / "b", {"golden": WRONG_GOLDEN})
    outcome = shelf.switch_and_wait(recipes, "b")
    assert (outcome.state, recipes.active.name) == (RecipeState.REFUSED, "a")
    assert "golden self-test" in outcome.detail


def test_an_error_nobody_expected_refuses_the_recipe_too(shelf: Bundles) -> None:
    def fail(name: str) -> Recipe:
        raise MemoryError(name)

    recipes = Recipes(shelf.open("a"), Shelf(frozenset("ab"), shelf.identify, fail), 2, shelf.remembered.append)
    outcome = shelf.switch_and_wait(recipes, "b")
    recipes.close()
    assert outcome == Switch("b", RecipeState.REFUSED, "a", recipes.active.model, "MemoryError: b")
    assert recipes.active.name == "a"


def test_an_unknown_name_is_refused_with_the_known_ones(station: Station) -> None:
    recipes = station()
    outcome = recipes.switch("../etc")
    assert (outcome.state, outcome.detail) == (RecipeState.REFUSED, "there is no such recipe; known: a, b, c")
    assert recipes.active.name == "a"


def test_the_last_wish_counts(shelf: Bundles, station: Station) -> None:
    recipes = station(3)
    shelf.may_open.clear()
    recipes.switch("b", shelf.told.put)
    shelf.wait_until_opening("a", "b")
    recipes.switch("c", shelf.told.put)
    recipes.switch("a", shelf.told.put)
    told: dict[str, RecipeState] = {}
    while "a" not in told:  # in memory: it does not wait for what is being loaded
        told |= {(switch := shelf.wait()).name: switch.state}
    shelf.may_open.set()
    while len(told) < 3:
        told |= {(switch := shelf.wait()).name: switch.state}
    # c need not even be opened
    assert told == {"a": RecipeState.ACTIVE, "b": RecipeState.READY, "c": RecipeState.ON_DISK}
    assert shelf.opened == ["a", "b"]
    assert recipes.active.name == "a"


def test_everybody_who_wished_for_a_recipe_is_told(shelf: Bundles, station: Station) -> None:
    recipes = station()
    shelf.may_open.clear()
    for _ in range(3):
        recipes.switch("b", shelf.told.put)
    shelf.wait_until_opening("a", "b")
    shelf.may_open.set()
    assert {shelf.wait().state for _ in range(3)} == {RecipeState.ACTIVE}
    assert shelf.opened == ["a", "b"]


@pytest.mark.parametrize(("most_loaded", "ready"), [(1, set()), (2, {"b"}), (3, {"a", "b"})])
def test_no_more_recipes_are_kept_than_was_said_those_used_last(
    shelf: Bundles, station: Station, most_loaded: int, ready: set[str]
) -> None:
    recipes = station(most_loaded)
    inspectors = {"a": weakref.ref(recipes.active.inspectors[0])}
    for name in ("b", "c"):
        shelf.switch_and_wait(recipes, name)
        inspectors[name] = weakref.ref(recipes.active.inspectors[0])
    states = recipes.states()
    assert {name for name, state in states.items() if state is RecipeState.READY} == ready
    assert states["c"] is RecipeState.ACTIVE
    gc.collect()
    assert {name for name, inspector in inspectors.items() if inspector() is not None} == {"c", *ready}


def test_a_recipe_is_freed_when_its_last_frame_is_answered(shelf: Bundles, station: Station) -> None:
    recipes = station(1)
    answering: Inspector | None = recipes.active.inspectors[0]
    assert answering is not None
    freed = weakref.ref(answering)
    shelf.switch_and_wait(recipes, "b")
    assert answering.inspect(make_frame(draw_good(0).image)).verdict.outcome is Outcome.PASS
    answering = None
    gc.collect()
    assert freed() is None


def test_switching_from_many_threads_ends_with_the_recipe_of_one_of_them(shelf: Bundles, station: Station) -> None:
    recipes = station(3)
    for name in ("b", "c"):
        shelf.switch_and_wait(recipes, name)
    wrong: list[str] = []

    def switch(name: str) -> None:
        for _ in range(200):
            recipes.switch(name, shelf.told.put)
            if recipes.active.name not in {"a", "b", "c"} or len(recipes.states()) != 3:
                wrong.append(name)

    threads = [threading.Thread(target=switch, args=(name,)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {shelf.wait().state for _ in range(600)} <= {RecipeState.ACTIVE, RecipeState.READY}
    assert wrong == []
    assert list(recipes.states().values()).count(RecipeState.ACTIVE) == 1
    assert shelf.opened == ["a", "b", "c"]


def test_a_bundle_s_own_name_is_the_recipe_s_unless_another_is_given(bundle_dir: Path) -> None:
    frame = make_frame(draw_good(0).image)
    for name, expected in (("", "plate"), ("p7", "p7")):
        recipe = open_recipe(bundle_dir, InspectorOptions(), self_test=False, name=name)
        verdict = recipe.inspectors[0].inspect(frame).verdict
        assert recipe.name == verdict.recipe == expected
        assert recipe.no_result(frame.identity, Reason.OVERRUN, "").recipe == expected


def test_a_recipe_has_an_inspector_for_each_thread(bundle_dir: Path) -> None:
    options = InspectorOptions(mode="throughput", workers=3)
    recipe = open_recipe(bundle_dir, options, self_test=True)
    assert len(recipe.inspectors) == 3
    assert len({id(inspector.bank) for inspector in recipe.inspectors}) == 1


def test_opening_says_what_is_wrong(bundle_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=MANIFEST):
        open_recipe(tmp_path, InspectorOptions(), self_test=True)
    copy = Path(shutil.copytree(bundle_dir, tmp_path / "copy"))
    reseal(copy, {"golden": WRONG_GOLDEN})
    with pytest.raises(SelfTestError, match="golden"):
        open_recipe(copy, InspectorOptions(), self_test=True)
    assert open_recipe(copy, InspectorOptions(), self_test=False).name == "plate"


@pytest.mark.parametrize("beginning", ["active", "ready"])
def test_a_recipe_that_was_taught_anew_into_its_directory_is_loaded_anew(
    shelf: Bundles, station: Station, beginning: str
) -> None:
    recipes = station()
    old = shelf.switch_and_wait(recipes, "b").model
    if beginning == "ready":
        shelf.switch_and_wait(recipes, "a")
    reseal(shelf.root / "b", {"settings": {"taught": "anew"}})

    outcome = shelf.switch_and_wait(recipes, "b")
    new = shelf.identify("b")[:12]
    assert outcome == Switch("b", RecipeState.ACTIVE, "b", new)
    assert recipes.active.inspectors[0].inspect(make_frame(draw_good(0).image)).verdict.model == new != old
    assert shelf.opened == ["a", "b", "b"]
    assert shelf.switch_and_wait(recipes, "b").model == new
    assert shelf.opened == ["a", "b", "b"]  # once


def test_what_was_taught_badly_into_a_running_recipe_s_directory_is_refused_and_the_old_model_goes_on(
    shelf: Bundles, station: Station
) -> None:
    recipes = station()
    before = recipes.active
    reseal(shelf.root / "a", {"golden": WRONG_GOLDEN})
    outcome = shelf.switch_and_wait(recipes, "a")
    assert (outcome.state, outcome.recipe, outcome.model) == (RecipeState.REFUSED, "a", before.model)
    assert recipes.active is before
    (shelf.root / "a" / MANIFEST).write_text("{", encoding="utf-8")
    assert shelf.switch_and_wait(recipes, "a").state is RecipeState.REFUSED
    assert recipes.active is before


def test_a_bundle_that_nobody_ever_writes_to_its_end_holds_up_neither_the_line_nor_other_recipes(
    shelf: Bundles, station: Station
) -> None:
    recipes = station()
    for name in (MANIFEST, "bank.npy"):
        (shelf.root / "b" / name).unlink()
        os.mkfifo(shelf.root / "b" / name)
        outcome = shelf.switch_and_wait(recipes, "b")
        assert (outcome.state, outcome.recipe) == (RecipeState.REFUSED, "a")
        assert name in outcome.detail
        shutil.copy(shelf.root / "c" / MANIFEST, shelf.root / "b" / "new")
        (shelf.root / "b" / "new").rename(shelf.root / "b" / MANIFEST)
    assert shelf.switch_and_wait(recipes, "c").state is RecipeState.ACTIVE


def test_what_is_out_of_date_is_not_kept_beside_what_replaces_it(shelf: Bundles, station: Station) -> None:
    recipes = station(3)
    freed = []
    for name in ("b", "a"):
        shelf.switch_and_wait(recipes, name)
        freed.append(weakref.ref(recipes.active.inspectors[0]))
    for name in ("b", "a"):
        reseal(shelf.root / name, {"settings": {"taught": "anew"}})
        shelf.switch_and_wait(recipes, name)
    gc.collect()
    assert [inspector() for inspector in freed] == [None, None]


def test_taught_anew_while_it_is_being_loaded_a_recipe_is_loaded_again(shelf: Bundles, station: Station) -> None:
    recipes = station()
    shelf.may_open.clear()
    recipes.switch("b", shelf.told.put)
    shelf.wait_until_opening("a", "b")
    read_before = shelf.identify("b")
    reseal(shelf.root / "b", {"settings": {"taught": "anew"}})
    recipes.switch("b", shelf.told.put)
    shelf.may_open.set()
    shelf.wait()
    assert shelf.wait().model == recipes.active.model == shelf.identify("b")[:12] != read_before[:12]


def test_the_recipe_that_was_asked_for_is_remembered_and_the_one_that_is_refused_is_not(
    shelf: Bundles, station: Station
) -> None:
    recipes = station()
    chosen = [recipes.chosen]
    (shelf.root / "c" / MANIFEST).unlink()
    for name in ("c", "b", "c"):
        shelf.switch_and_wait(recipes, name)
        chosen.append(recipes.chosen)
    assert chosen == [False, False, True, True]
    assert shelf.remembered == ["b"]


def test_reloading_takes_over_what_was_taught_anew(shelf: Bundles, station: Station) -> None:
    recipes = station()
    reseal(shelf.root / "a", {"settings": {"taught": "anew"}})
    recipes.reload()
    wait_until(lambda: recipes.active.model == shelf.identify("a")[:12], "it is loaded")


@pytest.mark.parametrize("name", [MANIFEST, "bank.npy"])
def test_a_bundle_that_nobody_will_ever_write_to_the_end_is_refused_and_holds_up_nothing(
    shelf: Bundles, station: Station, name: str
) -> None:
    path = shelf.root / "b" / name
    path.unlink()
    os.mkfifo(path)
    recipes = station()
    told = shelf.switch_and_wait(recipes, "b")
    assert told.state is RecipeState.REFUSED
    assert f"{path}: cannot be read (it is a FIFO)" in told.detail
    assert shelf.switch_and_wait(recipes, "c").state is RecipeState.ACTIVE
