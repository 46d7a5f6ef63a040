"""Recipes: the bundles of one station, made ready in the background and exchanged between two frames.

The last wish counts: a recipe that has become ready after another one was wished for stays ready, and no more. At every
wish the bundle in memory is compared with the one on disk, by identity: one that was taught anew is loaded anew. A
recipe that is refused changes nothing. What is not kept any more is freed when its last frame is answered.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from edge.bundle.bundle import IDENTITY_DIGITS, Manifest, read_bundle
from edge.errors import PatchlineError
from edge.inspection.inspector import Inspector
from edge.inspection.opening import open_inspector
from edge.inspection.options import InspectorOptions
from edge.records import FrameIdentity, Reason, Verdict

_Result = TypeVar("_Result")

log = logging.getLogger("patchline.recipes")


@dataclass(frozen=True, slots=True, eq=False)
class Recipe:
    """A bundle that is ready to inspect with."""

    name: str  # as verdicts call it
    manifest: Manifest
    inspectors: tuple[Inspector, ...]  # one for each inspecting thread

    @property
    def model(self) -> str:
        """The bundle's identity as verdicts show it."""
        return self.manifest.identity[:IDENTITY_DIGITS]

    def no_result(self, identity: FrameIdentity, reason: Reason, detail: str) -> Verdict:
        """The answer to a frame or trigger that is not judged; from any thread."""
        return self.inspectors[0].no_result(identity, reason, detail)


class RecipeState(StrEnum):
    """How far a recipe is."""

    ACTIVE = "active"
    READY = "ready"  # in memory
    LOADING = "loading"  # compared with the disk, and made ready where it differs
    REFUSED = "refused"
    ON_DISK = "on_disk"


@dataclass(frozen=True, slots=True)
class Switch:
    """What became of a wish for a recipe. Ready or on disk: meanwhile another one was wished for."""

    name: str
    state: RecipeState
    recipe: str  # what inspects now
    model: str
    detail: str = ""  # for people: why it was refused


Tell = Callable[[Switch], None]


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where the bundles are. Both may raise `PatchlineError`, and are called in threads of their own."""

    names: frozenset[str]
    identify: Callable[[str], str]  # the identity of the bundle on disk
    open: Callable[[str], Recipe]


class Recipes:
    """The active recipe and those that are ready. `active` may be read, and `switch` called, from any thread."""

    def __init__(self, active: Recipe, shelf: Shelf, most_loaded: int, remember: Callable[[str], None]) -> None:
        """Begin with `active`, whose name is one of the shelf's.

        Args:
            active: inspects until another one is wished for.
            shelf: the bundles.
            most_loaded: kept at the most, those used last, and one more while it is being loaded beside a single one.
            remember: told the name of every recipe that a wish made active, in threads of ours.
        """
        self._shelf = shelf
        self._most_loaded = most_loaded
        self._remember = remember
        self._lock = threading.Lock()  # guards all that follows
        self._active = active
        self._loaded = {active.name: active}  # the one that was active last comes last
        self._loading: dict[tuple[str, str], list[Tell]] = {}  # by name and identity
        self._refused: dict[str, str] = {}
        self._wish = active.name
        self._chosen = False
        self._remembering = threading.Lock()
        # Two, so that what is in memory does not wait for what is being loaded.
        self._looker = ThreadPoolExecutor(1, thread_name_prefix="recipe-look")
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="recipe")

    @property
    def active(self) -> Recipe:
        """The recipe of the next frame."""
        return self._active

    @property
    def chosen(self) -> bool:
        """Somebody has wished for the active recipe since the start."""
        return self._chosen

    def switch(self, name: str, tell: Tell | None = None) -> Switch:
        """Make `name` the active recipe, as its bundle is on the disk: at once if that is in memory, else when it is.

        Unless there is no such recipe, the answer is `LOADING`, and `tell` is called later, in another thread, with
        what became of it.
        """
        with self._lock:
            if name not in self._shelf.names:
                known = ", ".join(sorted(self._shelf.names))
                return self._outcome(name, RecipeState.REFUSED, f"there is no such recipe; known: {known}")
            self._wish = name
            self._looker.submit(self._look, name, tell or _tell_nobody)
            return self._outcome(name, RecipeState.LOADING)

    def reload(self) -> None:
        """Take over what was taught anew of the recipe that was wished for last."""
        self.switch(self._wish)

    def states(self) -> dict[str, RecipeState]:
        """Every recipe's state, by name."""
        with self._lock:
            return {name: self._state(name) for name in sorted(self._shelf.names)}

    def close(self) -> None:
        """Load no more; waits for the recipe that is being loaded."""
        self._looker.shutdown(cancel_futures=True)
        self._loader.shutdown(cancel_futures=True)

    # The thread that looks at the disk.

    def _look(self, name: str, tell: Tell) -> None:
        identity, detail = _attempt(self._shelf.identify, name)
        with self._lock:
            if identity is None:
                outcome = self._refuse(name, detail)
            elif name != self._wish:
                outcome = self._superseded(name)
            elif self._is_loaded(name, identity):
                outcome = self._activate(name)
            else:
                self._load_soon((name, identity), tell)
                return
        self._conclude(outcome, [tell])

    def _load_soon(self, key: tuple[str, str], tell: Tell) -> None:
        if key not in self._loading:
            self._loading[key] = []
            self._loader.submit(self._load, key)
        self._loading[key].append(tell)

    # The thread that loads.

    def _load(self, key: tuple[str, str]) -> None:
        name, identity = key
        with self._lock:
            outcome = self._without_loading(name, identity)
            listeners = [] if outcome is None else self._loading.pop(key)
            if outcome is None:
                self._make_room(name)
        if outcome is None:
            recipe, detail = _attempt(self._shelf.open, name)
            with self._lock:
                listeners = self._loading.pop(key)
                outcome = self._refuse(name, detail) if recipe is None else self._take(recipe)
        self._conclude(outcome, listeners)

    def _conclude(self, outcome: Switch, listeners: Sequence[Tell]) -> None:
        if outcome.state is RecipeState.ACTIVE:
            with self._remembering:  # the last to write has read the last
                self._remember(self._active.name)
        for tell in listeners:
            tell(outcome)

    # With the lock.

    def _without_loading(self, name: str, identity: str) -> Switch | None:
        """What has become of the wish before its turn came; None: it is to be loaded."""
        if name != self._wish:
            return self._superseded(name)
        return self._activate(name) if self._is_loaded(name, identity) else None

    def _take(self, recipe: Recipe) -> Switch:
        """Keep what is ready now, and inspect with it if it is still wished for."""
        self._loaded.pop(recipe.name, None)
        self._loaded = {recipe.name: recipe, **self._loaded}
        wished = recipe.name == self._wish
        outcome = self._activate(recipe.name) if wished else self._superseded(recipe.name)
        self._forget(self._most_loaded)
        return outcome

    def _activate(self, name: str) -> Switch:
        recipe = self._loaded.pop(name)
        self._loaded[name] = recipe
        self._refused.pop(name, None)
        self._chosen = True
        if recipe is not self._active:
            self._active = recipe
            log.info("recipe active", extra={"fields": {"recipe": name, "model": recipe.model}})
        return self._outcome(name, RecipeState.ACTIVE)

    def _refuse(self, name: str, detail: str) -> Switch:
        self._refused[name] = detail
        return self._outcome(name, RecipeState.REFUSED, detail)

    def _superseded(self, name: str) -> Switch:
        self._refused.pop(name, None)
        return self._outcome(name, RecipeState.READY if name in self._loaded else RecipeState.ON_DISK)

    def _outcome(self, name: str, state: RecipeState, detail: str = "") -> Switch:
        return Switch(name, state, self._active.name, self._active.model, detail)

    def _is_loaded(self, name: str, identity: str) -> bool:
        return name in self._loaded and self._loaded[name].manifest.identity == identity

    def _make_room(self, name: str) -> None:
        """For a recipe that is to be loaded; what is in memory of the same name is out of date."""
        if name != self._active.name:
            self._loaded.pop(name, None)
        self._forget(self._most_loaded - 1)

    def _forget(self, most: int) -> None:
        for name in list(self._loaded)[: max(0, len(self._loaded) - most)]:
            if name != self._active.name:
                del self._loaded[name]

    def _state(self, name: str) -> RecipeState:
        if name == self._active.name:
            return RecipeState.ACTIVE
        if any(name == loading for loading, _ in self._loading):
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
    name = name or bundle.manifest.name
    options = dataclasses.replace(options, recipe=name)
    opened = open_inspector(bundle, options, note=log.info, warn=log.warning, self_test=self_test)
    return Recipe(name, bundle.manifest, opened.inspector.team())


def _attempt(action: Callable[[str], _Result], name: str) -> tuple[_Result | None, str]:
    """What `action` gives; or None and why, for whatever it is, the active recipe goes on."""
    try:
        return action(name), ""
    except Exception as error:  # the top of a thread
        expected = isinstance(error, PatchlineError)
        detail = str(error) if expected else f"{type(error).__name__}: {error}"
        fields = {"recipe": name, "detail": detail}
        log.log(logging.ERROR, "recipe refused", exc_info=not expected, extra={"fields": fields})
        return None, detail


def _tell_nobody(switch: Switch) -> None:
    """Nobody waits for it."""
    del switch
