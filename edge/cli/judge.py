"""`inspect`, `bench` and `check`: what judges pictures with a bundle, without a line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from edge.bundle.bundle import Bundle, read_bundle
from edge.cli.options import (
    BundleOption,
    DeviceOption,
    PrecisionOption,
    ThreadsOption,
    inspector_options,
    make_directory,
)
from edge.errors import SettingsError, SourceError
from edge.files.atomic import write_file
from edge.files.pictures import list_pictures, read_picture
from edge.inspection.opening import open_inspector
from edge.protocol.messages import encode, verdict_payload
from edge.records import Verdict
from edge.terminal import complain, say
from edge.tools.bench import print_report, run_bench
from edge.tools.inspect_pictures import inspect_pictures, plan_outputs


def inspect(
    pictures: Annotated[list[str], typer.Argument(help="Pictures, directories or globs.", metavar="IMAGE_OR_DIR…")],
    bundle: BundleOption,
    out: Annotated[Path, typer.Option(help="Directory for overlays (.jpg) and maps (.npy).")],
    device: DeviceOption = "CPU",
    precision: PrecisionOption = "as_taught",
) -> None:
    """Inspect pictures: an overlay and a map for each in --out, its verdict as one JSON line on standard output."""
    loaded = read_bundle(bundle)
    planned = plan_outputs(pictures, out)
    inspector = open_inspector(loaded, inspector_options(device, precision), note=say, warn=say).inspector
    make_directory(out)

    def tell(number: int, verdict: Verdict) -> None:
        sys.stdout.buffer.write(encode(verdict_payload("inspect", verdict, 0, number)) + b"\n")
        sys.stdout.buffer.flush()

    unjudged = inspect_pictures(
        inspector, planned, pixel_threshold=loaded.manifest.threshold.pixel, tell=tell, complain=complain
    )
    if unjudged:
        raise SourceError(f"{unjudged} of {len(planned)} pictures could not be judged; they are named above")


def bench(
    *,
    bundle: BundleOption,
    frames: Annotated[str, typer.Option(help="Pictures to measure on: a directory, picture or glob.")],
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the figures to this file.")] = None,
    count: Annotated[int, typer.Option(min=10, max=10**7, help="Frames to measure.")] = 200,
    warm_up: Annotated[int, typer.Option(min=0, max=10**7, help="Frames before the first measured one.")] = 20,
    device: DeviceOption = "CPU",
    precision: PrecisionOption = "as_taught",
    embed_threads: ThreadsOption = 0,
    search_threads: ThreadsOption = 0,
) -> None:
    """Measure latency percentiles of every stage, and throughput with several requests in flight."""
    loaded = read_bundle(bundle)
    expected = (loaded.manifest.frame_height, loaded.manifest.frame_width, 3)
    pictures = [read_picture(path) for path in list_pictures(frames)[:64]]
    for picture in pictures:
        if picture.shape != expected:
            raise SourceError(
                f"{frames}: expected pictures of {expected[1]}×{expected[0]} as taught, "
                f"got {picture.shape[1]}×{picture.shape[0]}"
            )
    options = inspector_options(device, precision, embed_threads=embed_threads, search_threads=search_threads)
    report = run_bench(loaded, options, pictures, warm_up=warm_up, frames=count)
    print_report(report, Console())
    if json_file is not None:
        try:
            write_file(json_file, (json.dumps(report.as_json(), indent=2, ensure_ascii=False) + "\n").encode())
        except OSError as error:
            raise SettingsError(f"--json {json_file}: cannot be written ({error.strerror})") from error


def check(bundle: BundleOption, device: DeviceOption = "CPU", precision: PrecisionOption = "as_taught") -> None:
    """Verify every hash of a bundle, and that this device reproduces its golden scores."""
    loaded = read_bundle(bundle)
    _print_bundle(loaded)
    opened = open_inspector(loaded, inspector_options(device, precision), note=typer.echo, warn=say)
    for result in opened.golden:
        typer.echo(
            f"{result.file}: expected {result.expected:.4f}, got {result.got:.4f}, "
            f"relative difference {result.relative_error:.1e}"
        )
    embedder = opened.inspector.embedder
    typer.echo(f"golden self-test passed on {embedder.execution_devices} in {embedder.execution_precision}")


def _print_bundle(bundle: Bundle) -> None:
    manifest = bundle.manifest
    guarantee = manifest.threshold.guarantee
    typer.echo(f"bundle {bundle.model} '{manifest.name}', {manifest.created_at}: every file matches its hash")
    typer.echo(
        f"{manifest.ir.backbone} {manifest.ir.precision} ({manifest.ir.weights.source} weights), "
        f"bank {manifest.bank.vectors}×{manifest.bank.dimension}, threshold {manifest.threshold.image:.4f} "
        f"({manifest.threshold.method})"
    )
    if guarantee is not None:
        typer.echo(
            f"false rejects: at most {guarantee.expected_rate:.1%} expected, "
            f"{guarantee.rate_at_confidence:.1%} at {guarantee.confidence:.0%} confidence, "
            f"from {guarantee.held_out} held-out good parts"
        )
