"""How far the fast search's maps are from exhaustive ones, and how many verdicts two evaluations give otherwise.

`python -m benchmarks.agreement maps BUNDLE PICTURES` and `python -m benchmarks.agreement verdicts RESULTS OTHER`, with
the bundles and results.json files that `patchline-export experiment precision` and `evaluate` leave.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from edge.bundle.bundle import Bundle, read_bundle
from edge.files.pictures import list_pictures, read_picture
from edge.inspection.inspector import Inspector
from edge.inspection.options import InspectorOptions
from edge.records import Float32Array
from export.evaluation.results import CategoryResults, read_results

app = typer.Typer(help=__doc__, add_completion=False)


@dataclass(frozen=True, slots=True)
class MapAgreement:
    """Patch scores of the fast search against those of the exhaustive one; shares of one."""

    score: float  # largest relative difference of an image score
    mean: float  # mean difference of a patch score from the exact one, relative to it, over all pictures
    worst_picture: float  # the same in the picture where it is largest
    worst_place: float  # largest difference of one patch score, as a share of its picture's highest


@dataclass(frozen=True, slots=True)
class VerdictAgreement:
    """Two evaluations of the same pictures."""

    pictures: int
    changed: int
    passed_now: int  # of the changed, those that failed in the first


@app.command("maps")
def show_maps(
    bundle: Path, pictures: Annotated[str, typer.Argument(help="A directory, or a pattern such as 'test/*/*.png'.")]
) -> None:
    """Compare the two searches on one bundle."""
    paths = list_pictures(pictures)
    found = compare_maps(read_bundle(bundle), paths)
    print(
        f"{bundle}, {len(paths)} pictures: image score within {found.score:.1e}; patch scores differ by "
        f"{found.mean:.2%} in the mean, {found.worst_picture:.2%} in the worst picture, {found.worst_place:.1%} of the "
        "picture's peak at the worst place"
    )


@app.command("verdicts")
def show_verdicts(first: Path, other: Path) -> None:
    """Count the pictures that two results.json files answer differently."""
    found = compare_verdicts(read_results(first), read_results(other))
    print(
        f"{found.changed} of {found.pictures} verdicts differ: {found.passed_now} are PASS in {other} only, "
        f"{found.changed - found.passed_now} in {first} only"
    )


def compare_maps(bundle: Bundle, pictures: Sequence[Path]) -> MapAgreement:
    """Score every picture with either search, through the bundle's own network, region and mask."""
    scorers = [Inspector(bundle, InspectorOptions(search=search)).taught_scorer() for search in ("exact", "fast")]
    rows = []
    for path in pictures:
        image = read_picture(path)
        scored = [scorer.score(image) for scorer in scorers]
        exact, fast = (scorer.patch_scores(one) for scorer, one in zip(scorers, scored, strict=True))
        rows.append([abs(scored[1].score / scored[0].score - 1), *_differences(exact, fast)])
    scores, means, places = np.array(rows).T
    return MapAgreement(float(scores.max()), float(means.mean()), float(means.max()), float(places.max()))


def _differences(exact: Float32Array, fast: Float32Array) -> tuple[float, float]:
    """Mean relative difference where the exact score is not 0, and the largest one as a share of the peak."""
    seen = exact > 0
    return float(np.abs(fast[seen] / exact[seen] - 1).mean()), float(np.abs(fast - exact).max() / exact.max())


def compare_verdicts(first: CategoryResults, other: CategoryResults) -> VerdictAgreement:
    """Pictures are known by their paths.

    Raises:
        ValueError: they are not the same pictures.
    """
    before, after = ({picture.path: picture.outcome for picture in one.pictures} for one in (first, other))
    if before.keys() != after.keys():
        raise ValueError(f"expected results of the same pictures, got {len(before)} and {len(after)} that differ")
    changed = [path for path, outcome in before.items() if after[path] != outcome]
    return VerdictAgreement(len(before), len(changed), sum(after[path] == "PASS" for path in changed))


if __name__ == "__main__":
    app()
