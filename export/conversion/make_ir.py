"""How an IR is to be made, and making it: f32 by conversion, int8 by conversion and quantisation.

torch is loaded when an IR is made, not before: what only looks at recipes works without it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from edge.bundle.ir import DEFAULT_GEOMETRY, EmbeddingName, Geometry, IrDescription, IrPrecision
from edge.errors import ExportError
from edge.files.pictures import read_picture
from edge.inspection.preprocess import inspected_region, prepare
from edge.records import UInt8Array
from export.conversion.ir_files import refuse_existing
from export.conversion.names import BackboneName

PARITY_PICTURES = 4
CALIBRATION_PICTURES = 300


@dataclass(frozen=True, slots=True)
class IrRecipe:
    """What makes an IR what it is."""

    backbone: BackboneName = "wide_resnet50_2"
    weights: Path | None = None  # none: the published ones
    random_seed: int | None = None  # random weights instead
    layers: tuple[str, ...] = ("layer2", "layer3")
    embedding: EmbeddingName = "concat"
    neighbourhood: int = 3
    geometry: Geometry = DEFAULT_GEOMETRY
    precision: IrPrecision = "f32"


def make_ir(
    recipe: IrRecipe,
    out: Path,
    *,
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
        from export.conversion.convert import ConvertOptions, convert  # noqa: PLC0415 — the station has no torch
        from export.conversion.weights import WeightsChoice  # noqa: PLC0415
    except ImportError as error:
        raise ExportError(
            f"convert needs the 'export' extra ({error.name} is missing): pip install '.[export]' -c constraints.txt, "
            "on any machine; the IR directory is then copied to the station"
        ) from error
    options = ConvertOptions(
        backbone=recipe.backbone,
        layers=recipe.layers,
        embedding=recipe.embedding,
        neighbourhood=recipe.neighbourhood,
        geometry=recipe.geometry,
        weights=WeightsChoice(file=recipe.weights, random_seed=recipe.random_seed),
    )
    limit = PARITY_PICTURES if recipe.precision == "f32" else CALIBRATION_PICTURES
    pictures = load_inputs(calibration, recipe.geometry, limit)
    parity = pictures[:PARITY_PICTURES]
    if recipe.precision == "f32":
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
