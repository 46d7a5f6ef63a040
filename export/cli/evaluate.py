"""`patchline-export evaluate`, `runall`, `summarize`, `report` and `dataset`: what is done with labelled datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from edge.command_line import options_of
from edge.errors import ExportError, SettingsError
from edge.files.names import shown
from edge.terminal import say, table_console
from export.cli.options import (
    LEAST_RATIO,
    RATIO_HELP,
    TEACHING,
    CategoryOption,
    IrOption,
    RootArgument,
)
from export.datasets.category import Category, CategorySummary
from export.datasets.fetch import fetch_dataset
from export.datasets.find import find_categories
from export.datasets.public import DATASETS, describe_dataset
from export.datasets.verify import verify_dataset
from export.evaluation.evaluate import EvaluateOptions, evaluate_all
from export.evaluation.operating_table import operating_table
from export.evaluation.results import CategoryResults
from export.evaluation.summary import Run, read_runs, summarize, summary_table, write_summary
from export.experiments.results import EXPERIMENT
from export.teaching.teach import TeachOptions

app = typer.Typer()

_REPORT_PACKAGES = ("matplotlib", "jinja2")
GalleryOption = Annotated[
    int, typer.Option("--best", min=0, max=50, help="Pictures of each group of the gallery: best, worst, wrong ones.")
]


@app.command("evaluate")
@options_of(TeachOptions, TEACHING)
def evaluate_command(
    chosen: Mapping[str, Any],
    root: RootArgument,
    *,
    ir: IrOption,
    out: Annotated[Path, typer.Option(help="Directory for results, bundles, galleries and the report.")],
    ensemble: Annotated[
        list[Path] | None, typer.Option(help="A further IR that judges together with --ir; may be repeated.")
    ] = None,
    category: CategoryOption = None,
    best: GalleryOption = 6,
) -> None:
    """Teach and test a labelled dataset; what did not change since is not run again. Bundles in --out are replaced."""
    teaching = TeachOptions(ir=ir, images=root, out=out, **chosen)
    options = EvaluateOptions(teaching, out, tuple(ensemble or ()), best)
    run = _evaluate_run(find_categories(root, category or (), seed=teaching.seed), options)
    table_console().print(summary_table(summarize(run)))


@app.command()
@options_of(TeachOptions, {name: option for name, option in TEACHING.items() if name != "coreset_ratio"})
def runall(
    chosen: Mapping[str, Any],
    root: RootArgument,
    *,
    ir: Annotated[list[Path], typer.Option("--ir", help="IR directory, made by convert; may be repeated.")],
    out: Annotated[Path, typer.Option(help="Directory; every run gets a subdirectory.")],
    category: CategoryOption = None,
    coreset_ratio: Annotated[
        list[float] | None, typer.Option(min=LEAST_RATIO, max=1.0, help=f"{RATIO_HELP} May be repeated.")
    ] = None,
    best: GalleryOption = 6,
) -> None:
    """Evaluate every IR at every coreset ratio, each into OUT/<name of the IR>_<ratio>; then summarize."""
    categories = find_categories(root, category or (), seed=chosen["seed"])
    runs = plan_runs(ir, coreset_ratio or [0.1])
    for name, (path, ratio) in runs.items():
        say(f"run {name}")
        teaching = TeachOptions(ir=path, images=root, out=out, coreset_ratio=ratio, **chosen)
        _evaluate_run(categories, EvaluateOptions(teaching, out / name, gallery=best))
    _summarize([out / name for name in runs], out)


@app.command("summarize")
def summarize_command(
    places: Annotated[list[Path], typer.Argument(help="Directories with results.json files below them.")],
    *,
    out: Annotated[
        Path | None, typer.Option(help="Directory for summary.csv and summary.json. None: the first place.")
    ] = None,
) -> None:
    """Collect results into one table: a row for every run and category, and a mean row for every run."""
    _summarize(places, out or places[0])


@app.command()
def report(
    out: Annotated[Path, typer.Argument(help="--out of an evaluation, or the directory of one experiment.")],
) -> None:
    """Render the page of an evaluation or experiment again, from its JSON files alone."""
    if not out.is_dir():
        raise SettingsError(f"{out}: no such directory; give the --out of an evaluation")
    if not _can_render():
        raise ExportError(f"report needs {' and '.join(_REPORT_PACKAGES)}: pip install '.[report]' -c constraints.txt")
    say(f"report: {_render(out)}")


@app.command()
def dataset(
    name: Annotated[str | None, typer.Argument(help=f"One of {', '.join(DATASETS)}.")] = None,
    *,
    verify: Annotated[
        Path | None, typer.Option(metavar="ROOT", help="Open every picture and mask of this dataset, and count them.")
    ] = None,
    fetch: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Download it into this directory, and check its sha256.")
    ] = None,
    address: Annotated[str | None, typer.Option(hidden=True, help="Another address that holds the archive.")] = None,
) -> None:
    """Say what a published dataset is and where to get it, fetch it, or check one on disk."""
    if (name is None) == (verify is None):
        raise SettingsError(f"dataset: give either a NAME ({', '.join(DATASETS)}) or --verify ROOT")
    if verify is not None:
        for summary in verify_dataset(verify):
            typer.echo(_describe_category(summary))
    elif name is not None and fetch is not None:
        root = fetch_dataset(name, fetch, base=address)
        say(f"next: patchline-export dataset --verify {root}, then patchline-export evaluate {root}")
    elif name is not None:
        typer.echo(describe_dataset(name))


def plan_runs(irs: Sequence[Path], ratios: Sequence[float]) -> dict[str, tuple[Path, float]]:
    """A name for every combination of IR and coreset ratio.

    Raises:
        SettingsError: two combinations would have the same name.
    """
    runs: dict[str, tuple[Path, float]] = {}
    for path in irs:
        for ratio in ratios:
            name = f"{path.resolve().name}_{ratio:g}"
            if name in runs:
                raise SettingsError(
                    f"runall: {path} at a coreset ratio of {ratio:g} would overwrite the run {name} of "
                    f"{runs[name][0]}; give IR directories different names, and every ratio once"
                )
            runs[name] = (path, ratio)
    return runs


def _evaluate_run(categories: Sequence[Category], options: EvaluateOptions) -> Run:
    results: tuple[CategoryResults, ...] = evaluate_all(categories, options)
    run = Run(shown(options.out.resolve().name), results)
    write_summary(summarize(run), options.out)
    table_console().print(operating_table(run.results))
    if _can_render():
        say(f"report: {_render(options.out)}")
    else:
        say(
            "no report: it needs the 'report' extra: pip install '.[report]' -c constraints.txt, "
            f"then report {options.out}"
        )
    return run


def _summarize(places: Sequence[Path], out: Path) -> None:
    rows = [row for run in read_runs(places) for row in summarize(run)]
    write_summary(rows, out)
    table_console().print(summary_table(rows))


def _can_render() -> bool:
    return all(find_spec(package) is not None for package in _REPORT_PACKAGES)


def _render(out: Path) -> Path:
    from export.report.render import render_experiment, render_report  # noqa: PLC0415 — matplotlib and jinja2 are an extra

    return render_experiment(out / EXPERIMENT) if (out / EXPERIMENT).is_file() else render_report(out)


def _describe_category(summary: CategorySummary) -> str:
    kinds = ", ".join(f"{kind.pictures} {kind.kind} ({kind.masks} with masks)" for kind in summary.kinds)
    validation = f", {summary.validation} to validate" if summary.validation else ""
    return f"{summary.name} ({summary.layout}): {summary.train} to teach{validation}; to test {kinds}"
