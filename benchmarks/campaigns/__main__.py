"""`python -m benchmarks.campaigns [NAME…]`: run them, print what they counted, exit 1 where a promise broke."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import time
from types import ModuleType
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

import benchmarks.campaigns
from benchmarks.campaigns import CampaignError

NAMES = tuple(
    module.name for module in pkgutil.iter_modules(benchmarks.campaigns.__path__) if not module.name.startswith("_")
)


def main(
    names: Annotated[list[str] | None, typer.Argument(help=f"Of {', '.join(NAMES) or 'none'}; none: all.")] = None,
    count: Annotated[int | None, typer.Option(min=1, help="Attacks; none: as many as each holds enough.")] = None,
    seed: Annotated[int, typer.Option(help="Of every random choice.")] = 0,
) -> None:
    """Attack the real service, and count what was lost, repeated, wrong or stuck."""
    unknown = sorted(set(names or ()) - set(NAMES))
    if unknown:
        raise typer.BadParameter(f"no campaign {', '.join(unknown)}; there are {', '.join(NAMES)}")
    broken = [name for name in names or NAMES if not _held(name, count, seed)]
    if broken:
        print(f"broken: {', '.join(broken)}", file=sys.stderr)
        raise typer.Exit(1)


def _held(name: str, count: int | None, seed: int) -> bool:
    module: ModuleType = importlib.import_module(f"benchmarks.campaigns.{name}")
    attacks = module.COUNT if count is None else count
    began = time.monotonic()
    try:
        rows = module.run(attacks, seed)
    except CampaignError as error:
        print(f"{name}, seed {seed}: {error}", file=sys.stderr)
        return False
    table = Table("", "", title=f"python -m benchmarks.campaigns {name} --count {attacks} --seed {seed}")
    for what, figure in (*rows, ("seconds", f"{time.monotonic() - began:.0f}")):
        table.add_row(what, figure)
    Console().print(table)
    return True


if __name__ == "__main__":
    typer.run(main)
