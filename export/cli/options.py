"""Options that several commands of `patchline-export` share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer
from typer.models import OptionInfo

from edge.command_line import parse_device, parse_rate
from edge.errors import SettingsError
from edge.records import Box

_BANK, _THRESHOLD, _SEEN, _MACHINE = "Memory bank", "Threshold", "What is judged", "Device and arithmetic"
# For `runall`, which takes several.
RATIO_HELP = "Share of all patches kept in the memory bank."
LEAST_RATIO = 1e-5


def parse_box(text: str) -> Box:
    """`X,Y,WIDTH,HEIGHT` as a box.

    Raises:
        SettingsError: it is not four whole numbers, or has no area.
    """
    match = re.fullmatch(r"(\d{1,5}),(\d{1,5}),(\d{1,5}),(\d{1,5})", text)
    if match is None or int(match[3]) == 0 or int(match[4]) == 0:
        raise SettingsError(f"--region {text}: expected X,Y,WIDTH,HEIGHT in whole pixels, such as 100,40,640,480")
    return Box(*(int(number) for number in match.groups()))


# Fields of `TeachOptions` that whatever teaches takes.
TEACHING: dict[str, OptionInfo] = {
    "coreset_ratio": typer.Option(min=LEAST_RATIO, max=1.0, help=RATIO_HELP, rich_help_panel=_BANK),
    "coreset": typer.Option(
        help="Which patches are kept; random is a baseline for experiments, far worse when few are.",
        rich_help_panel=_BANK,
    ),
    "coreset_parts": typer.Option(
        min=1,
        max=1000,
        help="Select greedily in so many parts, then among their picks: less time where there are millions of patches, "
        "a bank nearly as good. 1: exact.",
        rich_help_panel=_BANK,
    ),
    "search": typer.Option(
        help="Of the memory bank: fast gives the same scores, and nearly the same maps.", rich_help_panel=_BANK
    ),
    "reweight_neighbours": typer.Option(
        min=0, max=100, help="b of the paper's equation 7, 2 or more; 0: no re-weighting.", rich_help_panel=_BANK
    ),
    "false_reject_rate": typer.Option(
        parser=parse_rate,
        metavar="SHARE",
        help="Share of good parts that may be rejected (conformal threshold): 0.01 is 1 %.",
        rich_help_panel=_THRESHOLD,
    ),
    "hold_out": typer.Option(
        min=0.01,
        max=0.9,
        help="Share of pictures held out for the threshold. None: what the rate needs.",
        rich_help_panel=_THRESHOLD,
    ),
    "device": typer.Option(
        parser=parse_device,
        metavar="DEVICE",
        help="OpenVINO device to teach on: the one of the station.",
        rich_help_panel=_MACHINE,
    ),
    "precision": typer.Option(
        "--arithmetic", help="Of what is not int8, on the station too.", rich_help_panel=_MACHINE
    ),
    "seed": typer.Option(min=0, max=2**63 - 1, help="Every random choice follows from it."),
    "skip_bad": typer.Option("--skip-bad", help="Leave out pictures that cannot be used."),
    "independent": typer.Option(
        "--independent",
        help="Every picture shows a part of its own, however alike some are.",
        rich_help_panel=_THRESHOLD,
    ),
    "allow_random": typer.Option("--allow-random", help="Accept an IR with random weights, for timing."),
}
# Further ones of `teach` alone.
_OWN: dict[str, OptionInfo] = {
    "ir": typer.Option("--ir", help="IR directory, made by convert."),
    "images": typer.Option(help="Pictures of good parts: a directory, or a glob in quotes."),
    "out": typer.Option(help="Bundle directory to make."),
    "name": typer.Option(help="Recipe name in every verdict. Empty: the name of --out."),
    "replace": typer.Option("--replace", help="Replace --out if it exists."),
    "region": typer.Option(
        parser=parse_box,
        metavar="X,Y,WIDTH,HEIGHT",
        help="Region of interest, in the frame's pixels.",
        rich_help_panel=_SEEN,
    ),
    "mask": typer.Option(help="Picture of the frame's size, white where to ignore.", rich_help_panel=_SEEN),
    "method": typer.Option("--threshold", help="How the threshold is found.", rich_help_panel=_THRESHOLD),
    "sigmas": typer.Option(
        min=0.0,
        max=100.0,
        help="mean_sigma: mean + sigmas · deviation of held-out parts.",
        rich_help_panel=_THRESHOLD,
    ),
    "defects": typer.Option(help="best_f1: pictures of defective parts.", rich_help_panel=_THRESHOLD),
}
TEACH: dict[str, OptionInfo] = _OWN | TEACHING

ReplaceOption = Annotated[bool, typer.Option("--replace", help="Replace --out if it exists.")]
IrOption = Annotated[Path, typer.Option("--ir", help="IR directory, made by convert.")]
RootArgument = Annotated[Path, typer.Argument(help="One category, or a directory of categories.")]
CategoryOption = Annotated[list[str] | None, typer.Option(help="Only these categories.")]
