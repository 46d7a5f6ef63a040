"""Paths as settings: each knows that it is relative to the file it was written in, and none is nonsense.

Paths of the environment, and of programs, are relative to the working directory, as in any other command.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

CREDENTIALS = "%d/"  # systemd's own word for $CREDENTIALS_DIRECTORY
# Linux' limits.h, without the NUL at the end.
LONGEST_PATH_BYTES, LONGEST_NAME_BYTES = 4095, 255
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Written(str):
    """A text of a settings file. It remembers the directory of that file."""

    __slots__ = ("directory",)
    directory: Path


def written(value: Any, directory: Path) -> Any:
    """`value` of a settings file in `directory`, with every text in it as `Written`."""
    if isinstance(value, dict):
        return {key: written(item, directory) for key, item in value.items()}
    if isinstance(value, list):
        return [written(item, directory) for item in value]
    if not isinstance(value, str):
        return value
    text = Written(value)
    text.directory = directory
    return text


def credentials_hint(path: Path) -> str:
    """More for the message about a secret's file that is not there."""
    if not str(path).startswith(CREDENTIALS):
        return ""
    return f"; {CREDENTIALS} is systemd's, for a service with LoadCredential= in its unit"


def _path(value: object) -> object:
    """Anchored, with `~` as the home directory. Whether something is there is for `--check` and the start to say."""
    if isinstance(value, Path):
        return Path(_sensible(str(value)))
    if not isinstance(value, str):
        return value
    try:
        path = Path(_sensible(value)).expanduser()
    except RuntimeError:
        raise ValueError("there is no such user's home directory") from None
    return value.directory / path if isinstance(value, Written) else path


def _text(value: object) -> object:
    """As `_path`, of a directory, picture or glob; empty is none."""
    path = _path(value) if value else value
    return str(path) if isinstance(path, Path) else path


def _credential(value: object) -> object:
    """Elsewhere than under systemd it stays as it is: what does not need the file, such as `capture`, goes on."""
    if isinstance(value, str | Path) and str(value).startswith(CREDENTIALS):
        directory = os.environ.get("CREDENTIALS_DIRECTORY")
        return Path(directory or CREDENTIALS) / _sensible(str(value)).removeprefix(CREDENTIALS)
    return _path(value)


def _sensible(text: str) -> str:
    if not text:
        raise ValueError("expected a path, got an empty one: leave the setting out")
    if _CONTROL.search(text):
        raise ValueError("a path holds no control characters")
    size = len(os.fsencode(text))
    if size > LONGEST_PATH_BYTES or any(len(os.fsencode(name)) > LONGEST_NAME_BYTES for name in text.split("/")):
        raise ValueError(
            f"expected a path of at most {LONGEST_PATH_BYTES} bytes and names of at most {LONGEST_NAME_BYTES}, "
            f"got {size} bytes"
        )
    return text


FilePath = Annotated[Path, BeforeValidator(_path)]
DirectoryPath = Annotated[Path, BeforeValidator(_path)]
# A file that may be a credential of systemd.
CredentialPath = Annotated[Path, BeforeValidator(_credential)]
# A directory, a picture or a glob of pictures.
PicturesPath = Annotated[str, BeforeValidator(_text)]
