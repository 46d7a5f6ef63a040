"""How an IR is to be made, and making it: f32 by conversion, int8 by conversion and quantisation.

torch is loaded when an IR is made, not before: what only looks at options works without it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from edge.bundle.ir import Geometry, IrDescription, IrPrecision
from edge.errors import ExportError
from edge.files.pictures import read_picture
from edge.inspection.preprocess import inspected_region, prepare
from edge.records import UInt8Array
from export.conversion.ir_files import refuse_existing
from export.conversion.options import ConvertOptions

PARITY_PICTURES = 4
CALIBRATION_PICTURES = 300


def make_ir(
    options: ConvertOptions,
    out: Path,
    *,
    precision: IrPrecision = "f32",
    calibration: Sequence[Path] = (),
    tolerance: float = 1e-3,
    overwrite: bool = False,
    report: Callable[[str], None] = lambda _: None,
) -> IrDescription:
    """Make the IR directory `out`; int8 is calibrated, and f32 compared with torch, on `calibration` pictures.

    Raises:
        ExportError: torch or NNCF is not installed, weights cannot be had, or torch and IR disagree.
        SourceError: a calibration picture cannot be read.
    """
    refuse_existing(out, overwrite=overwrite)
    try:
        from export.conversion.convert import convert  # noqa: PLC0415 — the station has no torch
    except ImportError as error:
        raise ExportError(
            f"convert needs the 'export' extra ({error.name} is missing): pip install '.[export]' -c constraints.txt, "
            "on any machine; the IR directory is then copied to the station"
        ) from error
    limit = PARITY_PICTURES if precision == "f32" else CALIBRATION_PICTURES
    pictures = load_inputs(calibration, options.geometry, limit)
    parity = pictures[:PARITY_PICTURES]
    if precision == "f32":
        return convert(options, out, parity_pictures=parity, tolerance=tolerance, overwrite=overwrite, report=report)
    quantize = import_quantize()
    with tempfile.TemporaryDirectory(prefix="patchline-") as scratch:
        f32 = Path(scratch) / "f32"
        convert(options, f32, parity_pictures=parity, tolerance=tolerance, report=report)
        return quantize(f32, pictures, out, overwrite=overwrite, report=report)


def import_quantize() -> Callable[..., IrDescription]:
    """`export.conversion.quantize.quantize`, whose requirements are loaded for int8 only.

    Raises:
        ExportError: NNCF is not installed.
    """
    if find_spec("nncf") is None:
        raise ExportError("int8 needs NNCF: pip install '.[int8]' -c constraints.txt")
    from export.conversion.quantize import quantize  # noqa: PLC0415

    return quantize


def load_inputs(paths: Sequence[Path], geometry: Geometry, limit: int) -> list[UInt8Array]:
    """Up to `limit` pictures, spread over all, each as the model's input (input_height, input_width, 3)."""
    step = max(1, len(paths) // limit)
    inputs = []
    for path in paths[::step][:limit]:
        picture = read_picture(path)
        prepared = np.empty((geometry.input_height, geometry.input_width, 3), np.uint8)
        prepare(picture, inspected_region(picture.shape[0], picture.shape[1], geometry, None), prepared)
        inputs.append(prepared)
    return inputs
