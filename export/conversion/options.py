"""What shall be converted; without torch, for command lines and experiments."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge.bundle.ir import DEFAULT_GEOMETRY, EmbeddingName, Geometry
from export.conversion.names import BackboneName

TORCHVISION_ADDRESS = "https://download.pytorch.org/models"


@dataclass(frozen=True, slots=True)
class WeightsChoice:
    """Where weights shall come from; with neither file nor seed: the published ones."""

    file: Path | None = None
    random_seed: int | None = None  # for timing only
    address: str = TORCHVISION_ADDRESS
    cache: Path | None = None  # none: `edge.files.places.default_cache_dir`


@dataclass(frozen=True, slots=True)
class ConvertOptions:
    """What shall be converted."""

    backbone: BackboneName = "wide_resnet50_2"
    layers: tuple[str, ...] = ("layer2", "layer3")
    embedding: EmbeddingName = "concat"
    neighbourhood: int = 3  # side of the square each patch is averaged over; odd
    geometry: Geometry = DEFAULT_GEOMETRY
    weights: WeightsChoice = WeightsChoice()
