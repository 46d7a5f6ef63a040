"""Recipes: the bundles of one station, made ready in the background and exchanged between two frames.

The last wish counts: a recipe that has become ready after another one was wished for stays ready, and no more. At every
wish the bundle in memory is compared with the one on disk, by identity: one that was taught anew is loaded anew. A
recipe that is refused changes nothing. What is not kept any more is freed when its last frame is answered.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from edge.errors import PatchlineError
from edge.line.recipe import ReadyRecipes, Recipe

_Result = TypeVar("_Result")

log = logging.getLogger("patchline.recipes")


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
        self._remember = remember
        self._lock = threading.Lock()  # guards all that follows
        self._ready = ReadyRecipes(active, most_loaded)
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
        return self._ready.active

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
            elif self._ready.has(name, identity):
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
                self._ready.make_room(name)
        if outcome is None:
            recipe, detail = _attempt(self._shelf.open, name)
            with self._lock:
                listeners = self._loading.pop(key)
                outcome = self._refuse(name, detail) if recipe is None else self._take(recipe)
        self._conclude(outcome, listeners)

    def _conclude(self, outcome: Switch, listeners: Sequence[Tell]) -> None:
        if outcome.state is RecipeState.ACTIVE:
            with self._remembering:  # the last to write has read the last
                self._remember(self.active.name)
        for tell in listeners:
            tell(outcome)

    # With the lock.

    def _without_loading(self, name: str, identity: str) -> Switch | None:
        """What has become of the wish before its turn came; None: it is to be loaded."""
        if name != self._wish:
            return self._superseded(name)
        return self._activate(name) if self._ready.has(name, identity) else None

    def _take(self, recipe: Recipe) -> Switch:
        """Keep what is ready now, and inspect with it if it is still wished for."""
        self._ready.keep(recipe)
        wished = recipe.name == self._wish
        outcome = self._activate(recipe.name) if wished else self._superseded(recipe.name)
        self._ready.forget_the_oldest()
        return outcome

    def _activate(self, name: str) -> Switch:
        self._refused.pop(name, None)
        self._chosen = True
        if self._ready.activate(name):
            log.info("recipe active", extra={"fields": {"recipe": name, "model": self.active.model}})
        return self._outcome(name, RecipeState.ACTIVE)

    def _refuse(self, name: str, detail: str) -> Switch:
        self._refused[name] = detail
        return self._outcome(name, RecipeState.REFUSED, detail)

    def _superseded(self, name: str) -> Switch:
        self._refused.pop(name, None)
        return self._outcome(name, RecipeState.READY if name in self._ready else RecipeState.ON_DISK)

    def _outcome(self, name: str, state: RecipeState, detail: str = "") -> Switch:
        return Switch(name, state, self.active.name, self.active.model, detail)

    def _state(self, name: str) -> RecipeState:
        if name == self.active.name:
            return RecipeState.ACTIVE
        if any(name == loading for loading, _ in self._loading):
            return RecipeState.LOADING
        if name in self._ready:
            return RecipeState.READY
        return RecipeState.REFUSED if name in self._refused else RecipeState.ON_DISK


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
