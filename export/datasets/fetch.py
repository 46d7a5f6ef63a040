"""A published dataset's archive → a directory: downloaded, checked against its sha256, extracted, there whole or not.

Nothing is extracted before the hash is right, and nothing is written outside the directory.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import tarfile
import urllib.request
import zipfile
from pathlib import Path

from edge.errors import ExportError
from edge.terminal import phase, say
from export.datasets.public import DATASETS, Archive, describe_dataset

_TIMEOUT_S = 30.0  # without a single byte
_CHUNK_BYTES = 1 << 20
_ROOM = 2.1  # the archive and its contents, which are pictures and hardly compressed


def fetch_dataset(name: str, directory: Path, *, base: str | None = None) -> Path:
    """Download a published dataset into `directory`; returns what `evaluate` is given.

    Args:
        name: one of `DATASETS`.
        directory: must not exist yet, or be empty.
        base: another address that holds the archive under its own file name: a mirror.

    Raises:
        ExportError: the dataset is unknown or has no public address, or as `fetch_archive`.
    """
    description = describe_dataset(name)
    archive = DATASETS[name].archive
    if archive is None:
        raise ExportError(f"{name}: its publisher gives it out by hand, so it cannot be fetched.\n{description}")
    address = archive.url if base is None else f"{base.rstrip('/')}/{archive.url.rpartition('/')[2]}"
    try:
        return fetch_archive(archive, directory, address)
    except ExportError as error:
        raise ExportError(f"{error}\nBy hand, on any machine with a network:\n{description}") from error


def fetch_archive(archive: Archive, directory: Path, address: str) -> Path:
    """Download `archive` from `address`, verify its hash, and extract it as `directory`, whole or not at all.

    Raises:
        ExportError: `directory` holds something already, the address cannot be read to its end, the hash is another
            one, there is no room, or the archive reaches outside its directory.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ExportError(f"{directory}: holds something already; give another directory, or verify it as it is")
    file = directory.with_name(f".{directory.name}.{os.getpid()}.part")
    staging = directory.with_name(f".{directory.name}.{os.getpid()}.tmp")
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        _download(address, file)
        _check_hash(file, archive, address)
        say(f"sha256 is right; extracting into {directory}")
        _extract(file, staging, archive.url)
        if not (staging / archive.directory).is_dir():
            raise ExportError(f"{address}: no {archive.directory} in the archive; it is not what it was")
        if directory.exists():
            directory.rmdir()
        staging.rename(directory)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ExportError(
            f"{address}: cannot be fetched into {directory} ({error}); nothing was left behind"
        ) from error
    finally:
        file.unlink(missing_ok=True)
        shutil.rmtree(staging, ignore_errors=True)
    return directory / archive.directory


def _download(address: str, file: Path) -> None:
    if not address.startswith(("https://", "http://")):
        raise ValueError("the address must begin with https:// or http://")
    with urllib.request.urlopen(address, timeout=_TIMEOUT_S) as answer:  # noqa: S310 — checked above
        announced = answer.headers.get("Content-Length")
        size = int(announced) if announced else 0
        _check_room(file.parent, size)
        done_bytes = 0
        with file.open("wb") as stream, phase(f"downloading {address.rpartition('/')[2]}, MB", _mb(size)) as done:
            while chunk := answer.read(_CHUNK_BYTES):
                stream.write(chunk)
                done_bytes += len(chunk)
                done(_mb(done_bytes))
    if size and done_bytes != size:
        raise ValueError(f"ended after {done_bytes} of {size} bytes")


def _mb(size: int) -> int:
    return -(-size // 1_000_000)


def _check_room(directory: Path, size: int) -> None:
    free = shutil.disk_usage(directory).free
    if free < _ROOM * size:
        raise ExportError(
            f"{directory}: archive and contents need {_ROOM * size / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"
        )


def _check_hash(file: Path, archive: Archive, address: str) -> None:
    with file.open("rb") as stream:
        got = hashlib.file_digest(stream, "sha256").hexdigest()
    if got != archive.sha256:
        raise ExportError(
            f"{address}: not the published archive: expected sha256 {archive.sha256[:12]}…, got {got[:12]}…; "
            "nothing was extracted; try again, or another address"
        )


def _extract(file: Path, directory: Path, name: str) -> None:
    try:
        if name.endswith(".zip"):
            with zipfile.ZipFile(file) as members:
                members.extractall(directory)  # noqa: S202 — zipfile itself keeps every member inside
        else:
            with tarfile.open(file) as tar:
                tar.extractall(directory, filter="data")
    except (tarfile.TarError, zipfile.BadZipFile) as error:
        raise ExportError(f"{name}: cannot be extracted safely ({error}); nothing was kept") from error
