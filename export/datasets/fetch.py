"""A published dataset's archive → a directory: downloaded, checked against its sha256, extracted, there whole or not.

Nothing is extracted before the hash is right, and nothing is written outside the directory.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import zipfile
from pathlib import Path

from edge.errors import ExportError
from edge.terminal import say
from export.datasets.public import DATASETS, Archive, describe_dataset
from export.download import download

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
        download(address, file, archive.sha256, room=_ROOM)
        say(f"sha256 is right; extracting into {directory}")
        _extract(file, staging, archive.url)
        if not (staging / archive.directory).is_dir():
            raise ExportError(f"{address}: no {archive.directory} in the archive; it is not what it was")
        if directory.exists():
            directory.rmdir()
        staging.rename(directory)
    except OSError as error:
        raise ExportError(
            f"{address}: cannot be fetched into {directory} ({error}); nothing was left behind"
        ) from error
    finally:
        file.unlink(missing_ok=True)
        shutil.rmtree(staging, ignore_errors=True)
    return directory / archive.directory


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
