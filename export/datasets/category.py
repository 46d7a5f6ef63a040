"""A category: good pictures to teach from, labelled pictures to test with."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Layout(StrEnum):
    """How the pictures of a category are laid out."""

    MVTEC = "mvtec"
    LOCO = "loco"
    VISA = "visa"
    BTAD = "btad"
    FOLDERS = "folders"


@dataclass(frozen=True, slots=True)
class LabelledPicture:
    """One picture to test with, and what is known about it."""

    path: Path
    kind: str  # `good`, or the kind of defect
    masks: tuple[Path, ...]  # together they show the defect; empty for good pictures and where there are none


@dataclass(frozen=True, slots=True)
class Category:
    """One product of a dataset; complete, as far as that can be seen without opening the pictures."""

    name: str
    layout: Layout
    path: Path
    train: tuple[Path, ...]  # good pictures to teach from
    validation: tuple[Path, ...]  # further good pictures, neither for teaching nor for testing (LOCO only)
    test: tuple[LabelledPicture, ...]  # good and defective ones, at least one of each


@dataclass(frozen=True, slots=True)
class KindSummary:
    """The test pictures of one kind."""

    kind: str
    pictures: int
    masks: int  # pictures that have a mask


@dataclass(frozen=True, slots=True)
class CategorySummary:
    """How many pictures a category has."""

    name: str
    layout: Layout
    train: int
    validation: int
    kinds: tuple[KindSummary, ...]
