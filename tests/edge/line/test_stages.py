"""What no test of the whole service can time: the moment at which a frame is bound to its recipe."""

from __future__ import annotations

import dataclasses
import queue
import time
from pathlib import Path

import numpy as np

from edge.health.supervision import Heartbeat
from edge.inspection.options import InspectorOptions
from edge.line.buffer import Buffer, WhenFull
from edge.line.drain import Drain
from edge.line.gate import Gate
from edge.line.recipe import Recipe, open_recipe
from edge.line.recipes import Recipes, Shelf, Switch
from edge.line.stages import Capture, Job
from edge.records import Frame, FrameIdentity
from edge.settings.sections import InspectionSettings
from edge.sources.base import SourceState

PATIENCE_S = 60.0
FRAMES = 20


class Line:
    """A source whose fifth, tenth and fifteenth frame come just after somebody has switched to another recipe."""

    live = False
    dropped = 0
    state = SourceState.STREAMING

    def __init__(self, bundle: Path) -> None:
        self.told: queue.SimpleQueue[Switch] = queue.SimpleQueue()
        self.number = 0
        first = open_recipe(bundle, InspectorOptions(), self_test=False, name="r0")
        names = frozenset(f"r{number}" for number in range(4))
        shelf = Shelf(names, lambda name: name, lambda name: dataclasses.replace(first, name=name))
        self.recipes = Recipes(first, shelf, 2, lambda _: None)

    def read(self, timeout_s: float) -> Frame:
        del timeout_s
        if self.number and self.number % 5 == 0:
            self.recipes.switch(f"r{self.number // 5}", self.told.put)
            self.told.get(timeout=PATIENCE_S)
        identity = FrameIdentity(self.number, time.time(), time.monotonic())
        self.number += 1
        if self.number == FRAMES:
            self.state = SourceState.ENDED
        return Frame(identity, np.zeros((1, 1, 3), np.uint8))

    def close(self) -> None:
        self.recipes.close()


def test_a_frame_keeps_the_recipe_that_was_active_when_it_came_however_long_it_waits(bundle_dir: Path) -> None:
    line = Line(bundle_dir)
    jobs: Buffer[Job] = Buffer(FRAMES, WhenFull.BLOCK)
    gate = Gate(InspectionSettings(), live=False)
    Capture(line, gate, line.recipes, jobs, Drain(PATIENCE_S)).run(Heartbeat())
    waited: list[Recipe] = []
    while (job := jobs.get(0)) is not None:
        waited.append(job.recipe)
    line.close()
    assert [recipe.name for recipe in waited] == [f"r{number // 5}" for number in range(FRAMES)]
