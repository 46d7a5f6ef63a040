"""`patchline-edge`: its commands. Results go to standard output, messages to standard error."""

from __future__ import annotations

from typing import Annotated

import typer

from edge import __version__
from edge.cli.audit import audit
from edge.cli.capture import capture
from edge.cli.judge import bench, check, inspect
from edge.cli.outbox import outbox_app
from edge.cli.station import run
from edge.command_line import Commands

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Inspects parts on the line with a bundle that patchline-export taught.",
    epilog="Exit codes: 0 success; 2 usage or settings; 3 bundle refused; "
    "4 source cannot be read, or a picture not judged; 5 golden self-test failed; "
    "6 verdicts could not be delivered; 8 audit: verdicts are not accounted for.",
)
for command in (run, inspect, bench, check, capture, audit):
    app.command()(command)
app.add_typer(outbox_app, name="outbox")


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit
