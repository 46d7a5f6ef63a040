"""Commands to the real service over a real broker: triggers, pause, recipes."""

from __future__ import annotations

import itertools
import json
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from benchmarks.rig.brokers import PATIENCE_S, Broker, Mosquitto, wait_until
from benchmarks.rig.station import FRAME_SIZE
from tests.bundles import reseal
from tests.clients import Requester
from tests.edge.line.test_service import BASE, SCHEMA, running, simulated, write_settings
from tests.edge.sources.mjpeg import MjpegCamera
from tests.listener import Listener


class Plc(Requester):
    """Asks and counts."""

    asked = 0

    def asked_model(self, name: str) -> str:
        """The model that inspects once the recipe is switched to."""
        self.asked += 1
        reply = self.ask("recipe", json.dumps({"name": name}).encode(), correlation=b"%d" % self.asked)
        found = json.loads(reply.payload)
        assert (found["ok"], found["recipe"]) == (1, name), found
        return str(found["model"])

    def command(self, name: str, /, **payload: str) -> str:
        """The error of the answer; "": it is done."""
        self.asked += 1
        reply = self.ask(name, json.dumps(payload).encode(), correlation=b"%d" % self.asked)
        found = json.loads(reply.payload)
        assert found["command"] == name
        assert found["ok"] == int(not found["error"])
        return str(found["error"])


@contextmanager
def station(broker: Broker, config: Path, bundle: Path, **tables: dict[str, Any]) -> Iterator[tuple[Plc, Listener]]:
    """A running service that listens to commands, and ends without an error."""
    tables = {"source": simulated(fps=20.0), "commands": {"enabled": True, "max_per_s": 1000}, **tables}
    tables["mqtt"] = {"host": broker.host, "port": broker.port}
    write_settings(config, bundle, **tables)
    with (
        Listener(broker.host, broker.port, f"{BASE}/#") as listener,
        Plc(broker, BASE) as plc,
        running(config) as process,
    ):
        assert listener.wait_for(lambda: listener.payloads(f"{BASE}/status")[-1] == b"online")
        plc.await_listener("nothing")
        yield plc, listener
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
        assert process.returncode == 0, log
        assert "Traceback" not in log


def verdicts(listener: Listener) -> list[dict[str, Any]]:
    return [json.loads(payload) for payload in listener.payloads(f"{BASE}/verdict")]


def test_every_trigger_gets_exactly_one_verdict_that_carries_its_ids(
    bundle_dir: Path, broker: Broker, tmp_path: Path
) -> None:
    # A PLC that does not wait: some triggers are too many.
    inspection = {"trigger": "command", "deadline_ms": 20_000, "max_triggers": 4}
    with station(broker, tmp_path / "station.toml", bundle_dir, inspection=inspection) as (plc, listener):
        accepted = {f"t{number}": f"part-{number}" for number in range(30)}
        for trigger_id, part_id in accepted.items():
            assert plc.command("trigger", trigger_id=trigger_id, part_id=part_id) == ""
        assert listener.wait_for(lambda: len(verdicts(listener)) >= len(accepted))

        assert "unknown key" in plc.command("trigger", trigger_id="x", path="/etc/passwd")
        assert plc.command("trigger", trigger_id="last") == ""
        assert listener.wait_for(lambda: verdicts(listener)[-1]["trigger_id"] == "last")
    found = verdicts(listener)
    for verdict in found:
        jsonschema.validate(verdict, SCHEMA)
    assert Counter(verdict["trigger_id"] for verdict in found) == Counter([*accepted, "last"])
    assert {verdict["trigger_id"]: verdict["part_id"] for verdict in found[:-1]} == accepted
    assert {verdict["reason"] for verdict in found} <= {"", "overrun"}
    assert found[-1]["verdict"] in {"PASS", "FAIL"}
    assert found[-1]["part_id"].startswith("sim-")


def test_a_client_of_mqtt_3_1_1_triggers_and_finds_its_verdict_by_the_id(
    bundle_dir: Path, start_mosquitto: Callable[[], Mosquitto], tmp_path: Path
) -> None:
    broker = start_mosquitto()
    tables: dict[str, Any] = {
        "inspection": {"trigger": "command", "deadline_ms": 20_000},
        "commands": {"enabled": True, "triggers_without_reply": True},
    }
    with station(broker, tmp_path / "station.toml", bundle_dir, **tables) as (plc, listener):
        old = Client(CallbackAPIVersion.VERSION2, client_id="old", protocol=MQTTProtocolVersion.MQTTv311)
        old.connect(broker.host, broker.port)
        old.loop_start()
        wait_until(old.is_connected, "the old client is connected")
        for name, payload in (("trigger", b'{"trigger_id":"a"}'),) * 2 + (("pause", b""), ("trigger", b"nonsense")):
            old.publish(f"{BASE}/cmd/{name}", payload, qos=1).wait_for_publish(PATIENCE_S)
        assert listener.wait_for(lambda: verdicts(listener)[-1]["trigger_id"] == "a")
        assert plc.command("trigger", trigger_id="b") == ""
        assert listener.wait_for(lambda: verdicts(listener)[-1]["trigger_id"] == "b")
        old.disconnect()
        old.loop_stop()
    assert [verdict["trigger_id"] for verdict in verdicts(listener)] == ["a", "b"]


def test_a_deadline_that_cannot_be_kept_is_no_result_and_never_a_late_pass(
    bundle_dir: Path, broker: Broker, tmp_path: Path
) -> None:
    inspection = {"trigger": "command", "deadline_ms": 0.1}
    tables: dict[str, Any] = {"inspection": inspection, "service": {"health_interval_s": 0.5}}
    with station(broker, tmp_path / "station.toml", bundle_dir, **tables) as (plc, listener):
        for number in range(5):
            assert plc.command("trigger", trigger_id=str(number)) == ""
        assert listener.wait_for(lambda: len(verdicts(listener)) >= 5)
        seen = len(listener.payloads(f"{BASE}/health"))
        assert listener.wait_for(lambda: len(listener.payloads(f"{BASE}/health")) > seen + 1)
    found = verdicts(listener)
    assert Counter(verdict["trigger_id"] for verdict in found) == Counter("01234")
    assert {verdict["verdict"] for verdict in found} == {"NO_RESULT"}
    assert {verdict["reason"] for verdict in found} <= {"deadline_missed", "camera_stale"}
    health = json.loads(listener.payloads(f"{BASE}/health")[-1])
    assert sum(value for name, value in health.items() if name.startswith("no_result_")) == 5
    assert health["triggers"] == 5


def test_a_camera_that_is_away_makes_triggers_stale_and_its_return_ends_that(
    bundle_dir: Path, broker: Broker, tmp_path: Path
) -> None:
    inspection = {"trigger": "command", "deadline_ms": 2000}
    with MjpegCamera(size=FRAME_SIZE) as camera:
        source = {"kind": "camera", "device": camera.address, "open_timeout_s": 1.0, "read_timeout_s": 1.0}
        tables: dict[str, Any] = {"inspection": inspection, "source": source}
        with station(broker, tmp_path / "station.toml", bundle_dir, **tables) as (plc, listener):
            assert plc.command("trigger", trigger_id="1") == ""
            assert listener.wait_for(lambda: verdicts(listener)[-1]["trigger_id"] == "1")
            camera.switch_off()
            assert plc.command("trigger", trigger_id="drained") == ""  # a frame may have been on its way
            assert listener.wait_for(lambda: verdicts(listener)[-1]["trigger_id"] == "drained")
            assert plc.command("trigger", trigger_id="2") == ""
            assert listener.wait_for(lambda: verdicts(listener)[-1]["trigger_id"] == "2")
            assert verdicts(listener)[-1]["reason"] == "camera_stale"
            camera.switch_on()

            def judged() -> bool:
                number = len(verdicts(listener))
                assert plc.command("trigger", trigger_id=f"again-{number}") == ""
                assert listener.wait_for(lambda: len(verdicts(listener)) > number)
                return bool(verdicts(listener)[-1]["verdict"] != "NO_RESULT")

            assert listener.wait_for(judged)
    answers = Counter(verdict["trigger_id"] for verdict in verdicts(listener))
    assert set(answers.values()) == {1}


def test_free_running_frames_that_are_judged_too_late_are_no_result(
    bundle_dir: Path, broker: Broker, tmp_path: Path
) -> None:
    with station(broker, tmp_path / "station.toml", bundle_dir, inspection={"deadline_ms": 0.1}) as (plc, listener):
        assert "inspection.trigger is free" in plc.command("trigger", trigger_id="1")
        assert listener.wait_for(lambda: len(verdicts(listener)) >= 5)
    assert {(verdict["verdict"], verdict["reason"]) for verdict in verdicts(listener)} == {
        ("NO_RESULT", "deadline_missed")
    }


def test_paused_nothing_is_judged_and_resumed_nothing_is_missing(
    bundle_dir: Path, broker: Broker, tmp_path: Path
) -> None:
    with station(broker, tmp_path / "station.toml", bundle_dir, service={"health_interval_s": 0.5}) as (plc, listener):
        assert plc.command("pause") == ""
        settled = len(listener.payloads(f"{BASE}/health"))
        assert listener.wait_for(lambda: len(listener.payloads(f"{BASE}/health")) >= settled + 2)
        judged = len(verdicts(listener))
        assert listener.wait_for(lambda: len(listener.payloads(f"{BASE}/health")) >= settled + 5)
        assert len(verdicts(listener)) == judged
        assert json.loads(listener.payloads(f"{BASE}/health")[-1])["paused"] == 1

        assert plc.command("resume") == ""
        assert listener.wait_for(lambda: len(verdicts(listener)) > judged + 5)
    frames = [verdict["frame"] for verdict in verdicts(listener)]
    assert frames == list(range(len(frames)))  # the simulated line, like files, waits


@pytest.mark.parametrize("broker", ["embedded"], indirect=True)  # which one makes no difference here
def test_recipes_are_switched_by_name_and_a_bad_one_changes_nothing(
    bundle_dir: Path, broker: Broker, tmp_path: Path
) -> None:
    other, damaged = tmp_path / "other", tmp_path / "damaged"
    shutil.copytree(bundle_dir, other)
    reseal(other, {"name": "other-plate"})
    shutil.copytree(bundle_dir, damaged)
    (damaged / "bank.npy").write_bytes(b"no bank")
    recipes = {"first": str(bundle_dir), "other": "other", "damaged": "damaged"}
    with station(broker, tmp_path / "station.toml", bundle_dir, recipes=recipes) as (plc, listener):
        assert plc.command("recipe", name="other") == ""
        assert listener.wait_for(lambda: verdicts(listener)[-1]["recipe"] == "other")  # as it was asked for

        assert "bank.npy" in plc.command("recipe", name="damaged")
        assert "no such recipe" in plc.command("recipe", name="./damaged")
        seen = len(verdicts(listener))
        assert listener.wait_for(lambda: len(verdicts(listener)) > seen + 3)
        assert verdicts(listener)[-1]["recipe"] == "other"
        assert plc.command("recipe", name="first") == ""
        assert listener.wait_for(lambda: verdicts(listener)[-1]["recipe"] == "first")
    found = verdicts(listener)
    assert [verdict["frame"] for verdict in found] == list(range(len(found)))
    assert {verdict["verdict"] for verdict in found} <= {"PASS", "FAIL"}


@pytest.mark.parametrize("broker", ["embedded"], indirect=True)  # which one makes no difference here
@pytest.mark.parametrize("inspection", [{}, {"mode": "throughput", "workers": 3}], ids=["one thread", "three"])
def test_a_recipe_that_was_taught_anew_is_taken_over_between_two_frames(
    bundle_dir: Path, broker: Broker, tmp_path: Path, inspection: dict[str, Any]
) -> None:
    taught = tmp_path / "plate"
    shutil.copytree(bundle_dir, taught)
    tables: dict[str, Any] = {"inspection": inspection, "source": simulated(fps=60.0)}
    with station(broker, tmp_path / "station.toml", taught, recipes={"plate": "plate"}, **tables) as (plc, listener):
        models = [plc.asked_model("plate")]
        for number in range(3):
            reseal(taught, {"settings": {"taught": str(number)}})
            models.append(plc.asked_model("plate"))
            assert listener.wait_for(lambda: verdicts(listener)[-1]["model"] == models[-1])
        reseal(taught, {"settings": {"taught": "badly"}}, {"bank.npy": b"no bank"})
        assert "bank.npy" in plc.command("recipe", name="plate")
        seen = len(verdicts(listener))
        assert listener.wait_for(lambda: len(verdicts(listener)) > seen + 3)
    found = verdicts(listener)
    assert len(set(models)) == len(models)
    assert [model for model, _ in itertools.groupby(verdict["model"] for verdict in found)] == models
    assert [verdict["frame"] for verdict in found] == list(range(len(found)))
    assert {verdict["recipe"] for verdict in found} == {"plate"}


@pytest.mark.parametrize("broker", ["embedded"], indirect=True)  # which one makes no difference here
def test_a_restart_with_another_recipe_is_an_alarm_until_somebody_asks_for_one(
    bundle_dir: Path, broker: Broker, tmp_path: Path
) -> None:
    shutil.copytree(bundle_dir, tmp_path / "other")
    tables: dict[str, Any] = {"recipes": {"plate": str(bundle_dir), "other": "other"}}

    def alarms(listener: Listener) -> list[int]:
        return [json.loads(payload)["active"] for payload in listener.payloads(f"{BASE}/alarm/recipe_left")]

    config = tmp_path / "station.toml"
    with station(broker, config, bundle_dir, **tables) as (plc, listener):
        assert plc.command("recipe", name="other") == ""
        assert listener.wait_for(lambda: alarms(listener) == [0])
    with station(broker, config, bundle_dir, **tables) as (plc, listener):
        assert listener.wait_for(lambda: alarms(listener)[-1] == 1)
        assert "(before: other)" in listener.payloads(f"{BASE}/alarm/recipe_left")[-1].decode()
        assert listener.wait_for(lambda: verdicts(listener)[-1]["recipe"] == "plate")
        assert plc.command("recipe", name="plate") == ""
        assert listener.wait_for(lambda: alarms(listener)[-1] == 0)
        assert plc.command("recipe", name="other") == ""
    with station(broker, config, bundle_dir, inspection={"recipe_at_start": "last"}, **tables) as (plc, listener):
        assert listener.wait_for(lambda: len(verdicts(listener)) > 0)
        assert {verdict["recipe"] for verdict in verdicts(listener)} == {"other"}
        assert listener.wait_for(lambda: alarms(listener)[-1] == 0)


def test_commands_are_off_by_default(bundle_dir: Path, broker: Broker, tmp_path: Path) -> None:
    config = write_settings(
        tmp_path / "station.toml",
        bundle_dir,
        source=simulated(fps=20.0),
        mqtt={"host": broker.host, "port": broker.port},
    )
    with (
        Listener(broker.host, broker.port, f"{BASE}/#") as listener,
        Requester(broker, BASE) as plc,
        running(config),
    ):
        assert listener.wait_for(lambda: len(verdicts(listener)) >= 1)
        plc.send("pause", b"")
        seen = len(verdicts(listener))
        assert listener.wait_for(lambda: len(verdicts(listener)) > seen + 10)
        assert plc.replies(b"c") == []


@pytest.mark.parametrize(
    ("tables", "complaint"),
    [
        ({"inspection": {"trigger": "command", "deadline_ms": 500}}, "needs commands.enabled = true"),
        ({"inspection": {"trigger": "command"}, "commands": {"enabled": True}}, "needs inspection.deadline_ms"),
        ({"top": {"publish": ["jsonl"]}, "commands": {"enabled": True}}, 'needs "mqtt" in publish'),
        ({"recipes": {"disc": "elsewhere"}}, "must be one of recipes"),
        ({"commands": {"response_prefix": "a/#/"}}, "commands.response_prefix"),
        ({"commands": {"allow": ["reboot"]}}, "commands.allow"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    bundle_dir: Path, tmp_path: Path, tables: dict[str, Any], complaint: str
) -> None:
    config = write_settings(tmp_path / "station.toml", bundle_dir, **tables)
    with running(config) as process:
        _, log = process.communicate(timeout=60)
    assert process.returncode == 2
    assert complaint in log
