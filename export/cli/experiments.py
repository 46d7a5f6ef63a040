"""`patchline-export experiment`: one parameter varied, one page."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from edge.bundle.ir import DEFAULT_GEOMETRY, Geometry
from edge.errors import SettingsError
from edge.terminal import say, table_console
from export.cli.options import LEAST_RATIO, CategoryOption
from export.conversion.names import BackboneName
from export.conversion.options import ConvertOptions, WeightsChoice
from export.datasets.find import find_categories
from export.experiments.conclusion import mean_auroc, mean_total_ms
from export.experiments.results import EXPERIMENT, ExperimentResults, ExperimentRow
from export.experiments.run import run_experiment
from export.experiments.settings import EXPERIMENTS, Base
from export.metrics.means import mean_of_all
from export.teaching.teach import TeachOptions

ALL = "all"
# Not written a second time: the names are those of the experiments.
ExperimentName = StrEnum("ExperimentName", [(name, name) for name in (*EXPERIMENTS, ALL)])  # type: ignore[misc]


def parse_weights(given: list[str]) -> tuple[Path | None, dict[str, Path]]:
    """`FILE` is for the base network; `LABEL=FILE` for a network or pretraining of that name.

    Raises:
        SettingsError: two files for the base network, or a label twice.
    """
    base: Path | None = None
    labelled: dict[str, Path] = {}
    for text in given:
        label, separator, file = text.partition("=")
        if not separator:
            if base is not None:
                raise SettingsError(f"--weights {text}: the base network has {base} already; others need LABEL=FILE")
            base = Path(text)
        elif label in labelled:
            raise SettingsError(f"--weights {text}: {label} has {labelled[label]} already")
        else:
            labelled[label] = Path(file)
    return base, labelled


def experiment(
    name: Annotated[ExperimentName, typer.Argument(help="Which parameter is varied; all: one after the other.")],
    root: Annotated[Path, typer.Argument(help="A category, or a directory of categories, of a labelled dataset.")],
    *,
    out: Annotated[Path, typer.Option(help="Directory for results and pages.")],
    backbone: Annotated[BackboneName, typer.Option(help="The network that is held still.")] = "efficientnet_lite0",
    weights: Annotated[
        list[str] | None,
        typer.Option(
            help="FILE: weights of the network held still; LABEL=FILE, repeated: of another network (backbones) or "
            "another pretraining. None: the published ones.",
        ),
    ] = None,
    category: CategoryOption = None,
    input_size: Annotated[int | None, typer.Option(min=32, max=2048, help="Side of the input, without a crop.")] = None,
    coreset_ratio: Annotated[
        float, typer.Option(min=LEAST_RATIO, max=1.0, help="Where it is not what is varied.")
    ] = 0.1,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Every random choice follows from it.")] = 0,
) -> None:
    """Vary one parameter, hold the rest still, and write one page. Needs torch where networks are made."""
    file, labelled = parse_weights(weights or [])
    geometry = DEFAULT_GEOMETRY if input_size is None else Geometry(input_height=input_size, input_width=input_size)
    categories = find_categories(root, tuple(category or ()))
    base = Base(
        network=ConvertOptions(backbone=backbone, weights=WeightsChoice(file=file), geometry=geometry),
        teaching=TeachOptions(ir=out, images=root, out=out, coreset_ratio=coreset_ratio, seed=seed, replace=True),
        weights=labelled,
        fewest_good=min(len(entry.train) for entry in categories),
    )
    chosen = tuple(EXPERIMENTS.values()) if name.value == ALL else (EXPERIMENTS[name.value],)
    if name.value == ALL and not labelled:
        chosen = tuple(entry for entry in chosen if entry.name != "pretrainings")
        say("pretrainings is left out: it needs checkpoints to compare, each as --weights LABEL=FILE")
    for entry in chosen:
        print_experiment(run_experiment(entry, base, categories, out), table_console())
        show_page(out / entry.name)


def print_experiment(results: ExperimentResults, console: Console) -> None:
    """The means over the categories as a table, and the conclusion."""
    table = Table(title=results.title)
    for column in (
        results.parameter,
        "image AUROC",
        "pixel AUROC",
        "AUPRO",
        "false rejects",
        "misses",
        "bank",
        "total ms",
    ):
        table.add_column(column, justify="left" if column == results.parameter else "right")
    for row in results.rows:
        table.add_row(*_cells(row))
    console.print(table)
    for line in results.conclusion:
        console.print(line, highlight=False)


def show_page(place: Path) -> None:
    """Render the experiment's page, where the packages for that are installed."""
    try:
        from export.report.render import render_experiment  # noqa: PLC0415 — matplotlib and jinja2 are an extra
    except ImportError as error:
        say(
            f"no page: {error.name} is missing; pip install '.[report]' -c constraints.txt, "
            f"then patchline-export report {place}"
        )
        return
    say(f"page: {render_experiment(place / EXPERIMENT)}")


def _cells(row: ExperimentRow) -> tuple[str, ...]:
    categories = row.categories
    return (
        "; ".join((f"{row.series} {row.label}".strip(), *(f"{name} {text}" for name, text in row.extra.items()))),
        f"{100 * mean_auroc(row):.2f}",
        _mean_percent([entry.pixel_auroc for entry in categories]),
        _mean_percent([entry.aupro for entry in categories]),
        _mean_percent([entry.false_reject for entry in categories]),
        _mean_percent([entry.miss for entry in categories]),
        str(sum(entry.bank_vectors for entry in categories) // len(categories)),
        f"{mean_total_ms(row):.1f}",
    )


def _mean_percent(values: Sequence[float | None]) -> str:
    mean = mean_of_all(values)
    return "–" if mean is None else f"{100 * mean:.2f}"
