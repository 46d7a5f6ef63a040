"""Where the checkout is, and what may lie beside it."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"  # datasets and weights that are not part of the project; tests that use it are marked
