"""Golden self-test: does this device reproduce the scores that the bundle was taught with?"""

from __future__ import annotations

from dataclasses import dataclass

from edge.bundle.bundle import Bundle
from edge.errors import SelfTestError
from edge.inspection.inspector import Inspector


@dataclass(frozen=True, slots=True)
class GoldenResult:
    """One golden frame on this device."""

    file: str
    expected: float
    got: float
    relative_error: float


def run_golden(inspector: Inspector, bundle: Bundle) -> tuple[GoldenResult, ...]:
    """Score every golden frame, as it was taught: a station's own region or mask changes nothing here.

    Raises:
        SelfTestError: a score or map peak is farther from its record than the bundle's tolerance.
    """
    tolerance = bundle.manifest.golden_tolerance
    scorer = inspector.taught_scorer()
    results = []
    for golden in bundle.golden:
        scored = scorer.score(golden.image)
        peak = float(scorer.map_of(scorer.patch_scores(scored)).values.max())
        error = max(_relative(scored.score, golden.record.score), _relative(peak, golden.record.map_peak))
        results.append(GoldenResult(golden.record.file, golden.record.score, scored.score, error))
    wrong = [result for result in results if not result.relative_error <= tolerance]
    if wrong:
        worst = max(wrong, key=lambda result: result.relative_error)
        raise SelfTestError(
            f"golden self-test on {inspector.embedder.execution_devices}: {worst.file}: expected a score of "
            f"{worst.expected:.4f} within {tolerance:.1%}, got {worst.got:.4f}; {_advice(inspector, bundle)}"
        )
    return tuple(results)


def _advice(inspector: Inspector, bundle: Bundle) -> str:
    taught = bundle.manifest.inference_precision
    if inspector.precision != taught:
        return f"it was taught with {taught} and {inspector.precision} is forced: leave the precision as taught"
    return "teach again on this device or use the device that the bundle was taught on"


def _relative(got: float, expected: float) -> float:
    return abs(got - expected) / max(abs(expected), 1e-9)
