"""Settings from a TOML file, with `PATCHLINE_…` of the environment over it; what is wrong is said where it stands.

Nested keys are joined by two underscores: `PATCHLINE_MQTT__HOST=broker.local`. An unknown key is refused with the
nearest known name.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import SettingsError as EnvironmentSettingsError

from edge.errors import SettingsError
from edge.files.given import read_given
from edge.settings.paths import written
from edge.settings.source import SourceKind
from edge.settings.tree import ENVIRONMENT_PREFIX, NESTED_DELIMITER, Settings
from edge.settings.values import Section

_MOST_BYTES = 2**20
_MOST_DEPTH = 16  # tables and lists within one another; ours need four
_MOST_PROBLEMS = 10  # are told at once
_SHOWN = 80  # characters of a name or value that is wrong
_MOST_DOTS = 64  # in one line, but for those of a comment or of the line's one text
_ONE_TEXT = re.compile(r"""\s*(#.*|[\w-]+(\.[\w-]+){0,7}\s*=\s*("[^"]*"|'[^']*')\s*(#.*)?)""")
_LOGIN = re.compile(r"//.*@")


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
    except RecursionError as error:  # of JSON in a variable; a file has been looked at
        raise SettingsError(f"environment: {ENVIRONMENT_PREFIX}…: JSON that is nested too deeply") from error


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        text = read_given(path, most=_MOST_BYTES).decode("utf-8")
        values = None if _has_endless_key(text) else tomllib.loads(text)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: cannot be read (it is not UTF-8)") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: not valid TOML: {_shown(str(error))}") from error
    except ValueError as error:
        raise SettingsError(f"{path}: holds a number of thousands of digits") from error
    except RecursionError:
        values = None
    if values is None or _depth(values) > _MOST_DEPTH:
        raise SettingsError(f"{path}: tables and lists are nested more than {_MOST_DEPTH} deep")
    anchored: dict[str, Any] = written(values, path.parent)
    return anchored


def _has_endless_key(text: str) -> bool:
    """A key of n dotted parts would take the parser n² of memory. The dots of a path or an address are its own."""
    lines = (line for line in text.split("\n") if line.count(".") > _MOST_DOTS)
    return any(_ONE_TEXT.fullmatch(line) is None for line in lines)


def _depth(values: object) -> int:
    """Of tables and lists in one another, found without recursion: there may be thousands."""
    depth, layer = 0, [values]
    while layer := [item for value in layer for item in _inside(value)]:
        depth += 1
    return depth


def _inside(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _refuse_unknown_environment() -> None:
    settings = dict(walk_settings())
    known = set(settings)
    named_freely = {name for name, info in settings.items() if get_origin(info.annotation) is dict}
    for variable in os.environ:
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        name = variable.removeprefix(ENVIRONMENT_PREFIX).lower().replace(NESTED_DELIMITER, ".")
        tables = {key.split(".")[0] for key in known}
        if name not in known and name not in tables and name.split(".")[0] not in named_freely:
            raise SettingsError(
                f"environment: {_shown(variable)}: unknown setting {_shown(name)}{_nearest(name, known)}"
            )


def walk_settings(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every setting's dotted name and its definition; of what several kinds of source have, the first one's."""
    for key, info in model.model_fields.items():
        tables = [part for part in (info.annotation, *get_args(info.annotation)) if _is_table(part)]
        if not tables or type(None) in get_args(info.annotation):
            yield f"{prefix}{key}", info
        inner = [setting for table in tables for setting in walk_settings(table, f"{prefix}{key}.")]
        yield from {name: (name, found) for name, found in reversed(inner)}.values()


def _is_table(part: object) -> bool:
    return isinstance(part, type) and issubclass(part, Section)


def _explain(error: ValidationError, path: Path | None) -> str:
    problems = error.errors()
    lines = [_explain_one(problem, path) for problem in problems[:_MOST_PROBLEMS]]
    more = len(problems) - len(lines)
    return "; ".join([*lines, f"and {more} more"] if more else lines)


def _explain_one(problem: Mapping[str, Any], path: Path | None) -> str:
    name = _name(problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = {name for name, _ in walk_settings()}
        return f"{_where(name, path)}: unknown setting {_shown(name)}{_nearest(name, known)}"
    got = problem["input"]
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "union_tag_invalid":  # of no kind of source
        context = problem["ctx"]
        name, message, got = f"{name}.kind", f"expected one of {', '.join(SourceKind)}", context["tag"]
    return f"{_where(name, path)}: {message}" + ("" if isinstance(got, dict) else f", got {_repr(got)}")


def _name(place: Sequence[int | str]) -> str:
    """Dotted, as it is written: pydantic also names the kind of source, which is no table of its own."""
    first, *rest = place or ("settings",)
    if first == "source" and rest and rest[0] in list(SourceKind):
        rest = rest[1:]
    return ".".join(str(part) for part in (first, *rest))


def _repr(value: object) -> str:
    """As it came, but without user and password of an address."""
    try:
        return _shown(_LOGIN.sub("//…@", repr(value)))
    except ValueError:  # Python writes no number of so many digits
        return "a number of thousands of digits"


def _shown(text: str) -> str:
    """For one line of a terminal: nothing in it acts, and it is not longer than a person reads."""
    plain = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text[:_SHOWN])
    return plain if len(text) <= _SHOWN else f"{plain}…"


def _where(name: str, path: Path | None) -> str:
    """Who said it: the environment stands over the file."""
    variable = ENVIRONMENT_PREFIX + name.upper().replace(".", NESTED_DELIMITER)
    if path is None or variable in os.environ:
        return f"environment: {_shown(variable)}"
    return f"{path}: {_shown(name)}"


def _nearest(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name[:_SHOWN], known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""
