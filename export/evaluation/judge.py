"""Who judges the test pictures: one bundle as on the line, or several together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from edge.bundle.bundle import Bundle, ThresholdRecord
from edge.errors import ExportError
from edge.inspection.inspector import Inspection, Inspector
from edge.inspection.options import InspectorOptions
from edge.records import Frame, Outcome
from export.evaluation.ensemble import Ensemble, EnsembleInspection


@dataclass(frozen=True, slots=True, eq=False)
class Judge:
    """One bundle or an ensemble, loaded."""

    bundles: tuple[Bundle, ...]
    answer: Callable[[Frame], Inspection | EnsembleInspection]  # with a map, whatever the outcome
    threshold: ThresholdRecord
    held_out: tuple[float, ...]  # scores of the good parts that set the threshold
    arithmetic: str

    def inspect(self, frame: Frame, path: Path) -> Inspection | EnsembleInspection:
        """Judge `frame`, which comes from `path`.

        Raises:
            ExportError: it cannot be judged.
        """
        inspection = self.answer(frame)
        if inspection.verdict.outcome is Outcome.NO_RESULT:
            raise ExportError(f"{path}: cannot be judged: {inspection.verdict.detail}; mend or remove it")
        return inspection


def open_judge(bundles: tuple[Bundle, ...], device: str, false_reject_rate: float) -> Judge:
    """Load `bundles` on an OpenVINO `device`; several are calibrated together for `false_reject_rate`.

    Raises:
        PatchlineError: as `Inspector` and `Ensemble`.
    """
    options = InspectorOptions(device=device, max_crops=0)
    if len(bundles) == 1:
        inspector = Inspector(bundles[0], options)
        manifest = bundles[0].manifest
        return Judge(
            bundles=bundles,
            answer=lambda frame: inspector.inspect(frame, want_map=True),
            threshold=manifest.threshold,
            held_out=tuple(part.score for part in manifest.teaching.held_out_scores),
            arithmetic=inspector.embedder.execution_precision,
        )
    ensemble = Ensemble(bundles, options, false_reject_rate=false_reject_rate)
    return Judge(
        bundles=bundles,
        answer=ensemble.inspect,
        threshold=ensemble.threshold,
        held_out=ensemble.held_out,
        arithmetic=joined(inspector.embedder.execution_precision for inspector in ensemble.inspectors),
    )


def joined(texts: Iterable[str]) -> str:
    """Every different one once."""
    return " + ".join(dict.fromkeys(texts))
