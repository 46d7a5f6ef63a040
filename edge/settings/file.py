"""Settings from a TOML file, with `PATCHLINE_…` of the environment over it; what is wrong is said where it stands.

Nested keys are joined by two underscores: `PATCHLINE_MQTT__HOST=broker.local`. An unknown key is refused with the
nearest known name.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import SettingsError as EnvironmentSettingsError

from edge.errors import SettingsError
from edge.settings.sections import CREDENTIALS, Section
from edge.settings.tree import ENVIRONMENT_PREFIX, NESTED_DELIMITER, Settings

# Written in a file, these are relative to the directory of that file.
_PATHS = (
    ("bundle",),
    ("source", "path"),
    ("source", "credentials_file"),
    ("inspection", "mask"),
    ("inspection", "cache_dir"),
    ("outbox", "directory"),
    ("mqtt", "password_file"),
    ("mqtt", "ca_file"),
    ("mqtt", "certificate_file"),
    ("mqtt", "key_file"),
    ("sparkplug", "mqtt", "password_file"),
    ("sparkplug", "mqtt", "ca_file"),
    ("sparkplug", "mqtt", "certificate_file"),
    ("sparkplug", "mqtt", "key_file"),
)


def load_settings(path: Path | None) -> Settings:
    """The settings of `path` (none: defaults) with the environment over them.

    Raises:
        SettingsError: the file cannot be read, is not TOML, or a value or key is wrong.
    """
    values = {} if path is None else _read_toml(path)
    _refuse_unknown_environment()
    try:
        return Settings(**values)
    except ValidationError as error:
        raise SettingsError(_explain(error, path)) from error
    except EnvironmentSettingsError as error:
        raise SettingsError(f"environment: {error}") from error


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read ({error})") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: not valid TOML: {error}") from error
    recipes = values.get("recipes")
    names = recipes if isinstance(recipes, dict) else {}
    for keys in (*_PATHS, *(("recipes", name) for name in names)):
        _anchor(values, keys, path.parent)
    return values


def _anchor(values: dict[str, Any], keys: tuple[str, ...], base: Path) -> None:
    *tables, last = keys
    table: Any = values
    for key in tables:
        table = table.get(key) if isinstance(table, dict) else None
    if isinstance(table, dict) and isinstance(table.get(last), str) and table[last]:
        if table[last].startswith(CREDENTIALS):
            return
        try:
            table[last] = str(base / Path(table[last]).expanduser())
        except RuntimeError as error:
            raise SettingsError(f"{'.'.join(keys)}: {table[last]}: there is no such user's home directory") from error


def _refuse_unknown_environment() -> None:
    known = {name for name, _ in walk_settings()}
    for variable in os.environ:
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        name = variable.removeprefix(ENVIRONMENT_PREFIX).lower().replace(NESTED_DELIMITER, ".")
        tables = {key.split(".")[0] for key in known}
        if name not in known and name not in tables:
            raise SettingsError(f"environment: {variable}: unknown setting {name}{_nearest(name, known)}")


def walk_settings(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every setting's dotted name and its definition."""
    for key, info in model.model_fields.items():
        annotation = info.annotation
        if isinstance(annotation, type) and issubclass(annotation, Section):
            yield from walk_settings(annotation, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", info
            for part in get_args(annotation):
                if isinstance(part, type) and issubclass(part, Section):
                    yield from walk_settings(part, f"{prefix}{key}.")


def _explain(error: ValidationError, path: Path | None) -> str:
    known = {name for name, _ in walk_settings()}
    lines = []
    for problem in error.errors():
        name = ".".join(str(part) for part in problem["loc"]) or "settings"
        if problem["type"] == "extra_forbidden":
            lines.append(f"{_where(name, path)}: unknown setting {name}{_nearest(name, known)}")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            got = problem["input"]
            shown = "" if isinstance(got, dict) else f", got {got!r}"
            lines.append(f"{_where(name, path)}: {message}{shown}")
    return "; ".join(lines)


def _where(name: str, path: Path | None) -> str:
    """Who said it: the environment stands over the file."""
    variable = ENVIRONMENT_PREFIX + name.upper().replace(".", NESTED_DELIMITER)
    return f"environment: {variable}" if path is None or variable in os.environ else f"{path}: {name}"


def _nearest(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""
