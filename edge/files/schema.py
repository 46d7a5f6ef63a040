"""JSON on disk as strict records: a schema version, hashed files, one error that says what is wrong where."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge.errors import BundleError, PatchlineError
from edge.files.atomic import write_file


class Strict(BaseModel):
    """Frozen, and refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FileRecord(Strict):
    """Size and hash of one file."""

    size: int = Field(ge=0, description="bytes")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


def hash_bytes(data: bytes) -> FileRecord:
    """Size and sha256 of `data`."""
    return FileRecord(size=len(data), sha256=hashlib.sha256(data).hexdigest())


def read_verified(directory: Path, name: str, expected: FileRecord) -> bytes:
    """The bytes of `directory/name`, verified against its record.

    Raises:
        BundleError: the file cannot be read, or its size or hash is not the recorded one.
    """
    path = directory / name
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"{path}: cannot be read ({error.strerror}); make the directory again or copy it whole"
        ) from error
    got = hash_bytes(data)
    if got != expected:
        raise BundleError(
            f"{path}: contents differ from the record: expected {expected.size} bytes, sha256 "
            f"{expected.sha256[:12]}…, got {got.size} bytes, sha256 {got.sha256[:12]}…; copy it again"
        )
    return data


Schema = TypeVar("Schema", bound=Strict)


def read_json(path: Path, schema: type[Schema]) -> Schema:
    """`path` as `schema`.

    Raises:
        BundleError: the file cannot be read or does not follow the schema.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{path}: cannot be read ({error}); is this the right directory?") from error
    try:
        return schema.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BundleError(
            f"{path}: {where}: {first['msg']} (of {error.error_count()} problems); "
            f"it was made by another version of Patchline or edited: make it again"
        ) from error


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
