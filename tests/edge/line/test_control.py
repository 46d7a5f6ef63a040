"""Commands are executed once, answered once, and every trigger that is accepted is answered."""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.rig.brokers import PATIENCE_S, wait_until
from edge.errors import BundleError
from edge.health.supervision import Heartbeat
from edge.inspection.options import InspectorOptions
from edge.line.control import Control
from edge.line.gate import Gate
from edge.line.recipe import Recipe, open_recipe
from edge.line.recipes import Recipes, Shelf
from edge.protocol.commands import Request
from edge.records import Frame, FrameIdentity, Message, Outcome, Reason, Verdict
from edge.settings.tree import Settings

BASE = "patchline/site/line/station"
TRIGGERED = {"trigger": "command", "deadline_ms": 300.0, "max_triggers": 3}


@dataclass
class Station:
    """A control that runs, and what comes out of it."""

    control: Control
    gate: Gate
    recipes: Recipes
    replies: queue.SimpleQueue[Message]
    verdicts: list[Verdict] = field(default_factory=list)
    numbers: int = 0

    def send(self, name: str, payload: object = None, *, correlation: bytes = b"", **values: Any) -> None:
        self.numbers += 1
        request = Request(
            topic=f"{BASE}/cmd/{name}",
            payload=b"" if payload is None else json.dumps(payload).encode(),
            retained=values.get("retained", False),
            response_topic=values.get("response_topic", f"{BASE}/reply/plc"),
            correlation=correlation or b"%d" % self.numbers,
            received_s=time.monotonic(),
        )
        self.control.request(request)

    def reply(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.replies.get(timeout=PATIENCE_S).payload)
        return found

    def ask(self, name: str, payload: object = None, **values: Any) -> str:
        """The error of the reply; "": it is done."""
        self.send(name, payload, **values)
        reply = self.reply()
        assert reply["command"] == name
        assert reply["ok"] == int(not reply["error"])
        return str(reply["error"])


@pytest.fixture(scope="module")
def recipe(bundle_dir: Path) -> Recipe:
    return open_recipe(bundle_dir, InspectorOptions(), self_test=False, name="plate")


@contextmanager
def running(
    recipe: Recipe,
    inspection: dict[str, Any] | None = None,
    prepare: Callable[[str], Recipe] | None = None,
    **commands: Any,
) -> Iterator[Station]:
    """A station without a camera, which ends as the service does."""
    settings = Settings.model_validate(
        {"commands": {"enabled": True, **commands}, "inspection": inspection or {}, "source": {"kind": "simulated"}}
    )
    replies: queue.SimpleQueue[Message] = queue.SimpleQueue()

    def reply(message: Message) -> bool:
        replies.put(message)
        return True

    gate = Gate(settings.inspection, live=True)
    shelf = Shelf(frozenset({"plate", "disc"}), lambda _: recipe.manifest.identity, prepare or (lambda _: recipe))
    recipes = Recipes(recipe, shelf, 2, lambda _: None)
    control = Control(
        settings,
        BASE,
        gate,
        recipes,
        give=lambda verdict, _: station.verdicts.append(verdict),
        reply=reply,
    )
    station = Station(control, gate, recipes, replies)
    thread = threading.Thread(target=control.run, args=(Heartbeat(),))
    thread.start()
    try:
        yield station
    finally:
        control.end()
        thread.join(PATIENCE_S)
        recipes.close()
        assert not thread.is_alive()


def test_pause_and_resume_are_done_and_said(recipe: Recipe) -> None:
    with running(recipe) as station:
        assert station.ask("pause") == ""
        assert station.gate.paused
        assert station.ask("resume") == ""
        assert not station.gate.paused


def test_a_command_that_comes_again_is_not_executed_again_but_answered_again(recipe: Recipe) -> None:
    with running(recipe, TRIGGERED) as station:
        for _ in range(3):
            assert station.ask("trigger", {"trigger_id": "17"}, correlation=b"same") == ""
        assert station.gate.report()["triggers"] == 1
    assert [verdict.identity.trigger_id for verdict in station.verdicts] == ["17"]


def test_a_trigger_without_a_frame_is_answered_at_its_deadline(recipe: Recipe) -> None:
    with running(recipe, TRIGGERED) as station:
        sent_at_s = time.time()
        assert station.ask("trigger", {"trigger_id": "17", "part_id": "bottle"}) == ""
        wait_until(lambda: len(station.verdicts) == 1, "the trigger is answered")

        (verdict,) = station.verdicts
        assert (verdict.outcome, verdict.reason) == (Outcome.NO_RESULT, Reason.CAMERA_STALE)
        identity = verdict.identity
        assert (identity.trigger_id, identity.part_id, identity.simulated) == ("17", "bottle", True)
        assert verdict.latency_ms >= 300
        assert abs(identity.captured_at_s - sent_at_s) < PATIENCE_S


def test_a_trigger_too_many_is_accepted_and_answered_at_once(recipe: Recipe) -> None:
    with running(recipe, {**TRIGGERED, "deadline_ms": 60_000.0}) as station:
        for number in range(4):
            assert station.ask("trigger", {"trigger_id": str(number)}) == ""
        wait_until(lambda: len(station.verdicts) == 1, "the fourth is answered")

        assert (station.verdicts[0].identity.trigger_id, station.verdicts[0].reason) == ("3", Reason.OVERRUN)
    assert Counter(verdict.identity.trigger_id for verdict in station.verdicts) == Counter("0123")


def test_whatever_comes_first_every_accepted_trigger_has_exactly_one_answer(recipe: Recipe) -> None:
    """Triggers, frames and verdicts from threads of their own, with deadlines in between."""
    inspection = {**TRIGGERED, "deadline_ms": 20.0}
    accepted: list[str] = []
    judged: list[FrameIdentity] = []
    stop = threading.Event()
    with running(recipe, inspection, max_per_s=1000) as station:

        def capture_and_judge() -> None:
            sequence = 0
            while not stop.wait(0.002):
                sequence += 1
                identity = FrameIdentity(sequence, time.time(), time.monotonic())
                admitted = station.gate.admit(Frame(identity, np.zeros((1, 1, 3), np.uint8)))
                if admitted is not None:
                    stop.wait((sequence % 7) * 0.005)  # some are too late
                    if station.gate.claim(admitted.identity):
                        judged.append(admitted.identity)

        threads = [threading.Thread(target=capture_and_judge) for _ in range(2)]
        for thread in threads:
            thread.start()
        for number in range(200):
            if station.ask("trigger", {"trigger_id": str(number)}) == "":
                accepted.append(str(number))
            time.sleep(0.003)
        stop.set()
        for thread in threads:
            thread.join()
        station.gate.end_capture()
    answers = Counter([identity.trigger_id for identity in judged])
    answers.update(verdict.identity.trigger_id for verdict in station.verdicts)
    assert answers == Counter(accepted)
    assert judged
    assert any(verdict.reason is Reason.DEADLINE_MISSED for verdict in station.verdicts)


def test_a_recipe_that_is_loaded_in_the_background_is_answered_when_it_is_active(recipe: Recipe) -> None:
    release = threading.Event()

    def prepare(name: str) -> Recipe:
        release.wait(PATIENCE_S)
        return Recipe(name, recipe.manifest, recipe.inspectors)

    with running(recipe, prepare=prepare) as station:
        station.send("recipe", {"name": "disc"}, correlation=b"r")
        station.send("recipe", {"name": "disc"}, correlation=b"r")  # again, while it is being loaded
        assert station.ask("pause") == ""  # other commands do not wait for it
        assert station.replies.empty()
        release.set()

        assert station.reply() == {
            "v": 1,
            "command": "recipe",
            "ok": 1,
            "error": "",
            "recipe": "disc",
            "model": recipe.model,
        }
        assert station.recipes.active.name == "disc"
        assert station.ask("recipe", {"name": "plate"}) == ""
        assert station.recipes.active.name == "plate"
        assert station.replies.empty()


def test_a_recipe_that_is_refused_leaves_the_old_one_active_and_says_why(recipe: Recipe) -> None:
    def prepare(name: str) -> Recipe:
        raise BundleError(f"{name}: bank.npy: expected another sha256")

    with running(recipe, prepare=prepare) as station:
        assert "disc: bank.npy: expected another sha256" in station.ask("recipe", {"name": "disc"})
        assert "there is no such recipe; known: disc, plate" in station.ask("recipe", {"name": "../../etc"})
        assert station.recipes.active is recipe


def test_of_two_recipes_the_last_wish_counts_and_the_first_is_told(recipe: Recipe) -> None:
    loading, release = threading.Event(), threading.Event()

    def prepare(name: str) -> Recipe:
        loading.set()
        release.wait(PATIENCE_S)
        return Recipe(name, recipe.manifest, recipe.inspectors)

    with running(recipe, prepare=prepare) as station:
        station.send("recipe", {"name": "disc"}, correlation=b"1")
        assert loading.wait(PATIENCE_S)
        assert station.ask("recipe", {"name": "plate"}) == ""
        release.set()

        assert station.reply()["error"] == "meanwhile another recipe was asked for"
        assert station.recipes.active.name == "plate"


def test_every_command_is_one_line_that_names_neither_payload_nor_correlation(
    recipe: Recipe, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with running(recipe, TRIGGERED) as station:
        station.ask("trigger", {"trigger_id": "hunter2"}, correlation=b"secret")
        station.ask("trigger", {"trigger_id": "hunter2", "hunter2": 1})
        station.ask("reboot", {"hunter2": 1})
        station.ask("pause", retained=True)
        station.send("pause", response_topic="$SYS/hunter")
        wait_until(lambda: station.control.report()["commands"] == 5, "all are heard")
        assert station.control.report() == {"commands": 5, "commands_refused": 4, "commands_unheard": 0}
    lines = [getattr(record, "fields", {}) for record in caplog.records if record.message == "command"]
    assert [(line["command"], line["ok"], line["answered"]) for line in lines] == [
        ("trigger", 1, 1),
        ("trigger", 0, 1),
        ("reboot", 0, 1),
        ("pause", 0, 1),
        ("pause", 0, 0),
    ]
    assert "hunter2" not in str([record.__dict__ for record in caplog.records])
    assert "secret" not in str(lines)
    assert station.replies.empty()


def test_a_flood_is_neither_executed_nor_answered_and_complained_of_once(
    recipe: Recipe, caplog: pytest.LogCaptureFixture
) -> None:
    with running(recipe, max_per_s=1) as station:
        for _ in range(50):
            station.send("pause")
        wait_until(lambda: sum(heard(station)) == 50, "the flood is over")
        report = station.control.report()
    assert int(report["commands_unheard"]) > 40
    assert station.replies.qsize() == report["commands"]
    assert caplog.text.count("too many commands") <= 1


def heard(station: Station) -> tuple[int, int]:
    """Commands that were heard, and that were not."""
    report = station.control.report()
    return int(report["commands"]), int(report["commands_unheard"])
