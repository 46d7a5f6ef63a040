"""Pictures in; for each an overlay, the anomaly map and one verdict."""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
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
from edge.records import Frame, FrameIdentity, Outcome, Verdict

_LONGEST_STEM = 180  # bytes; file systems take names of 255


@dataclass(frozen=True, slots=True)
class Outputs:
    """What is written for one picture."""

    picture: Path
    name: str  # in its verdict: the file's, or where several share it the whole path
    overlay: Path
    map: Path


def plan_outputs(where: Sequence[str], out: Path) -> tuple[Outputs, ...]:
    """The pictures of all the places, and where their results go; no two share a name.

    Raises:
        SourceError: a place has no pictures.
    """
    pictures = list(dict.fromkeys(path for place in where for path in list_pictures(place)))
    stems = Counter(path.stem for path in pictures)
    names = Counter(path.name for path in pictures)
    planned = []
    taken: set[str] = set()
    for path in pictures:
        stem = _fitting(path.stem if stems[path.stem] == 1 else f"{path.parent.name}_{path.name.replace('.', '_')}")
        while stem in taken:
            stem += "_"
        taken.add(stem)
        name = path.name if names[path.name] == 1 else str(path)
        planned.append(Outputs(path, name, out / f"{stem}.jpg", out / f"{stem}.npy"))
    overwritten = {path.resolve() for path in pictures} & {entry.overlay.resolve() for entry in planned}
    if overwritten:
        raise SettingsError(f"--out {out}: would overwrite {min(overwritten)}; give another directory")
    return tuple(planned)


def _fitting(stem: str) -> str:
    """Short enough for a file's name with a suffix, and another one while it is written."""
    encoded = os.fsencode(stem)
    if len(encoded) <= _LONGEST_STEM:
        return stem
    return f"{encoded[:_LONGEST_STEM].decode(errors='ignore')}-{hashlib.sha256(encoded).hexdigest()[:12]}"


def inspect_pictures(
    inspector: Inspector,
    planned: Sequence[Outputs],
    *,
    pixel_threshold: float,
    tell: Callable[[int, Verdict], None],
    complain: Callable[[str], None],
) -> int:
    """Inspect every picture, tell each verdict (with its number, from 1), and return how many could not be judged."""
    ignored = None if inspector.ignored is None else inspector.ignored.reshape(inspector.embedder.grid)
    unjudged = 0
    for number, entry in enumerate(planned, start=1):
        frame = _frame_of(entry, number)
        inspection = inspector.inspect(frame, want_map=True)
        unjudged += inspection.verdict.outcome is Outcome.NO_RESULT
        if inspection.verdict.detail:
            named = "" if frame.unusable else f"{entry.picture}: "  # what reading refused has its name already
            complain(f"{named}{inspection.verdict.detail}")
        if not frame.unusable:
            overlay = draw_overlay(frame.image, inspection.verdict, inspection.anomaly, pixel_threshold, ignored)
            write_picture(entry.overlay, overlay)
            _write_map(entry, inspection)
        tell(number, inspection.verdict)
    return unjudged


def _frame_of(entry: Outputs, number: int) -> Frame:
    """The picture, or why it cannot be read: as on the line, it is answered NO_RESULT all the same."""
    identity = FrameIdentity(
        sequence=number - 1,
        captured_at_s=time.time(),
        captured_monotonic_s=time.monotonic(),
        name=entry.name,
    )
    try:
        return Frame(identity, read_picture(entry.picture))
    except SourceError as error:
        return Frame(identity, np.empty((0, 0, 3), np.uint8), unusable=str(error))


def _write_map(entry: Outputs, inspection: Inspection) -> None:
    if inspection.anomaly is not None:
        stream = BytesIO()
        np.save(stream, inspection.anomaly.values, allow_pickle=False)
        try:
            write_file(entry.map, stream.getvalue())
        except OSError as error:
            raise PatchlineError(f"{entry.map}: cannot be written ({error.strerror}); check disk space") from error
