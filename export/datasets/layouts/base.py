"""What a layout says of itself: how it is recognised, and how it is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from export.datasets.category import Category, Layout


@dataclass(frozen=True, slots=True)
class Reading:
    """One layout of a category's directory."""

    layout: Layout
    looks_like: Callable[[Path], bool]  # be it complete or not
    read: Callable[[str, Path, int], Category]  # name, directory, seed of a split where there is none; ExportError


def has_any(path: Path, *names: str) -> bool:
    """Whether `path` has one of these directories."""
    return any((path / name).is_dir() for name in names)
