"""A labelled dataset through the bundle and the inspector that the line uses.

The layout is MVTec AD's: `CATEGORY/train/good`, `CATEGORY/test/good`, `CATEGORY/test/<defect kind>`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from edge.atomic import write_file
from edge.bundle import read_bundle
from edge.errors import ExportError
from edge.inspector import Inspector, InspectorOptions
from edge.pictures import list_pictures, read_picture
from edge.records import Frame, FrameIdentity, Outcome
from edge.terminal import phase
from export.metrics import auroc
from export.teach import TeachOptions, teach

GOOD = "good"


@dataclass(frozen=True, slots=True)
class KindResult:
    """The test parts of one kind: `good`, or a kind of defect."""

    kind: str
    parts: int
    failed: int


@dataclass(frozen=True, slots=True)
class CategoryResult:
    """One category of a dataset."""

    category: str
    image_auroc: float
    threshold: float
    kinds: tuple[KindResult, ...]
    bundle: str


@dataclass(frozen=True, slots=True)
class _TestPart:
    kind: str
    path: Path


def find_categories(root: Path, wanted: Sequence[str]) -> tuple[Path, ...]:
    """The categories below `root`, or `root` itself if it is one.

    Raises:
        ExportError: there is none, or a wanted one is missing; the message says what a category looks like.
    """
    if _is_category(root) and set(wanted) <= {root.name}:
        return (root,)
    found = {path.name: path for path in sorted(root.iterdir()) if _is_category(path)} if root.is_dir() else {}
    missing = [name for name in wanted if name not in found]
    if missing or not found:
        raise ExportError(
            f"{root}: no category {', '.join(missing) or 'at all'}; a category has train/good, test/good and "
            f"test/<defect kind>; found: {', '.join(found) or 'none'}"
        )
    return tuple(found[name] for name in wanted) if wanted else tuple(found.values())


def evaluate_category(category: Path, options: TeachOptions) -> CategoryResult:
    """Teach on `train/good`, inspect every test part, and count."""
    teach(replace(options, images=category / "train" / GOOD, name=category.name))
    bundle = read_bundle(options.out)
    inspector = Inspector(bundle, InspectorOptions(device=options.device, precision=options.precision, max_crops=0))
    parts = _test_parts(category)
    scores: dict[str, list[float]] = {}
    failed: dict[str, int] = {}
    with phase(f"inspecting {category.name}", len(parts)) as done:
        for number, part in enumerate(parts):
            frame = Frame(FrameIdentity(number, time.time(), time.monotonic()), read_picture(part.path))
            verdict = inspector.inspect(frame).verdict
            if verdict.outcome is Outcome.NO_RESULT:
                raise ExportError(f"{part.path}: {verdict.detail}")
            scores.setdefault(part.kind, []).append(verdict.score)
            failed[part.kind] = failed.get(part.kind, 0) + (verdict.outcome is Outcome.FAIL)
            done(number + 1)
    bad = [score for kind, values in scores.items() if kind != GOOD for score in values]
    return CategoryResult(
        category=category.name,
        image_auroc=auroc(scores[GOOD], bad),
        threshold=inspector.threshold,
        kinds=tuple(KindResult(kind, len(values), failed[kind]) for kind, values in sorted(scores.items())),
        bundle=bundle.model,
    )


def print_results(results: Sequence[CategoryResult], console: Console) -> None:
    """A table for people."""
    table = Table(title="At the threshold taught from good parts only")
    for name in ("category", "image AUROC", "good passed", "defective failed"):
        table.add_column(name, justify="left" if name == "category" else "right")
    for result in results:
        good = [kind for kind in result.kinds if kind.kind == GOOD]
        bad = [kind for kind in result.kinds if kind.kind != GOOD]
        table.add_row(
            result.category,
            f"{100 * result.image_auroc:.2f}",
            f"{sum(kind.parts - kind.failed for kind in good)} of {sum(kind.parts for kind in good)}",
            f"{sum(kind.failed for kind in bad)} of {sum(kind.parts for kind in bad)}",
        )
        for kind in bad:
            table.add_row(f"  {kind.kind}", "", "", f"{kind.failed} of {kind.parts}", style="dim")
    console.print(table)


def write_results(results: Sequence[CategoryResult], path: Path) -> None:
    """The results as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, (json.dumps([asdict(result) for result in results], indent=2) + "\n").encode())


def _is_category(path: Path) -> bool:
    return (path / "train" / GOOD).is_dir() and (path / "test" / GOOD).is_dir()


def _test_parts(category: Path) -> list[_TestPart]:
    kinds = sorted(path for path in (category / "test").iterdir() if path.is_dir())
    parts = [_TestPart(kind.name, path) for kind in kinds for path in list_pictures(str(kind))]
    if all(part.kind == GOOD for part in parts):
        raise ExportError(f"{category / 'test'}: no defective parts; put them into test/<defect kind>")
    return parts
