"""An IR's fingerprint: what it gives for one drawn picture, so that a machine that miscalculates it is found out.

OpenVINO chooses its kernels by the processor, and some of them are wrong: average pools of signed int8 give their
results with AMX, and others without. Whoever makes an IR checks it (against torch, or f32 on pictures of good parts)
and writes down the fingerprint; whoever teaches with it compares. Each IR is compared with itself: on a picture that
int8 was not calibrated for, even right int8 features are up to 56 % from those of f32, and no bound would tell them
apart.

The picture and the projection are raw numbers of PCG64 and whole-number arithmetic: the same wherever and whenever.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import openvino as ov

from edge.bundle.ir import REFERENCE_NUMBERS, Geometry, IrDescription
from edge.engine.embedder import Embedder
from edge.errors import ExportError
from edge.records import Float32Array, UInt8Array
from edge.terminal import say
from export.conversion.ir_files import run_model

# Relative error against the same IR on AMX at f32, seen from SSE4.1 to AMX with OpenVINO 2026.4 (ResNet-18,
# WideResNet50-2 and EfficientNet-Lite0 at 224² and 256²). Right: at most .001 for f32, .02 for int8, .05 for bf16.
# Wrong, which is Lite0 in int8 without AMX where its pools are int8 too (see `export.conversion.quantize`): .76 to .95.
MAXIMUM_REFERENCE_ERROR = 0.2
# Squares along each side and their weight, coarse to fine: large areas with edges, and texture within them.
_PATCHWORK = ((3, 4), (7, 2), (17, 1), (41, 1))
_PICTURE_SEED, _PROJECTION_SEED = 0, 1


class FeaturesError(ExportError):
    """This machine computes other features than those the IR was checked with: use another IR, arithmetic or device."""


def make_reference(model: ov.Model, geometry: Geometry) -> tuple[float, ...]:
    """What `model` gives for the picture on the CPU at f32: `IrDescription.reference`."""
    return project(run_model(model, [draw_reference(geometry)[np.newaxis]])[0])


def draw_reference(geometry: Geometry) -> UInt8Array:
    """The picture, (input_height, input_width, 3): squares of four sizes on top of each other."""
    height, width = geometry.input_height, geometry.input_width
    random = np.random.PCG64(_PICTURE_SEED)
    total = np.zeros((height, width, 3), np.int64)
    for cells, weight in _PATCHWORK:
        colours = _top_bits(random, cells * cells * 3, 8).reshape(cells, cells, 3)
        rows, columns = np.arange(height) * cells // height, np.arange(width) * cells // width
        total += weight * colours[rows][:, columns]
    return (total // sum(weight for _, weight in _PATCHWORK)).astype(np.uint8)


def project(patches: Float32Array) -> tuple[float, ...]:
    """Patch embeddings (patches, dim) as `REFERENCE_NUMBERS` numbers: every value is added to, or taken from, one.

    A count sketch (Charikar, Chen and Farach-Colton, 2002): distances are kept to about 12 %.
    """
    codes = _top_bits(np.random.PCG64(_PROJECTION_SEED), patches.size, (2 * REFERENCE_NUMBERS - 1).bit_length())
    signed = np.where(codes < REFERENCE_NUMBERS, 1.0, -1.0) * patches.ravel()
    sums = np.bincount(codes % REFERENCE_NUMBERS, weights=signed, minlength=REFERENCE_NUMBERS)
    return tuple(float(f"{value:.6g}") for value in sums)


def check_features(directory: Path, ir: IrDescription, embedder: Embedder) -> None:
    """Refuse to go on where `embedder` gives the reference picture other features than were recorded in `ir`.

    An IR made before there were references is let through, int8 with a note. The embedder's input is overwritten.

    Raises:
        FeaturesError: they differ by more than `MAXIMUM_REFERENCE_ERROR`.
    """
    if ir.reference is None:
        if ir.precision == "int8":
            say(f"note: {directory}: int8 was not checked on this machine, its model.json is too old; quantise again")
        return
    np.copyto(embedder.input, draw_reference(ir.geometry))
    error = _relative_error(project(embedder.embed().patches), ir.reference)
    if not error <= MAXIMUM_REFERENCE_ERROR:  # also when it is not a number
        raise FeaturesError(
            f"{directory}: this {ir.precision} IR gives other features here ({embedder.execution_devices}, "
            f"{embedder.execution_precision}) than where it was made: on the reference picture expected a relative "
            f"difference of at most {MAXIMUM_REFERENCE_ERROR:.0%}, got {error:.0%}; what is taught so is nonsense. "
            f"{_advice(ir)}"
        )


def _advice(ir: IrDescription) -> str:
    if ir.precision == "f32":
        return "Use other arithmetic (f32) or another device, or convert again"
    return "Use the f32 IR it came from, other arithmetic or another device"


def _relative_error(got: tuple[float, ...], expected: tuple[float, ...]) -> float:
    scale = math.hypot(*expected)
    return math.dist(got, expected) / scale if scale > 0 else math.inf


def _top_bits(random: np.random.PCG64, count: int, bits: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Whole numbers below 2^bits from the raw generator, whose numbers NumPy promises never to change."""
    raw: np.ndarray[tuple[int], np.dtype[np.uint64]] = random.random_raw(count)
    return (raw >> np.uint64(64 - bits)).astype(np.int64)
