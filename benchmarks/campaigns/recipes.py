"""Recipes switched, taught anew and damaged at random beside a running line that inspects three frames at a time.

Passed if every answer says what inspects, every frame has one verdict in order, and verdicts change their recipe and
model exactly as the answers did, each between two frames.
"""

from __future__ import annotations

import itertools
import json
import random
import shutil
import tempfile
import threading
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from benchmarks.campaigns import CampaignError, Rows
from benchmarks.rig.brokers import Mosquitto
from benchmarks.rig.plate import teach_plate
from benchmarks.rig.station import BASE, Station
from edge.bundle.bundle import BANK, IDENTITY_DIGITS, MANIFEST, read_manifest, seal

COUNT = 40

_NAMES = ("bottle", "disc", "plate")
_PATIENCE_S = 120.0
_SETTINGS: dict[str, object] = {
    "commands.enabled": True,
    "commands.max_per_s": 1000,
    "inspection.mode": "throughput",
    "inspection.workers": 3,
    "source.defect_rate": 0.3,
}


def run(count: int, seed: int) -> Rows:
    """Ask `count` times for a recipe, most of them meddled with before."""
    choose = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="patchline-recipes-") as scratch:
        shelf = _Shelf(teach_plate(Path(scratch)), Path(scratch, "recipes"))
        settings = {**_SETTINGS, "recipes": json.dumps({name: str(shelf.root / name) for name in _NAMES})}
        with (
            Mosquitto(Path(scratch)) as broker,
            Station(Path(scratch), shelf.root / "plate", (broker.host, broker.port), settings) as station,
            _Operator(broker.host, broker.port) as operator,
        ):
            station.start()
            operator.await_station(station)
            said = [("plate", shelf.model("plate"))]
            counts: Counter[str] = Counter()
            for _ in range(count):
                name, meddling = choose.choice(_NAMES), choose.choice(("nothing", "taught anew", "damaged", "mended"))
                shelf.meddle(name, meddling)
                counts[meddling] += 1
                said.append(_ask(operator, station, shelf, name, said[-1]))
            if code := station.stop(_PATIENCE_S):
                raise CampaignError(f"the service ended with {code}:\n{station.log()[-2000:]}")
            return [*_judge(station.printed(), said), *((f"bundles: {what}", str(n)) for what, n in counts.items())]


def _ask(operator: _Operator, station: Station, shelf: _Shelf, name: str, before: tuple[str, str]) -> tuple[str, str]:
    """What inspects, as the answer says it; a verdict by it has been printed when this returns."""
    answer = operator.ask(name)
    expected = (name, shelf.model(name)) if name in shelf.sound else before
    said = (str(answer["recipe"]), str(answer["model"]))
    if answer["ok"] != int(name in shelf.sound) or said != expected:
        raise CampaignError(f"{name}: expected {expected}, got {answer}")
    station.wait_for(lambda: _judged_by(station.printed_now()[-1]) == said, f"{said} inspects", _PATIENCE_S)
    return said


def _judge(printed: list[dict[str, Any]], said: list[tuple[str, str]]) -> Rows:
    frames = [verdict["frame"] for verdict in printed]
    changes = [who for who, _ in itertools.groupby(map(_judged_by, printed))]
    expected = [who for who, _ in itertools.groupby(said)]
    if frames != list(range(len(frames))):
        raise CampaignError("frames without a verdict, with two, or out of order")
    if changes != expected:
        raise CampaignError(f"verdicts changed {changes}, answers said {expected}")
    silent = sum(verdict["verdict"] == "NO_RESULT" for verdict in printed)
    if silent:
        raise CampaignError(f"{silent} frames were not judged")
    return [
        ("recipes asked for", str(len(said) - 1)),
        ("changes of what inspects", str(len(changes) - 1)),
        ("frames, of these judged", f"{len(frames)}, {len(frames)}"),
        ("frames judged by another recipe or model than answered", "0"),
    ]


def _judged_by(verdict: dict[str, Any]) -> tuple[str, str]:
    return str(verdict["recipe"]), str(verdict["model"])


class _Shelf:
    """Three bundles on disk, and which of them are sound."""

    def __init__(self, bundle: Path, root: Path) -> None:
        self.root = root
        self.sound = set(_NAMES)
        self._bank = (bundle / BANK).read_bytes()
        self._teachings = itertools.count()
        for name in _NAMES:
            shutil.copytree(bundle, root / name)
            self._teach(name)

    def model(self, name: str) -> str:
        return read_manifest(self.root / name).identity[:IDENTITY_DIGITS]

    def meddle(self, name: str, how: str) -> None:
        """`damaged`: taught anew, and then half of the bank is lost."""
        if how == "nothing":
            return
        self.sound.add(name)
        (self.root / name / BANK).write_bytes(self._bank)
        if how != "mended":
            self._teach(name)
        if how == "damaged":
            self.sound.discard(name)
            (self.root / name / BANK).write_bytes(self._bank[: len(self._bank) // 2])

    def _teach(self, name: str) -> None:
        manifest = read_manifest(self.root / name)
        settings = {**manifest.settings, "taught": str(next(self._teachings))}
        new = seal(manifest.model_copy(update={"settings": settings}))
        written = self.root / name / "new"
        written.write_text(new.model_dump_json(), encoding="utf-8")
        written.replace(self.root / name / MANIFEST)


class _Operator:
    """Asks for recipes, and waits for the answers."""

    def __init__(self, host: str, port: int) -> None:
        self._asked = itertools.count()
        self._answers: dict[bytes, dict[str, Any]] = {}
        self._answered = threading.Condition()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id="operator", protocol=MQTTProtocolVersion.MQTTv5)
        self._client.on_message = self._take
        self._client.on_connect = lambda client, *_: client.subscribe(f"{BASE}/reply/operator", qos=1)
        self._client.connect(host, port)

    def await_station(self, station: Station) -> None:
        """Until it listens to commands."""
        station.wait_ready()
        station.wait_for(lambda: self._try("plate", 1.0) is not None, "it answers", _PATIENCE_S)

    def ask(self, name: str) -> dict[str, Any]:
        answer = self._try(name, _PATIENCE_S)
        if answer is None:
            raise CampaignError(f"{name}: no answer within {_PATIENCE_S:g} s")
        return answer

    def _try(self, name: str, timeout_s: float) -> dict[str, Any] | None:
        correlation = b"%d" % next(self._asked)
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho leaves it out
        properties.ResponseTopic, properties.CorrelationData = f"{BASE}/reply/operator", correlation
        self._client.publish(f"{BASE}/cmd/recipe", json.dumps({"name": name}), 1, properties=properties)
        with self._answered:
            self._answered.wait_for(lambda: correlation in self._answers, timeout_s)
            return self._answers.get(correlation)

    def _take(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        with self._answered:
            self._answers[getattr(message.properties, "CorrelationData", b"")] = json.loads(message.payload)
            self._answered.notify_all()

    def __enter__(self) -> Self:
        self._client.loop_start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()
