"""What several commands are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge.command_line import parse_device
from edge.errors import SettingsError
from edge.files.places import default_cache_dir
from edge.inspection.options import InspectorOptions
from edge.records import DEVICES, PrecisionWish
from edge.settings.values import MOST_THREADS

BundleOption = Annotated[Path, typer.Option(help="Bundle directory.")]
ConfigOption = Annotated[
    Path | None, typer.Option(help="Settings file (TOML). None: defaults and PATCHLINE_… environment.")
]
DeviceOption = Annotated[str, typer.Option(parser=parse_device, metavar="DEVICE", help=f"OpenVINO device: {DEVICES}.")]
PrecisionOption = Annotated[PrecisionWish, typer.Option(help="Arithmetic of the embedding.")]
ThreadsOption = Annotated[int, typer.Option(min=0, max=MOST_THREADS, help="Threads; 0: the engine's own choice.")]


def inspector_options(
    device: str, precision: PrecisionWish, *, embed_threads: int = 0, search_threads: int = 0
) -> InspectorOptions:
    """What the command line says of inspecting."""
    return InspectorOptions(
        device=device,
        precision=precision,
        embed_threads=embed_threads,
        search_threads=search_threads,
        cache_dir=default_cache_dir(),
    )


def make_directory(path: Path) -> None:
    """Make the directory of `--out`; where that cannot be done it is a `SettingsError`."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"--out {path}: cannot be made ({error.strerror})") from error
