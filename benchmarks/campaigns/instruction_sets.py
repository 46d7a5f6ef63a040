"""EfficientNet-Lite0 in int8, taught here, on older processors: do they give the golden scores, and with which kernels?

oneDNN is told which instructions it may use; that leaves OpenVINO's own kernels as they are, so that where
`qemu-x86_64` is installed (Debian's qemu-user) processors are emulated as well, which restricts everything.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.campaigns import CampaignError, Rows
from edge.bundle.ir import Geometry
from edge.files.pictures import write_picture
from edge.sources.simulated.source import draw_part
from export.conversion.make_ir import make_ir
from export.conversion.options import ConvertOptions
from export.teaching.teach import TeachOptions, teach

COUNT = 6
_SIDE = 128
_PARTS = 24
_TIMEOUT_S = 240
_PROGRAM = """
import json, sys
from pathlib import Path
from edge.bundle.bundle import read_bundle
from edge.inspection.golden import run_golden
from edge.inspection.inspector import Inspector
bundle = read_bundle(Path(sys.argv[1]))
inspector = Inspector(bundle)
error = max(result.relative_error for result in run_golden(inspector, bundle))
print(json.dumps([error, list(inspector.embedder.kernels)]))
"""


@dataclass(frozen=True, slots=True)
class _Processor:
    name: str
    level: str = ""  # ONEDNN_MAX_CPU_ISA
    emulator: tuple[str, ...] = ()  # and its arguments, before the program


def run(count: int, seed: int) -> Rows:
    """Teach once, then ask `count` processors, the newest first.

    Raises:
        CampaignError: one of them does not reproduce the golden scores.
    """
    with tempfile.TemporaryDirectory(prefix="patchline-") as directory:
        bundle = _teach(Path(directory), seed)
        return [(processor.name, _ask(processor, bundle)) for processor in _processors()[:count]]


def _processors() -> Sequence[_Processor]:
    levels = ("AVX512_CORE_VNNI", "AVX512_CORE", "AVX2_VNNI", "AVX2", "SSE41")
    emulator = shutil.which("qemu-x86_64")
    emulated = [] if emulator is None else [_Processor("Haswell, emulated", emulator=(emulator, "-cpu", "Haswell"))]
    return [*(_Processor(f"oneDNN up to {level}", level) for level in levels), *emulated]


def _teach(directory: Path, seed: int) -> Path:
    """A bundle of simulated parts through an int8 IR."""
    good = directory / "good"
    good.mkdir()
    pictures = [good / f"{number:03}.png" for number in range(_PARTS)]
    for number, path in enumerate(pictures):
        write_picture(path, draw_part(seed, number, (2 * _SIDE, 2 * _SIDE), 0).image)
    network = ConvertOptions("efficientnet_lite0", geometry=Geometry(input_height=_SIDE, input_width=_SIDE))
    make_ir(network, directory / "ir", precision="int8", calibration=pictures)
    teach(TeachOptions(ir=directory / "ir", images=good, out=directory / "bundle"))
    return directory / "bundle"


def _ask(processor: _Processor, bundle: Path) -> str:
    """The largest difference of a golden score, and the kernels that made it."""
    environment = {**os.environ, **({"ONEDNN_MAX_CPU_ISA": processor.level} if processor.level else {})}
    done = subprocess.run(
        [*processor.emulator, sys.executable, "-c", _PROGRAM, str(bundle)],
        capture_output=True, text=True, check=False, env=environment, timeout=_TIMEOUT_S,
    )  # fmt: skip
    if done.returncode != 0:
        raise CampaignError(f"{processor.name}: {done.stderr.strip().splitlines()[-1:]}")
    error, kernels = json.loads(done.stdout)
    return f"golden scores within {error:.2%}; {', '.join(kernels)}"
