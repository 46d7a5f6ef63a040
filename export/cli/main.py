"""`patchline-export`: arguments and exit codes. Only `convert` needs torch, and imports it when it is called."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from edge import __version__
from edge.bundle.bundle import Manifest
from edge.bundle.ir import (
    DEFAULT_GEOMETRY,
    EmbeddingName,
    Geometry,
    IrDescription,
    IrPrecision,
    read_ir_description,
)
from edge.command_line import Commands, options_of
from edge.errors import ExportError, SettingsError
from edge.files.atomic import refuse_unwritable
from edge.files.pictures import list_pictures
from edge.terminal import say
from export.cli import evaluate as cli_evaluate
from export.cli.experiments import experiment
from export.cli.options import TEACH, IrOption, ReplaceOption
from export.conversion.make_ir import CALIBRATION_PICTURES, import_quantize, load_inputs, make_ir
from export.conversion.names import BackboneName
from export.conversion.options import ConvertOptions, WeightsChoice
from export.teaching.alternatives import print_alternatives
from export.teaching.latency_budget import fit, write_alternatives
from export.teaching.promise import say_promise
from export.teaching.teach import TeachOptions, teach

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Makes bundles: a backbone becomes an IR (needs torch, once), pictures of good parts become a bundle.",
    epilog="Exit codes: 0 success; 2 usage or settings; 3 IR or bundle refused; 4 pictures cannot be read; "
    "7 cannot be converted, taught or evaluated.",
)

PAPER_RESIZE, PAPER_CROP = 256, 224
_BUDGET = "Latency budget"


@app.command()
def convert(
    *,
    out: Annotated[Path, typer.Option(help="IR directory to make.")],
    backbone: Annotated[BackboneName, typer.Option(help="Feature extractor.")] = "wide_resnet50_2",
    weights: Annotated[
        Path | None, typer.Option(help="Weights (.pth or .safetensors). None: the published ones.")
    ] = None,
    random_weights: Annotated[
        int | None,
        typer.Option(min=0, max=2**63 - 1, help="Seed of random weights instead: for timing only.", metavar="SEED"),
    ] = None,
    layers: Annotated[str, typer.Option(help="Layers by name, finest first, separated by commas.")] = "layer2,layer3",
    embedding: Annotated[
        EmbeddingName, typer.Option(help="concat (all channels) or pooled (the authors' 1024).")
    ] = "concat",
    input_size: Annotated[
        str | None, typer.Option(help="WIDTHxHEIGHT or SIDE that the whole region is resized to.", show_default="256")
    ] = None,
    resize: Annotated[
        int | None,
        typer.Option(min=32, max=4096, help="Instead, as in the paper: the shorter side is resized to this (256) …"),
    ] = None,
    crop: Annotated[
        int | None,
        typer.Option(min=32, max=4096, help="… and the centre is cropped to this square (224); the rest is not seen."),
    ] = None,
    neighbourhood: Annotated[int, typer.Option(min=1, max=15, help="Side of the square a patch is averaged over.")] = 3,
    precision: Annotated[IrPrecision, typer.Option(help="f32, or int8 calibrated on good parts.")] = "f32",
    calibration: Annotated[
        Path | None, typer.Option(help="Pictures of good parts: int8 calibration; f32: parity is checked on them.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Largest relative difference of IR and torch.")
    ] = 1e-3,
    replace: ReplaceOption = False,
) -> None:
    """Convert a pretrained backbone to an OpenVINO IR directory. Needs torch."""
    if precision == "int8" and calibration is None:
        raise SettingsError("--precision int8 needs --calibration: a directory of pictures of good parts")
    network = ConvertOptions(
        backbone=backbone,
        layers=tuple(name.strip() for name in layers.split(",") if name.strip()),
        embedding=embedding,
        neighbourhood=neighbourhood,
        geometry=parse_geometry(input_size, resize, crop),
        weights=WeightsChoice(file=weights, random_seed=random_weights),
    )
    pictures = [] if calibration is None else list_pictures(calibration)
    ir = make_ir(
        network, out, precision=precision, calibration=pictures, tolerance=tolerance, overwrite=replace, report=say
    )
    _say_ir(ir, out)


@app.command("quantize")
def quantize_command(
    *,
    ir: IrOption,
    calibration: Annotated[Path, typer.Option(help="Pictures of good parts.")],
    out: Annotated[Path, typer.Option(help="int8 IR directory to make.")],
    replace: ReplaceOption = False,
) -> None:
    """Quantise an f32 IR directory to int8 on pictures of good parts. Needs no torch."""
    geometry = read_ir_description(ir).geometry
    pictures = load_inputs(list_pictures(calibration), geometry, CALIBRATION_PICTURES)
    _say_ir(import_quantize()(ir, pictures, out, overwrite=replace, report=say), out)


@app.command("teach")
@options_of(TeachOptions, TEACH)
def teach_command(
    chosen: Mapping[str, Any],
    *,
    latency_budget_ms: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=600_000,
            help="Let 99 % of all frames take no longer on this machine: arithmetic, bank size (--coreset-ratio at the "
            "most) and search are then chosen by measuring, int8 among them if --ir is f32.",
            rich_help_panel=_BUDGET,
        ),
    ] = None,
    budget_report: Annotated[
        Path | None, typer.Option(help="Every setting that was tried, as JSON.", rich_help_panel=_BUDGET)
    ] = None,
) -> None:
    """Teach a product from pictures of good parts and write its bundle. Needs no torch."""
    options = TeachOptions(**chosen)
    if latency_budget_ms is None:
        _say_bundle(teach(options), options.out)
    else:
        if budget_report is not None:
            refuse_unwritable(budget_report.parent, ExportError)
        fitted = fit(options, latency_budget_ms)
        print_alternatives(fitted.alternatives, fitted.chosen, latency_budget_ms)
        if budget_report is not None:
            write_alternatives(fitted, latency_budget_ms, budget_report)
        _say_bundle(fitted.manifest, options.out)


app.add_typer(cli_evaluate.app)
app.command("experiment")(experiment)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def parse_geometry(input_size: str | None, resize: int | None, crop: int | None) -> Geometry:
    """Geometry of the command line's three options.

    Raises:
        SettingsError: they contradict each other, or are no sizes.
    """
    if resize is not None or crop is not None:
        if input_size is not None:
            raise SettingsError(
                "--input-size sees the whole region, --resize and --crop a part of it: give one or other"
            )
        return _cropping(resize or PAPER_RESIZE, crop or PAPER_CROP)
    if input_size is None:
        return DEFAULT_GEOMETRY
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", input_size)
    if match is None:
        raise SettingsError(f"--input-size {input_size}: expected WIDTHxHEIGHT or SIDE, such as 320x224 or 224")
    width = int(match[1])
    return _geometry(int(match[2] or width), width, None)


def _cropping(resize: int, crop: int) -> Geometry:
    if resize < crop:
        raise SettingsError(f"--resize {resize} is smaller than --crop {crop}; nothing can be cropped from it")
    return _geometry(crop, crop, resize)


def _geometry(height: int, width: int, resize_shorter: int | None) -> Geometry:
    if not (32 <= height <= 2048 and 32 <= width <= 2048):
        raise SettingsError(f"input of {width}×{height}: each side must lie between 32 and 2048")
    return Geometry(input_height=height, input_width=width, resize_shorter=resize_shorter)


def _say_ir(ir: IrDescription, out: Path) -> None:
    geometry = ir.geometry
    say(
        f"{out}: {ir.backbone} {ir.precision}, input {geometry.input_width}×{geometry.input_height}, "
        f"{ir.grid[0]}×{ir.grid[1]} patches of {ir.dimension} dimensions, {ir.weights.source} weights "
        f"{ir.weights.sha256[:12]}…; IR and torch differ by {ir.parity.max_relative_error:.1e}"
    )


def _say_bundle(manifest: Manifest, out: Path) -> None:
    teaching, threshold = manifest.teaching, manifest.threshold
    say(
        f"{out}: bundle {manifest.identity[:12]} taught from {teaching.pictures} good parts, "
        f"bank {manifest.bank.vectors}×{manifest.bank.dimension}, "
        f"threshold {threshold.image:.4f} (image), {threshold.pixel:.4f} (pixel) by {threshold.method}"
    )
    say_promise(threshold)
