"""What is measured: networks, bundles, graphs and pictures, made once by Patchline's own commands and kept.

Weights are random where none come by pip: speed does not depend on them. Features of random networks are not those of
trained ones, so that figures of the search, which depends on how features lie, are for orientation on those.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import openvino as ov

from benchmarks.graph import NEIGHBOURS, build_graph
from edge.bundle.bundle import BANK, read_bundle
from edge.bundle.ir import MODEL_XML, IrDescription, read_ir_description
from edge.records import Float32Array

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
PRETRAINED = "efficientnet_lite0"
TAUGHT, HELD_OUT = 80, 20  # pictures; so few teach fast, and a bank's speed depends on its size
FALSE_REJECTS = 0.2  # so many that a random network, which sees little, gives FAIL frames enough to measure
SHOWN = 32  # pictures of either kind that are measured, of another line than those taught
PATCHES = 1024  # of a picture at 256²
# 10 % and 1 % of 200 pictures at the paper's 784 patches: the sizes of the figures that we compare ourselves with.
LARGE_BANK, SMALL_BANK = 15_680, 1_568

IrPrecision = Literal["f32", "int8"]
Arithmetic = Literal["f32", "bf16"]


@dataclass(frozen=True, slots=True)
class Case:
    """One network with one size of bank."""

    backbone: str
    bank: int

    @property
    def name(self) -> str:
        """Of directories, files and rows."""
        return f"{self.backbone}-{self.bank}"


class Materials:
    """A directory in which everything is made when it is first asked for."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory

    @property
    def cache(self) -> Path:
        """Of compiled models."""
        return self.directory / "cache"

    def good(self) -> Path:
        """Pictures of good parts to teach from."""
        return self.pictures("good", TAUGHT + HELD_OUT, seed=0, defect_rate=0)

    def shown_good(self) -> Path:
        """Pictures of other good parts."""
        return self.pictures("shown-good", SHOWN, seed=1, defect_rate=0)

    def shown_defective(self) -> Path:
        """Pictures of defective parts."""
        return self.pictures("shown-defective", SHOWN, seed=2, defect_rate=1)

    def ir(self, backbone: str, precision: IrPrecision) -> Path:
        """The IR directory, 256²."""
        made = self.directory / f"ir-{backbone}-{precision}"
        if made.is_dir():
            return made
        if precision == "int8":
            f32 = self.ir(backbone, "f32")
            run("patchline-export", "quantize", "--ir", str(f32), "--calibration", str(self.good()), "--out", str(made))
            return made
        weights = [] if backbone == PRETRAINED else ["--random-weights", "0"]
        run("patchline-export", "convert", "--backbone", backbone, *weights, "--out", str(made))
        return made

    def description(self, backbone: str) -> IrDescription:
        """Of the f32 IR."""
        return read_ir_description(self.ir(backbone, "f32"))

    def model(self, backbone: str) -> ov.Model:
        """The f32 IR."""
        return ov.Core().read_model(self.ir(backbone, "f32") / MODEL_XML)

    def bundle(self, case: Case, precision: IrPrecision, arithmetic: Arithmetic) -> Path:
        """Taught from `good` with a bank of exactly `case.bank` vectors; scores re-weighted as the graph's are."""
        made = self.directory / f"bundle-{case.name}-{precision}-{arithmetic}"
        if not made.is_dir():
            ratio = case.bank / (TAUGHT * PATCHES)
            run("patchline-export", "teach", "--ir", str(self.ir(case.backbone, precision)),
                "--images", str(self.good()), "--out", str(made), "--arithmetic", arithmetic, "--allow-random",
                "--hold-out", str(HELD_OUT / (TAUGHT + HELD_OUT)), "--coreset-ratio", repr(ratio),
                "--false-reject-rate", str(FALSE_REJECTS),
                "--reweight-neighbours", str(NEIGHBOURS))  # fmt: skip
        return made

    def graph(self, case: Case) -> Path:
        """The usual deployment: network and bank of the f32 bundle in one IR."""
        made = self.directory / f"graph-{case.name}" / MODEL_XML
        if not made.is_file():
            description = self.description(case.backbone)
            bank = np.load(self.bundle(case, "f32", "f32") / BANK, allow_pickle=False)
            size = description.geometry.input_height, description.geometry.input_width
            graph = build_graph(self.model(case.backbone), bank, description.grid, size)
            with _whole(made.parent) as directory:
                ov.save_model(graph, directory / MODEL_XML, compress_to_fp16=False)
        return made

    def bank(self, case: Case) -> Float32Array:
        """The vectors (n, dim) of the f32 bundle."""
        return read_bundle(self.bundle(case, "f32", "f32")).bank

    def pictures(self, name: str, count: int, *, seed: int, defect_rate: int) -> Path:
        """A directory of simulated parts; the seed is that of the line, whose product is always the same."""
        made = self.directory / name
        if not made.is_dir():
            with _whole(made) as directory:
                run("patchline-edge", "capture", "--count", str(count), "--out", str(directory),
                    PATCHLINE_SOURCE__SEED=str(seed), PATCHLINE_SOURCE__DEFECT_RATE=str(defect_rate))  # fmt: skip
        return made


@contextmanager
def _whole(directory: Path) -> Iterator[Path]:
    """A directory to fill, which gets its name when that is done: an interrupted run leaves no half."""
    unfinished = directory.with_name(f"{directory.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    yield unfinished
    unfinished.rename(directory)


def run(program: str, *arguments: str, **environment: str) -> None:
    """One of Patchline's commands; what it says goes to our standard error."""
    subprocess.run([str(BIN / program), *arguments], check=True, stdout=sys.stderr, env={**os.environ, **environment})
