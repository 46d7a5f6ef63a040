"""Pictures in; for each an overlay, the anomaly map and one verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from edge.errors import PatchlineError, SettingsError, SourceError
from edge.files.atomic import write_file
from edge.files.pictures import list_pictures, read_picture, write_picture
from edge.inspection.inspector import Inspection, Inspector
from edge.inspection.overlay import draw_overlay
from edge.records import Frame, FrameIdentity, UInt8Array, Verdict


@dataclass(frozen=True, slots=True)
class Outputs:
    """What is written for one picture."""

    picture: Path
    overlay: Path
    map: Path


def plan_outputs(where: Sequence[str], out: Path) -> tuple[Outputs, ...]:
    """The pictures of all the places, and where their results go; no two share a name.

    Raises:
        SourceError: a place has no pictures.
    """
    pictures = list(dict.fromkeys(path for place in where for path in list_pictures(place)))
    stems = [path.stem for path in pictures]
    planned = []
    taken: set[str] = set()
    for path in pictures:
        name = path.stem if stems.count(path.stem) == 1 else f"{path.parent.name}_{path.name.replace('.', '_')}"
        while name in taken:
            name += "_"
        taken.add(name)
        planned.append(Outputs(path, out / f"{name}.jpg", out / f"{name}.npy"))
    overwritten = {path.resolve() for path in pictures} & {entry.overlay.resolve() for entry in planned}
    if overwritten:
        raise SettingsError(f"--out {out}: would overwrite {min(overwritten)}; give another directory")
    return tuple(planned)


def inspect_pictures(
    inspector: Inspector,
    planned: Sequence[Outputs],
    *,
    pixel_threshold: float,
    tell: Callable[[int, Verdict], None],
    complain: Callable[[str], None],
) -> int:
    """Inspect every picture, tell each verdict (with its number, from 1), and return how many were unreadable."""
    unreadable = 0
    for number, entry in enumerate(planned, start=1):
        try:
            image = read_picture(entry.picture)
        except SourceError as error:
            unreadable += 1
            complain(str(error))
            continue
        identity = FrameIdentity(
            sequence=number - 1,
            captured_at_s=time.time(),
            captured_monotonic_s=time.monotonic(),
            name=entry.picture.name,
        )
        inspection = inspector.inspect(Frame(identity, image), want_map=True)
        if inspection.verdict.detail:
            complain(f"{entry.picture}: {inspection.verdict.detail}")
        _write(entry, image, inspection, pixel_threshold)
        tell(number, inspection.verdict)
    return unreadable


def _write(entry: Outputs, image: UInt8Array, inspection: Inspection, pixel_threshold: float) -> None:
    write_picture(entry.overlay, draw_overlay(image, inspection.verdict, inspection.anomaly, pixel_threshold))
    if inspection.anomaly is not None:
        stream = BytesIO()
        np.save(stream, inspection.anomaly.values, allow_pickle=False)
        try:
            write_file(entry.map, stream.getvalue())
        except OSError as error:
            raise PatchlineError(f"{entry.map}: cannot be written ({error.strerror}); check disk space") from error
