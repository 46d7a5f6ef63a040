"""`audit`: a subscriber with a ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge.audit.options import AuditOptions
from edge.audit.report import conclusion, text_lines
from edge.audit.run import run_audit, write_report
from edge.cli.options import (
    ConfigOption,
)
from edge.cli.signals import stop_on_signal
from edge.errors import AuditError
from edge.settings.file import load_settings
from edge.settings.values import YEAR_S


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
    report = run_audit(load_settings(config), options, stop_on_signal())
    if json_file is not None:
        write_report(report, json_file)
    for line in text_lines(report):
        typer.echo(line)
    if not report.accounted:
        raise AuditError(conclusion(report))
    typer.echo(conclusion(report))
