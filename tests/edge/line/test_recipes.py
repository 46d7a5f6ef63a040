from __future__ import annotations

import gc
import queue
import shutil
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.bundle.bundle import MANIFEST, GoldenRecord
from edge.errors import BundleError, SelfTestError
from edge.inspection.inspector import Inspector
from edge.inspection.options import InspectorOptions
from edge.line.recipes import Recipe, Recipes, RecipeState, Switch, open_recipe
from edge.records import Outcome
from tests.bundles import draw_good, make_frame, reseal

PATIENCE_S = 60.0
WRONG_GOLDEN = (GoldenRecord(file="golden/0.png", score=1.0, map_peak=1.0),)


class Shelf:
    """Bundles on disk, opened as in the service; opening can be held up."""

    def __init__(self, bundle: Path, root: Path) -> None:
        self.root = root
        self.opened: list[str] = []
        self.told: queue.Queue[Switch] = queue.Queue()
        self.may_open = threading.Event()
        self.may_open.set()
        self._bundle = bundle

    def add(self, name: str) -> Path:
        return Path(shutil.copytree(self._bundle, self.root / name))

    def open(self, name: str) -> Recipe:
        self.opened.append(name)
        assert self.may_open.wait(PATIENCE_S)
        return open_recipe(self.root / name, InspectorOptions(), self_test=True, name=name)

    def switch_and_wait(self, recipes: Recipes, name: str) -> Switch:
        first = recipes.switch(name, self.told.put)
        return self.told.get(timeout=PATIENCE_S) if first.state is RecipeState.LOADING else first


@pytest.fixture
def shelf(bundle_dir: Path, tmp_path: Path) -> Shelf:
    shelf = Shelf(bundle_dir, tmp_path)
    for name in ("a", "b", "c"):
        shelf.add(name)
    return shelf


@pytest.fixture
def station(shelf: Shelf) -> Iterator[Callable[[int], Recipes]]:
    """Recipes a, b and c, with a active."""
    opened: list[Recipes] = []

    def start(most_loaded: int = 2) -> Recipes:
        opened.append(Recipes(shelf.open("a"), frozenset({"b", "c"}), shelf.open, most_loaded))
        return opened[-1]

    yield start
    shelf.may_open.set()
    for recipes in opened:
        recipes.close()


Station = Callable[..., Recipes]


def test_a_recipe_is_loaded_in_the_background_and_then_answers_the_frames(shelf: Shelf, station: Station) -> None:
    recipes = station()
    shelf.may_open.clear()
    assert recipes.switch("b", shelf.told.put) == Switch("b", RecipeState.LOADING)
    assert recipes.states() == {"a": RecipeState.ACTIVE, "b": RecipeState.LOADING, "c": RecipeState.ON_DISK}
    assert recipes.active.name == "a"
    verdict = recipes.active.inspectors[0].inspect(make_frame(draw_good(0).image)).verdict
    assert verdict.outcome is Outcome.PASS  # the old one goes on
    shelf.may_open.set()
    assert shelf.told.get(timeout=PATIENCE_S) == Switch("b", RecipeState.ACTIVE)
    assert recipes.active.name == "b"
    assert recipes.states() == {"a": RecipeState.READY, "b": RecipeState.ACTIVE, "c": RecipeState.ON_DISK}
    assert recipes.active.inspectors[0].inspect(make_frame(draw_good(0).image)).verdict.outcome is Outcome.PASS


def test_a_recipe_that_is_ready_is_active_at_once_and_not_opened_again(shelf: Shelf, station: Station) -> None:
    recipes = station()
    shelf.switch_and_wait(recipes, "b")
    assert recipes.switch("a") == Switch("a", RecipeState.ACTIVE)
    assert recipes.switch("b") == Switch("b", RecipeState.ACTIVE)
    assert recipes.switch("b") == Switch("b", RecipeState.ACTIVE)
    assert shelf.opened == ["a", "b"]


def test_a_damaged_bundle_is_refused_and_the_old_recipe_goes_on(shelf: Shelf, station: Station) -> None:
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


def test_a_recipe_that_fails_its_self_test_is_refused(shelf: Shelf, station: Station) -> None:
    recipes = station()
    reseal(shelf.root / "b", {"golden": WRONG_GOLDEN})
    outcome = shelf.switch_and_wait(recipes, "b")
    assert (outcome.state, recipes.active.name) == (RecipeState.REFUSED, "a")
    assert "golden self-test" in outcome.detail


def test_an_error_nobody_expected_refuses_the_recipe_too(shelf: Shelf) -> None:
    def fail(name: str) -> Recipe:
        raise MemoryError(name)

    recipes = Recipes(shelf.open("a"), frozenset({"b"}), fail, 2)
    outcome = shelf.switch_and_wait(recipes, "b")
    recipes.close()
    assert outcome == Switch("b", RecipeState.REFUSED, "MemoryError: b")
    assert recipes.active.name == "a"


def test_an_unknown_name_is_refused_with_the_known_ones(station: Station) -> None:
    recipes = station()
    outcome = recipes.switch("../etc")
    assert (outcome.state, outcome.detail) == (RecipeState.REFUSED, "there is no such recipe; known: a, b, c")
    assert recipes.active.name == "a"


def test_the_last_wish_counts(shelf: Shelf, station: Station) -> None:
    recipes = station(3)
    shelf.may_open.clear()
    recipes.switch("b", shelf.told.put)
    while shelf.opened != ["a", "b"]:
        threading.Event().wait(0.005)
    recipes.switch("c", shelf.told.put)
    assert recipes.switch("a") == Switch("a", RecipeState.ACTIVE)
    shelf.may_open.set()
    assert shelf.told.get(timeout=PATIENCE_S) == Switch("b", RecipeState.READY)
    assert shelf.told.get(timeout=PATIENCE_S) == Switch("c", RecipeState.ON_DISK)  # it need not even be opened
    assert shelf.opened == ["a", "b"]
    assert recipes.active.name == "a"


def test_everybody_who_wished_for_a_recipe_is_told(shelf: Shelf, station: Station) -> None:
    recipes = station()
    shelf.may_open.clear()
    for _ in range(3):
        recipes.switch("b", shelf.told.put)
    shelf.may_open.set()
    assert {shelf.told.get(timeout=PATIENCE_S).state for _ in range(3)} == {RecipeState.ACTIVE}
    assert shelf.opened == ["a", "b"]


@pytest.mark.parametrize(("most_loaded", "ready"), [(1, set()), (2, {"b"}), (3, {"a", "b"})])
def test_no_more_recipes_are_kept_than_was_said_those_used_last(
    shelf: Shelf, station: Station, most_loaded: int, ready: set[str]
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


def test_a_recipe_is_freed_when_its_last_frame_is_answered(shelf: Shelf, station: Station) -> None:
    recipes = station(1)
    answering: Inspector | None = recipes.active.inspectors[0]
    assert answering is not None
    freed = weakref.ref(answering)
    shelf.switch_and_wait(recipes, "b")
    assert answering.inspect(make_frame(draw_good(0).image)).verdict.outcome is Outcome.PASS
    answering = None
    gc.collect()
    assert freed() is None


def test_switching_from_many_threads_ends_with_the_recipe_of_one_of_them(shelf: Shelf, station: Station) -> None:
    recipes = station(3)
    for name in ("b", "c"):
        shelf.switch_and_wait(recipes, name)
    wrong: list[str] = []

    def switch(name: str) -> None:
        for _ in range(200):
            recipes.switch(name)
            if recipes.active.name not in {"a", "b", "c"} or len(recipes.states()) != 3:
                wrong.append(name)

    threads = [threading.Thread(target=switch, args=(name,)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert list(recipes.states().values()).count(RecipeState.ACTIVE) == 1
    assert shelf.opened == ["a", "b", "c"]


def test_a_bundle_s_own_name_is_the_recipe_s_unless_another_is_given(bundle_dir: Path) -> None:
    assert open_recipe(bundle_dir, InspectorOptions(), self_test=False).name == "plate"
    assert open_recipe(bundle_dir, InspectorOptions(), self_test=False, name="p7").name == "p7"


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
