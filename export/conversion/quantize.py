"""An f32 IR becomes an int8 IR by NNCF post-training quantisation on pictures of good parts; no torch."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import openvino as ov

from edge.bundle.ir import MODEL_BIN, MODEL_XML, Geometry, IrDescription, Quantization, read_ir_description
from edge.errors import ExportError
from edge.files.schema import read_verified
from edge.records import UInt8Array
from export.conversion.ir_files import load_model, model_files, refuse_existing, run_model, write_ir
from export.conversion.reference import make_reference

# NNCF collects ranges and bias shifts: below this they are those of single pictures.
MINIMUM_PICTURES = 8
# NNCF's own default; statistics hardly move beyond it.
SUBSET_SIZE = 300
Preset = Literal["mixed", "performance"]
# |int8 - f32| over |f32| (Euclidean norms) of the features of 8 good test pictures of MVTec AD bottle at 256², 100 good
# parts to calibrate on, `performance` (symmetric), OpenVINO 2026.4 at f32 for the rest; the same on AMX, AVX512-VNNI,
# AVX2-VNNI, AVX-512, AVX2 and SSE4.1 but where two are given:
#                                              EfficientNet-Lite0               ResNet-18
#   weights in the whole range                 .142, without VNNI .555          –
#   all but the first layer's (NNCF's default) .180, without VNNI .238          .067
#   weights in half the range                  .189                             .071
# Without VNNI two products of 8 bits are added in 16, which only half the range is sure to fit. An IR is carried to
# other processors, so that half is taken: features that do not depend on the processor are worth the .009.
# `mixed` (asymmetric where signed) is as good and as fast, and no better.
DEFAULT_PRESET: Preset = "performance"
# Between what quantisation costs and what a kernel that miscalculates costs: see above.
MAXIMUM_FEATURE_ERROR = 0.5
# OpenVINO stores signed activations as u8 around 128 where the processor multiplies only those (all without AMX), and
# then pads an average pool with 0, which stands for -128: wherever that happens borders of the embedding are nonsense
# (EfficientNet-Lite0: .51 instead of .14). Pools therefore stay in f32, which takes no longer.
_LEFT_IN_F32 = ("AvgPool",)
CHECKED_PICTURES = 4


def quantize(
    ir_dir: Path,
    pictures: Iterable[UInt8Array],  # (input_height, input_width, 3) BGR
    out: Path,
    *,
    preset: Preset = DEFAULT_PRESET,
    subset_size: int = SUBSET_SIZE,
    overwrite: bool = False,
    verbose: bool = False,
    report: Callable[[str], None] = lambda _: None,
) -> IrDescription:
    """Write the int8 IR of `ir_dir` to `out`. Banks must be taught anew: its features are not the f32 ones.

    Args:
        ir_dir: an f32 IR directory.
        pictures: good parts as the model takes them; at most `subset_size` are drawn.
        out: the directory to be made.
        preset: of the activations; weights are always symmetric, int8 per channel.
        subset_size: pictures to calibrate on, at the most.
        overwrite: replace `out` if it is an IR directory.
        verbose: let NNCF talk on standard error.
        report: told about each step, a line at a time.

    Raises:
        BundleError: `ir_dir` is missing, damaged or of another version.
        ExportError: too few pictures or of another size, `out` exists, or the int8 model is no good.
    """
    refuse_existing(out, overwrite=overwrite)
    description = read_ir_description(ir_dir)
    if description.precision != "f32":
        raise ExportError(f"{ir_dir}: expected an f32 IR, got {description.precision}; give the one it came from")
    source = {name: read_verified(ir_dir, name, description.files[name]) for name in (MODEL_XML, MODEL_BIN)}
    batches = _batches(pictures, description.geometry, subset_size)
    report(f"{ir_dir}: quantising on {len(batches)} pictures")
    files = model_files(_quantize_model(load_model(source), batches, preset, verbose=verbose))
    error = _check_int8(source, files, batches[:CHECKED_PICTURES])
    report(f"int8 features differ from f32 by {error:.1%}; a bank must be taught with this IR anew")
    description = description.model_copy(
        update={
            "precision": "int8",
            "quantization": Quantization(pictures=len(batches), preset=preset, feature_error=error),
            "reference": make_reference(load_model(files), description.geometry),
            "versions": {**description.versions, "nncf": metadata.version("nncf")},
        }
    )
    return write_ir(out, description, files, overwrite=overwrite)


def _batches(pictures: Iterable[UInt8Array], geometry: Geometry, subset_size: int) -> list[UInt8Array]:
    """(1, input_height, input_width, 3) each, checked."""
    expected = (geometry.input_height, geometry.input_width, 3)
    batches: list[UInt8Array] = []
    for index, picture in enumerate(islice(pictures, subset_size)):
        if picture.shape != expected or picture.dtype != np.uint8:
            raise ExportError(
                f"calibration picture {index}: expected {expected} uint8, got {picture.shape} {picture.dtype}; "
                f"resize and crop it as the model.json says"
            )
        batches.append(picture[np.newaxis])
    if len(batches) < MINIMUM_PICTURES:
        raise ExportError(
            f"calibration: expected at least {MINIMUM_PICTURES} pictures of good parts, got {len(batches)}; "
            f"give more (some {SUBSET_SIZE} are best), or stay with f32"
        )
    return batches


def _quantize_model(model: ov.Model, batches: list[UInt8Array], preset: Preset, *, verbose: bool) -> ov.Model:
    import nncf  # noqa: PLC0415 — takes seconds, brings torch if there is one, and sets up logging of its own

    nncf.set_log_level(logging.INFO if verbose else logging.ERROR)
    # Its progress bars go to standard output, which is for results.
    with contextlib.redirect_stdout(sys.stderr if verbose else io.StringIO()):
        return nncf.quantize(
            model,
            nncf.Dataset(batches),
            preset=nncf.QuantizationPreset(preset),
            subset_size=len(batches),
            ignored_scope=nncf.IgnoredScope(types=list(_LEFT_IN_F32), validate=False),  # some networks have none
            advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE),
        )


def _check_int8(source: Mapping[str, bytes], files: Mapping[str, bytes], batches: list[UInt8Array]) -> float:
    """Refuse a model that has nothing quantised or lost its features; return how far they moved."""
    model, quantized = load_model(source), load_model(files)
    if not any(operation.get_type_name() == "FakeQuantize" for operation in quantized.get_ops()):
        raise ExportError("NNCF quantised no operation of this model; stay with f32")
    expected, got = run_model(model, batches), run_model(quantized, batches)
    error = float(np.linalg.norm(got - expected) / np.linalg.norm(expected))
    if not error <= MAXIMUM_FEATURE_ERROR:  # also when it is not a number
        raise ExportError(
            f"int8 features differ from f32 by {error:.0%} on {len(batches)} pictures: expected at most "
            f"{MAXIMUM_FEATURE_ERROR:.0%}; nothing was written. Use the other preset, or stay with f32"
        )
    return error
