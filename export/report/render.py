"""Pages for people: `OUT/report.html` of evaluations, `experiment.html` of an experiment, and their plots as files.

Drawn from `results.json` or `experiment.json` and from nothing else, without measuring again; rendered again, a page
is the same to the byte.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from edge.errors import ExportError
from edge.files.names import shown
from export.evaluation.results import RESULTS
from export.experiments.results import read_experiment
from export.report.evaluation_page import subject_of, view_run
from export.report.experiment_page import view_experiment
from export.report.page import write_page
from export.report.style import save

REPORT = "report.html"
PLOTS = "plots"


def render_report(out: Path) -> Path:
    """Write `out/report.html` and `out/plots` from every `out/<category>` and `out/<run>/<category>`.

    Raises:
        ResultsError: a `results.json` cannot be read or is of another version.
        ExportError: there is none, a picture of a gallery is missing, or the disk refuses.
    """
    runs = tuple(view_run(name, directories, number) for number, (name, directories) in enumerate(_find_runs(out)))
    for run in runs:
        for category in run.categories:
            for drawing in category.drawings:
                save(drawing, out / PLOTS)
    write_page(out / REPORT, "report.html.j2", runs=runs, subject=subject_of(runs))
    return out / REPORT


def render_experiment(path: Path) -> Path:
    """Write the page of `path`, an `experiment.json`, and `plots` beside it.

    Raises:
        ResultsError: `path` cannot be read or is of another version.
        ExportError: the disk refuses.
    """
    view = view_experiment(read_experiment(path))
    for drawing in view.drawings:
        save(drawing, path.parent / PLOTS)
    page = path.with_suffix(".html")
    write_page(page, "experiment.html.j2", experiment=view)
    return page


def _find_runs(out: Path) -> list[tuple[str, list[Path]]]:
    """Names of runs, the empty name for `out` itself, and the directories of their categories."""
    found = sorted((path.parent for path in out.rglob(RESULTS)), key=lambda path: (path.parent, path.name))
    if not found:
        raise ExportError(
            f"{out}: no {RESULTS} here or below; make some with patchline-export evaluate, "
            "or name the directory that it was given as --out"
        )
    return [
        (_run_name(run, out), list(directories)) for run, directories in groupby(found, key=lambda path: path.parent)
    ]


def _run_name(run: Path, out: Path) -> str:
    return shown(run.relative_to(out).as_posix().removeprefix(".")) if run.is_relative_to(out) else ""
