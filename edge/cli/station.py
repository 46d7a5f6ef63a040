"""`run`: the service."""

from __future__ import annotations

from typing import Annotated

import typer

from edge.cli.options import (
    ConfigOption,
)
from edge.cli.signals import service_signals
from edge.health.logs import set_up_logging
from edge.line.check import check_station
from edge.line.service import run_service
from edge.settings.file import load_settings
from edge.terminal import say


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
    run_service(settings, *service_signals())
