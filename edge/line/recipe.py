"""One recipe: a bundle that is ready to inspect with, under the name by which it is asked for."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path

from edge.bundle.bundle import IDENTITY_DIGITS, Manifest, read_bundle
from edge.inspection.inspector import Inspector
from edge.inspection.opening import open_inspector
from edge.inspection.options import InspectorOptions
from edge.records import FrameIdentity, Reason, Verdict

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


class ReadyRecipes:
    """Recipes in memory by name, those that were active last. Not thread safe: its owner holds a lock."""

    def __init__(self, active: Recipe, most: int) -> None:
        """Keep `active`, and at most `most` in all."""
        self.active = active
        self._most = most
        self._ready = {active.name: active}  # the one that was active last comes last

    def __contains__(self, name: str) -> bool:
        return name in self._ready

    def has(self, name: str, identity: str) -> bool:
        """This very bundle is in memory."""
        return name in self._ready and self._ready[name].manifest.identity == identity

    def activate(self, name: str) -> bool:
        """Make the recipe the active one; False: it was."""
        recipe = self._ready.pop(name)
        self._ready[name] = recipe
        changed, self.active = recipe is not self.active, recipe
        return changed

    def make_room(self, name: str) -> None:
        """For a recipe that is to be loaded; what is in memory of the same name is out of date."""
        if name != self.active.name:
            self._ready.pop(name, None)
        self._forget(self._most - 1)

    def keep(self, recipe: Recipe) -> None:
        """In place of what was there of its name."""
        self._ready.pop(recipe.name, None)
        self._ready = {recipe.name: recipe, **self._ready}

    def forget_the_oldest(self) -> None:
        """Down to as many as are kept, never the active one."""
        self._forget(self._most)

    def _forget(self, most: int) -> None:
        for name in list(self._ready)[: max(0, len(self._ready) - most)]:
            if name != self.active.name:
                del self._ready[name]
