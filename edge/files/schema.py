"""JSON on disk as strict records: a schema version, hashed files, one error that says what is wrong where."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge.errors import BundleError, PatchlineError
from edge.files.atomic import write_file
from edge.files.regular import SizeError, read_regular

MOST_FILE_BYTES = 2**32  # such as a bank of a million vectors of 1024 dimensions
MOST_JSON_BYTES = 64 * 2**20  # a bundle's manifest has 150 bytes for each picture that was held out
_SHOWN = 300  # characters of a key, or of what is said about it

# Numbers and words of records that others may have written: none is larger than anything meant.
Count = Annotated[int, Field(ge=0, le=10**12)]
Share = Annotated[float, Field(ge=0, le=1)]
Words = Annotated[str, Field(max_length=4096, pattern=r"^[^\x00-\x1f\x7f]*$")]  # one line, printable


class Strict(BaseModel):
    """Frozen, and refuses keys it does not know and numbers that are none."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FileRecord(Strict):
    """Size and hash of one file."""

    size: int = Field(ge=0, description="bytes")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


def hash_bytes(data: bytes) -> FileRecord:
    """Size and sha256 of `data`."""
    return FileRecord(size=len(data), sha256=hashlib.sha256(data).hexdigest())


def read_verified(directory: Path, name: str, expected: FileRecord, *, most: int = MOST_FILE_BYTES) -> bytes:
    """The bytes of `directory/name`, verified against its record; nothing is read of what has another size.

    Args:
        directory: may be reached through links.
        name: relative; links below the directory are not followed.
        expected: what was recorded of it.
        most: bytes that such a file may have.

    Raises:
        BundleError: the file cannot be read, is no regular one, or its size or hash is not the recorded one.
    """
    path = directory / name
    try:
        data = read_regular(directory, name, size=expected.size, most=most)
    except SizeError as error:
        raise BundleError(f"{path}: contents differ from the record: {error.strerror}; copy it again") from error
    except OSError as error:
        raise BundleError(
            f"{path}: cannot be read ({error.strerror}); make the directory again or copy it whole"
        ) from error
    got = hash_bytes(data)
    if got != expected:
        raise BundleError(
            f"{path}: contents differ from the record: expected sha256 {expected.sha256[:12]}…, "
            f"got {got.sha256[:12]}…; copy it again"
        )
    return data


Schema = TypeVar("Schema", bound=Strict)


def read_json(path: Path, schema: type[Schema]) -> Schema:
    """`path` as `schema`.

    Raises:
        BundleError: the file cannot be read or does not follow the schema.
    """
    return parse_json(path, read_json_bytes(path), schema)


def read_json_bytes(path: Path) -> bytes:
    """What `path` holds; a link is not followed.

    Raises:
        BundleError: it cannot be read, is no regular file or larger than any JSON of ours.
    """
    try:
        return read_regular(path.parent, path.name, most=MOST_JSON_BYTES)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); is this the right directory?") from error


def parse_json(path: Path, contents: bytes, schema: type[Schema]) -> Schema:
    """`contents` as `schema`; `path` is what messages name.

    Raises:
        BundleError: they do not follow the schema.
    """
    try:
        return schema.model_validate_json(contents)
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"{part}." for part in first["loc"])[:-1]
        what = _printable(first["msg"].removeprefix("Value error, "))
        raise BundleError(
            f"{path}: {_printable(where) + ': ' if where else ''}{what} (of {error.error_count()} problems); "
            f"it was made by another version of Patchline or edited: make it again"
        ) from error


def _printable(text: str) -> str:
    """Keys and values come from the file: what moves a terminal's cursor must not."""
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in shown)


def write_json(value: Strict, path: Path, error: type[PatchlineError]) -> None:
    """Write `value`, whole or not at all; directories are made.

    Raises:
        error: the disk refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, (value.model_dump_json(indent=1) + "\n").encode())
    except OSError as problem:
        raise error(f"{path}: cannot be written ({problem.strerror})") from problem
