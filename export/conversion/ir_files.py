"""What both makers of IR directories share: the bytes of a model, running it, and writing a directory whole."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from edge.bundle.ir import MODEL_BIN, MODEL_JSON, MODEL_XML, IrDescription
from edge.errors import ExportError
from edge.files.atomic import refuse_unwritable, write_directory
from edge.files.schema import hash_bytes
from edge.records import Float32Array, UInt8Array


def load_model(files: Mapping[str, bytes]) -> ov.Model:
    """The model in the bytes of `model.xml` and `model.bin`."""
    return ov.Core().read_model(model=files[MODEL_XML], weights=files[MODEL_BIN])


def run_model(model: ov.Model, batches: Sequence[UInt8Array]) -> Float32Array:
    """Patch embeddings (n, patches, dim) of n pictures (1, height, width, 3), on the CPU, at f32."""
    config = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled: Any = ov.Core().compile_model(model, "CPU", config)
    return np.stack([np.array(compiled([batch])[0], np.float32) for batch in batches])


def model_files(model: ov.Model) -> dict[str, bytes]:
    """`model.xml` and `model.bin` of a model, weights in the precision they have.

    Raises:
        ExportError: the temporary directory cannot take them.
    """
    try:
        with tempfile.TemporaryDirectory() as directory:
            ov.save_model(model, Path(directory) / MODEL_XML, compress_to_fp16=False)
            return {name: (Path(directory) / name).read_bytes() for name in (MODEL_XML, MODEL_BIN)}
    except (OSError, RuntimeError) as error:  # OpenVINO reports a full disk as a RuntimeError
        raise ExportError(
            f"{tempfile.gettempdir()}: the IR cannot be stored there for a moment ({error}); "
            f"make room, or point TMPDIR elsewhere"
        ) from error


def refuse_existing(out: Path, *, overwrite: bool) -> None:
    """Refuse `out` if it cannot be written or exists, unless it is an IR directory that may be replaced.

    Raises:
        ExportError: saying which.
    """
    refuse_unwritable(out.parent, ExportError)
    if not out.exists() and not out.is_symlink():
        return
    if not overwrite:
        raise ExportError(f"{out}: exists already; choose another name, or allow overwriting it")
    names = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if MODEL_JSON not in names or not names <= {MODEL_XML, MODEL_BIN, MODEL_JSON}:
        raise ExportError(
            f"{out}: only an IR directory ({MODEL_XML}, {MODEL_BIN}, {MODEL_JSON}) is overwritten, "
            f"and this is something else; choose another name"
        )


def write_ir(out: Path, description: IrDescription, files: Mapping[str, bytes], *, overwrite: bool) -> IrDescription:
    """Write `out` whole or not at all; the description returned has the hashes of `files`.

    Raises:
        ExportError: `out` exists, or the disk refuses.
    """
    refuse_existing(out, overwrite=overwrite)
    described = description.model_copy(
        update={"files": {name: hash_bytes(contents) for name, contents in files.items()}}
    )
    text = described.model_dump_json(indent=2) + "\n"
    write_directory(out, {**files, MODEL_JSON: text.encode()}, replace=overwrite, error=ExportError)
    return described
