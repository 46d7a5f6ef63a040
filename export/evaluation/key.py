"""What an evaluation depends on, as one hash: equal keys mean equal results, so that nothing is run twice."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from edge.bundle.ir import read_ir_description
from edge.errors import ExportError
from export.datasets.category import Category
from export.evaluation.measure import RATES
from export.evaluation.results import CategoryResults
from export.teaching.teach import TeachOptions, versions_here

# Set for each category, or described below by contents instead of by path.
_NOT_SETTINGS = frozenset({"ir", "images", "out", "name", "pictures", "calibration", "replace", "mask"})


def evaluation_key(category: Category, teaching: TeachOptions, irs: Sequence[Path], gallery: int) -> str:
    """A hash of settings, IRs, software, and the dataset's files by name, size and time of change.

    Raises:
        BundleError: an IR cannot be read.
        ExportError: a file is missing.
    """
    described = {
        "schema": CategoryResults.model_fields["schema_version"].default,
        "versions": versions_here(),
        "settings": {name: str(value) for name, value in asdict(teaching).items() if name not in _NOT_SETTINGS},
        "gallery": gallery,
        "rates": RATES,
        "irs": [read_ir_description(ir).model_dump(mode="json") for ir in irs],
        "mask": None if teaching.mask is None else _describe_file("mask", teaching.mask, teaching.mask.parent),
        "category": [category.name, category.layout.value],
        "files": _describe_files(category),
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _describe_files(category: Category) -> list[str]:
    used = [("train", path) for path in category.train] + [("validation", path) for path in category.validation]
    for picture in category.test:
        used += [(f"test {picture.kind}", picture.path), *((f"mask {picture.kind}", path) for path in picture.masks)]
    return [_describe_file(role, path, category.path) for role, path in used]


def _describe_file(role: str, path: Path, base: Path) -> str:
    try:
        status = path.stat()
    except OSError as error:
        raise ExportError(f"{path}: cannot be read ({error.strerror}); is the dataset still whole?") from error
    return f"{role} {os.path.relpath(path, base)} {status.st_size} {status.st_mtime_ns}"
