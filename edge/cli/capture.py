"""`capture`: pictures to teach from."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated

import typer

from edge.cli.options import (
    ConfigOption,
    make_directory,
)
from edge.errors import SourceError
from edge.settings.file import load_settings
from edge.settings.source import SourceKind
from edge.sources import open_source
from edge.terminal import phase, say
from edge.tools.capture_pictures import record_frames
from edge.tools.capture_rules import ask_for_each, choose_rule, take_when_told


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
    make_directory(out)
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
