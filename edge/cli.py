"""`patchline-edge`: arguments and exit codes. Results go to standard output, messages to standard error."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from edge import __version__
from edge.audit.options import AuditOptions
from edge.audit.report import conclusion, text_lines
from edge.audit.run import run_audit, write_report
from edge.bundle.bundle import Bundle, read_bundle
from edge.cli_outbox import outbox_app
from edge.command_line import Commands, parse_device
from edge.errors import AuditError, SettingsError, SourceError
from edge.files.atomic import write_file
from edge.files.pictures import list_pictures, read_picture
from edge.files.places import default_cache_dir
from edge.health.logs import set_up_logging
from edge.inspection.opening import open_inspector
from edge.inspection.options import InspectorOptions
from edge.line.check import check_station
from edge.line.service import run_service
from edge.protocol.messages import encode, verdict_payload
from edge.records import DEVICES, PrecisionWish, Verdict
from edge.settings.file import load_settings
from edge.settings.source import SourceKind
from edge.settings.values import MOST_THREADS, YEAR_S
from edge.sources import open_source
from edge.terminal import complain, phase, run_app, say
from edge.tools.bench import print_report, run_bench
from edge.tools.capture_pictures import record_frames
from edge.tools.capture_rules import ask_for_each, choose_rule, take_when_told
from edge.tools.inspect_pictures import inspect_pictures, plan_outputs

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Inspects parts on the line with a bundle that patchline-export taught.",
    epilog="Exit codes: 0 success; 2 usage or settings; 3 bundle refused; "
    "4 source cannot be read, or a picture not judged; 5 golden self-test failed; "
    "6 verdicts could not be delivered; 8 audit: verdicts are not accounted for.",
)


BundleOption = Annotated[Path, typer.Option(help="Bundle directory.")]
ConfigOption = Annotated[
    Path | None, typer.Option(help="Settings file (TOML). None: defaults and PATCHLINE_… environment.")
]
DeviceOption = Annotated[str, typer.Option(parser=parse_device, metavar="DEVICE", help=f"OpenVINO device: {DEVICES}.")]
PrecisionOption = Annotated[PrecisionWish, typer.Option(help="Arithmetic of the embedding.")]
ThreadsOption = Annotated[int, typer.Option(min=0, max=MOST_THREADS, help="Threads; 0: the engine's own choice.")]


@app.command()
def run(
    config: ConfigOption = None,
    check: Annotated[
        bool, typer.Option("--check", help="Say all that the start would refuse, without camera and broker; then exit.")
    ] = False,
) -> None:
    """Inspect frames and publish verdicts until the source ends or SIGTERM or SIGINT comes."""
    settings = load_settings(config)
    if check:
        say(f"settings and bundle {check_station(settings)} are valid")
        return
    set_up_logging()
    run_service(settings, *_service_signals())


@app.command()
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
    inspector = open_inspector(loaded, _options(device, precision), note=say, warn=say).inspector
    _make_directory(out)

    def tell(number: int, verdict: Verdict) -> None:
        sys.stdout.buffer.write(encode(verdict_payload("inspect", verdict, 0, number)) + b"\n")
        sys.stdout.buffer.flush()

    unjudged = inspect_pictures(
        inspector, planned, pixel_threshold=loaded.manifest.threshold.pixel, tell=tell, complain=complain
    )
    if unjudged:
        raise SourceError(f"{unjudged} of {len(planned)} pictures could not be judged; they are named above")


@app.command()
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
    options = _options(device, precision, embed_threads=embed_threads, search_threads=search_threads)
    report = run_bench(loaded, options, pictures, warm_up=warm_up, frames=count)
    print_report(report, Console())
    if json_file is not None:
        try:
            write_file(json_file, (json.dumps(report.as_json(), indent=2, ensure_ascii=False) + "\n").encode())
        except OSError as error:
            raise SettingsError(f"--json {json_file}: cannot be written ({error.strerror})") from error


@app.command()
def check(bundle: BundleOption, device: DeviceOption = "CPU", precision: PrecisionOption = "as_taught") -> None:
    """Verify every hash of a bundle, and that this device reproduces its golden scores."""
    loaded = read_bundle(bundle)
    _print_bundle(loaded)
    opened = open_inspector(loaded, _options(device, precision), note=typer.echo, warn=say)
    for result in opened.golden:
        typer.echo(
            f"{result.file}: expected {result.expected:.4f}, got {result.got:.4f}, "
            f"relative difference {result.relative_error:.1e}"
        )
    embedder = opened.inspector.embedder
    typer.echo(f"golden self-test passed on {embedder.execution_devices} in {embedder.execution_precision}")


@app.command()
def capture(
    out: Annotated[Path, typer.Option(help="Directory for the pictures (PNG).")],
    config: ConfigOption = None,
    *,
    count: Annotated[int, typer.Option(min=1, max=10**7, help="How many pictures, one of each part.")] = 100,
    on_change: Annotated[
        bool, typer.Option("--on-change", help="A picture of each new part once it lies still.")
    ] = False,
    every_s: Annotated[
        float | None,
        typer.Option("--every", min=0, max=86_400, help="A picture every so many seconds: the time of a part."),
    ] = None,
    ask: Annotated[
        bool, typer.Option("--ask", help="A picture at each Enter (a camera's default on a terminal).")
    ] = False,
    patience_s: Annotated[float, typer.Option(min=1, max=86_400, help="Longest wait for a frame, in seconds.")] = 30.0,
) -> None:
    """Write frames of the configured source as pictures, one of each part, to teach from."""
    settings = load_settings(config)
    if settings.source.kind is SourceKind.SIMULATED:
        say("source.kind is simulated: these will be drawn parts, not your camera's; --config names a settings file")
    _make_directory(out)
    source = open_source(settings.source)
    try:
        rule = choose_rule(kind=settings.source.kind, every_s=every_s, on_change=on_change, ask=ask)
        progress: AbstractContextManager[Callable[[int], None]]
        if rule is None:  # whoever is asked sees the progress
            rule, progress = take_when_told(ask_for_each(count)), nullcontext(lambda _: None)
        else:
            progress = phase("capturing", count, exact=True)
        with progress as done:
            captured = record_frames(source, out, count, rule=rule, patience_s=patience_s, report=done)
    finally:
        source.close()
    for text in captured.words(count, out):
        say(text)
    if not captured.written:
        raise SourceError("not one picture was taken")


@app.command()
def audit(
    *,
    config: ConfigOption = None,
    topic: Annotated[str, typer.Option(help="Stations' topic bases, + for any level. Default: ROOT/+/+/+.")] = "",
    station: Annotated[str, typer.Option(help="Only stations of this name.")] = "",
    ledger: Annotated[
        Path | None, typer.Option(help="Keep the ledger, and the name of the session, in a file.")
    ] = None,
    client_id: Annotated[str, typer.Option(help="Name of a session that the broker keeps between two runs.")] = "",
    for_s: Annotated[float | None, typer.Option("--for", min=0, max=YEAR_S, help="End after so many seconds.")] = None,
    from_seq: Annotated[
        int | None, typer.Option(min=0, max=2**63 - 1, help="Every verdict from this seq on is expected.")
    ] = None,
    until_seq: Annotated[
        int | None, typer.Option(min=0, max=2**63 - 1, help="Expect all up to this seq; end with them.")
    ] = None,
    crops: Annotated[bool, typer.Option(help="Listen to crops and match them to their verdicts.")] = True,
    interval_s: Annotated[
        float, typer.Option("--interval", min=0.1, max=86_400, help="Seconds between two plain lines.")
    ] = 10.0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the report to this file.")] = None,
) -> None:
    """Listen to stations and prove that no verdict is lost: gaps, repeats, order, latency. Ctrl-C ends it."""
    options = AuditOptions(
        topic=topic,
        station=station,
        client_id=client_id,
        ledger=ledger,
        for_s=for_s,
        from_seq=from_seq,
        until_seq=until_seq,
        interval_s=interval_s,
        crops=crops,
    )
    report = run_audit(load_settings(config), options, _stop_on_signal())
    if json_file is not None:
        write_report(report, json_file)
    for line in text_lines(report):
        typer.echo(line)
    if not report.accounted:
        raise AuditError(conclusion(report))
    typer.echo(conclusion(report))


app.add_typer(outbox_app, name="outbox")


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Entry point: an error that is expected becomes one line and its exit code."""
    run_app(app)


def _stop_on_signal() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        _set_on(number, stop)
    _set_unless_ignored(signal.SIGHUP, stop)
    return stop


def _service_signals() -> tuple[threading.Event, threading.Event]:
    """What stops the service, and what makes it reload: SIGHUP, unless that is the end of a terminal."""
    stop, reload = _stop_on_signal(), threading.Event()
    if not os.isatty(0):
        _set_unless_ignored(signal.SIGHUP, reload)
    return stop, reload


def _set_unless_ignored(number: signal.Signals, event: threading.Event) -> None:
    """Under nohup a signal stays ignored."""
    if signal.getsignal(number) is not signal.SIG_IGN:
        _set_on(number, event)


def _set_on(number: signal.Signals, event: threading.Event) -> None:
    signal.signal(number, lambda *_: event.set())


def _options(
    device: str, precision: PrecisionWish, *, embed_threads: int = 0, search_threads: int = 0
) -> InspectorOptions:
    return InspectorOptions(
        device=device,
        precision=precision,
        embed_threads=embed_threads,
        search_threads=search_threads,
        cache_dir=default_cache_dir(),
    )


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"--out {path}: cannot be made ({error.strerror})") from error


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
