"""Recipes: the bundles of one station, made ready in the background and exchanged between two frames.

The last wish counts: a recipe that has become ready after another one was wished for stays ready, and no more. A
recipe that is refused changes nothing. What is not kept any more is freed when its last frame is answered.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from edge.bundle.bundle import Manifest, read_bundle
from edge.errors import PatchlineError
from edge.inspection.golden import run_golden
from edge.inspection.inspector import Inspector
from edge.inspection.options import InspectorOptions

log = logging.getLogger("patchline.recipes")


@dataclass(frozen=True, slots=True, eq=False)
class Recipe:
    """A bundle that is ready to inspect with."""

    name: str
    manifest: Manifest
    inspectors: tuple[Inspector, ...]  # one for each inspecting thread


class RecipeState(StrEnum):
    """How far a recipe is."""

    ACTIVE = "active"
    READY = "ready"  # loaded: switching to it takes no time
    LOADING = "loading"
    REFUSED = "refused"
    ON_DISK = "on_disk"


@dataclass(frozen=True, slots=True)
class Switch:
    """What became of a wish for a recipe. Ready or on disk: meanwhile another one was wished for."""

    name: str
    state: RecipeState
    detail: str = ""  # for people: why it was refused


Prepare = Callable[[str], Recipe]
Tell = Callable[[Switch], None]


class Recipes:
    """The active recipe and those that are ready. `active` may be read, and `switch` called, from any thread."""

    def __init__(self, active: Recipe, names: frozenset[str], prepare: Prepare, most_loaded: int) -> None:
        """Begin with `active`; of `names`, `prepare` makes the others ready, which may raise `PatchlineError`.

        At most `most_loaded` are kept, those used last, and one more while it is being loaded beside a single one.
        """
        self._prepare = prepare
        self._names = names | {active.name}
        self._most_loaded = most_loaded
        self._lock = threading.Lock()
        self._active = active
        self._loaded = {active.name: active}  # the one that was active last comes last
        self._loading: dict[str, list[Tell]] = {}
        self._refused: dict[str, str] = {}
        self._wish = active.name
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="recipe")

    @property
    def active(self) -> Recipe:
        """The recipe of the next frame."""
        return self._active

    def switch(self, name: str, tell: Tell | None = None) -> Switch:
        """Make `name` the active recipe, at once if it is ready, else as soon as it is.

        If the answer is `LOADING`, `tell` is called later, in another thread, with what became of it.
        """
        with self._lock:
            if name not in self._names:
                return Switch(name, RecipeState.REFUSED, f"there is no such recipe; known: {_listed(self._names)}")
            self._wish = name
            if name in self._loaded:
                self._activate(name)
                return Switch(name, RecipeState.ACTIVE)
            if name not in self._loading:
                self._loading[name] = []
                self._loader.submit(self._load, name)
            if tell is not None:
                self._loading[name].append(tell)
            return Switch(name, RecipeState.LOADING)

    def states(self) -> dict[str, RecipeState]:
        """Every recipe's state, by name."""
        with self._lock:
            return {name: self._state(name) for name in sorted(self._names)}

    def close(self) -> None:
        """Load no more; waits for the recipe that is being loaded."""
        self._loader.shutdown(cancel_futures=True)

    def _load(self, name: str) -> None:
        with self._lock:
            wished = name == self._wish
            if wished:
                self._forget(self._most_loaded - 1)  # room for the new one
        if not wished:
            self._finish(name, None, "")
            return
        try:
            recipe = self._prepare(name)
        except Exception as error:  # the top of a thread: whatever it is, the active recipe goes on
            expected = isinstance(error, PatchlineError)
            detail = str(error) if expected else f"{type(error).__name__}: {error}"
            log.log(logging.ERROR, "recipe refused", exc_info=not expected, extra={"fields": _fields(name, detail)})
            self._finish(name, None, detail)
        else:
            self._finish(name, recipe, "")

    def _finish(self, name: str, recipe: Recipe | None, detail: str) -> None:
        with self._lock:
            listeners = self._loading.pop(name)
            self._refused.pop(name, None)
            if detail:
                self._refused[name] = detail
            if recipe is not None:
                self._loaded = {name: recipe, **self._loaded}
                if self._wish == name:
                    self._activate(name)
                self._forget(self._most_loaded)
            outcome = Switch(name, self._state(name), detail)
        for tell in listeners:
            tell(outcome)

    def _activate(self, name: str) -> None:
        recipe = self._loaded.pop(name)
        self._loaded[name] = recipe
        if recipe is not self._active:
            self._active = recipe
            log.info("recipe active", extra={"fields": _fields(name)})

    def _forget(self, most: int) -> None:
        for name in list(self._loaded)[: max(0, len(self._loaded) - most)]:
            if name != self._active.name:
                del self._loaded[name]

    def _state(self, name: str) -> RecipeState:
        if name == self._active.name:
            return RecipeState.ACTIVE
        if name in self._loading:
            return RecipeState.LOADING
        if name in self._loaded:
            return RecipeState.READY
        return RecipeState.REFUSED if name in self._refused else RecipeState.ON_DISK


def open_recipe(directory: Path, options: InspectorOptions, *, self_test: bool, name: str = "") -> Recipe:
    """Read, verify, compile and test the bundle at `directory`; without a `name` it keeps the bundle's own.

    Raises:
        BundleError: something in it is missing, damaged, changed or of another version.
        SettingsError: device, region of interest or mask do not fit.
        SelfTestError: this device does not reproduce its golden scores.
    """
    bundle = read_bundle(directory)
    inspector = Inspector(bundle, options)
    if self_test:
        run_golden(inspector, bundle)
    return Recipe(name or bundle.manifest.name, bundle.manifest, inspector.team())


def _fields(name: str, detail: str = "") -> Mapping[str, str]:
    return {"recipe": name, "detail": detail} if detail else {"recipe": name}


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))
