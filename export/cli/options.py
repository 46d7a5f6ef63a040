"""Options that several commands of `patchline-export` share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Arithmetic(StrEnum):
    """Of what is not int8."""

    F32 = "f32"
    BF16 = "bf16"
    F16 = "f16"


class Coreset(StrEnum):
    """How the vectors of the memory bank are selected."""

    GREEDY = "greedy"
    RANDOM = "random"


class Search(StrEnum):
    """How the line searches the memory bank."""

    EXACT = "exact"
    FAST = "fast"


RatioOption = Annotated[float, typer.Option(min=1e-5, max=1.0, help="Share of all patches kept in the memory bank.")]
CoresetOption = Annotated[
    Coreset, typer.Option(help="Which patches are kept; random is a baseline for experiments, far worse when few are.")
]
PartsOption = Annotated[
    int,
    typer.Option(
        "--coreset-parts",
        min=1,
        max=1000,
        help="Select greedily in so many parts, then among their picks: less time where there are millions of patches, "
        "a bank nearly as good. 1: exact.",
    ),
]
RateOption = Annotated[
    float, typer.Option(min=1e-6, max=0.5, help="Share of good parts that may be rejected (conformal threshold).")
]
SearchOption = Annotated[
    Search,
    typer.Option(help="Of the memory bank: fast gives the same scores, and nearly the same maps (within 0.2 %)."),
]
SeedOption = Annotated[int, typer.Option(min=0, help="Every random choice follows from it.")]
ReplaceOption = Annotated[bool, typer.Option("--replace", help="Replace --out if it exists.")]
SkipOption = Annotated[bool, typer.Option("--skip-bad", help="Leave out pictures that cannot be used.")]
IndependentOption = Annotated[
    bool, typer.Option("--independent", help="Every picture shows a part of its own, however alike some are.")
]
NeighboursOption = Annotated[
    int, typer.Option(min=0, max=100, help="b of the paper's equation 7, 2 or more; 0: no re-weighting.")
]
DeviceOption = Annotated[str, typer.Option(help="OpenVINO device to teach on: the one of the station.")]
ArithmeticOption = Annotated[Arithmetic, typer.Option("--arithmetic", help="Of what is not int8, on the station too.")]
HoldOutOption = Annotated[
    float | None,
    typer.Option(min=0.01, max=0.9, help="Share of pictures held out for the threshold. None: what the rate needs."),
]
IrOption = Annotated[Path, typer.Option("--ir", help="IR directory, made by convert.")]
RandomOption = Annotated[bool, typer.Option("--allow-random", help="Accept an IR with random weights, for timing.")]
RootArgument = Annotated[Path, typer.Argument(help="One category, or a directory of categories.")]
CategoryOption = Annotated[list[str] | None, typer.Option(help="Only these categories.")]
