"""What teaching is asked for, and which of it is refused before any work is done."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge.bundle.bundle import MANIFEST, NAME_PATTERN
from edge.bundle.ir import IrDescription
from edge.errors import ExportError, SettingsError
from edge.files.atomic import refuse_unwritable
from edge.records import Box, Precision, Search

Method = Literal["conformal", "mean_sigma", "best_f1"]
Coreset = Literal["greedy", "random"]


@dataclass(frozen=True, slots=True)
class TeachOptions:
    """What to teach from, and how."""

    ir: Path
    images: Path  # a directory, a glob or one file; with `pictures`, only the place that messages name
    out: Path
    name: str = ""  # the recipe; empty: the name of `out`
    pictures: tuple[Path, ...] = ()  # good parts, instead of those at `images`
    calibration: tuple[Path, ...] = ()  # good parts for the threshold alone: then none of the others is held out
    coreset_ratio: float = 0.1
    coreset: Coreset = "greedy"  # random is the baseline that experiments compare with
    coreset_parts: int = 1  # more: greedy selection in parts, see `export.teaching.coreset.select_composable`
    hold_out: float | None = None  # share of the pictures; none: see `split.hold_out_count`
    method: Method = "conformal"
    false_reject_rate: float = 0.01
    sigmas: float = 3.0
    defects: Path | None = None  # labelled defective pictures, for best_f1
    search: Search = "fast"
    reweight_neighbours: int = 0
    region: Box | None = None
    mask: Path | None = None
    device: str = "CPU"
    precision: Precision = "f32"
    seed: int = 0
    skip_bad: bool = False
    independent: bool = False  # every picture shows a part of its own, however alike some are
    allow_random: bool = False
    replace: bool = False


def refuse_early(options: TeachOptions, ir: IrDescription) -> None:
    """Refuse what cannot work before any work is done.

    Raises:
        ExportError: the IR's weights are random, or `out` may not be replaced or cannot be written.
        SettingsError: settings contradict each other, or the recipe's name is none.
    """
    if ir.weights.source == "random" and not options.allow_random:
        raise ExportError(
            f"{options.ir}: its weights are random, for timing only; convert with real weights, "
            "or say --allow-random if that is what you want"
        )
    if re.fullmatch(NAME_PATTERN, recipe_of(options)) is None:
        raise SettingsError(
            f"recipe name '{recipe_of(options)}': expected 1 to 64 of A-Z a-z 0-9 _ . -; give another --name "
            "(without it, the name of --out is taken)"
        )
    if options.coreset_parts != 1 and options.coreset != "greedy":
        raise SettingsError(
            f"--coreset-parts {options.coreset_parts}: only greedy selection is done in parts; "
            f"leave it out with --coreset {options.coreset}"
        )
    if options.reweight_neighbours == 1:
        raise SettingsError("--reweight-neighbours 1: one neighbour makes every score 0; give 0, or 2 or more")
    if options.method == "best_f1" and options.defects is None:
        raise SettingsError("--threshold best_f1 needs --defects: pictures of defective parts")
    if options.out.exists() and not options.replace:
        raise ExportError(f"{options.out}: exists already; give another --out, or --replace")
    if options.out.exists() and not (options.out / MANIFEST).is_file():
        raise ExportError(f"{options.out}: is not a bundle, so --replace will not replace it; give another --out")
    refuse_unwritable(options.out.parent, ExportError)


def recipe_of(options: TeachOptions) -> str:
    """The recipe's name."""
    return options.name or options.out.name
