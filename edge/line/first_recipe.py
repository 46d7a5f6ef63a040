"""Which recipe a station begins with, and which one it left when it stopped: that stands in a file.

A restart that puts another product's recipe in force than the one that was running must not pass in silence.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from edge.files.atomic import write_file
from edge.settings.tree import Settings

log = logging.getLogger("patchline.recipes")

_LONGEST_BYTES = 1024


@dataclass(frozen=True, slots=True)
class FirstRecipe:
    """What a start begins with."""

    name: str  # under [recipes]; "": there are none, and the bundle's own name is the recipe's
    directory: Path
    left: str  # the recipe that was asked for last, where it is another one; "": it is not


def choose_first(settings: Settings, last: str) -> FirstRecipe:
    """By `inspection.recipe_at_start`; `last` is the recipe that was asked for last, "" if none was."""
    own = next((name for name, directory in settings.recipes.items() if directory == settings.bundle), "")
    if not settings.recipes or last in {"", own}:
        return FirstRecipe(own, settings.bundle, left="")
    if settings.inspection.recipe_at_start == "last" and last in settings.recipes:
        return FirstRecipe(last, settings.recipes[last], left="")
    return FirstRecipe(own, settings.bundle, left=last)


class LastRecipe:
    """The name of the recipe that somebody asked for last, in a file of the station's state directory."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> str:
        """The name; "": nobody has asked for one, or the file cannot be read."""
        try:
            with self._path.open("rb") as file:
                return file.read(_LONGEST_BYTES).decode(errors="replace").strip()
        except OSError:
            return ""

    def write(self, name: str) -> None:
        """Keep the name over restarts. A disk that refuses is no reason to stop inspecting: the log says so."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_file(self._path, f"{name}\n".encode())
        except OSError as error:
            log.warning("%s: cannot be written (%s): a restart will not know the recipe", self._path, error.strerror)
