"""docs/mqtt.md, docs/delivery.md and the files for Node-RED and Ignition say what the code does."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from benchmarks.rig.brokers import EmbeddedBroker, Subscriber
from edge.delivery.outbox.rows import message_bytes
from edge.errors import AuditError
from edge.health.alarms import AlarmCode, Alarms, Conditions
from edge.protocol.messages import MAX_VERDICT_BYTES, alarm_message, crop_messages, tombstone_message, verdict_message
from edge.protocol.topics import StationTopics, Status
from edge.records import Box, Crop, Defect, FrameIdentity, Outcome, Reason, Severity, Verdict
from edge.settings.sections import AlarmSettings, MqttSettings, OutboxSettings
from edge.settings.tree import Settings
from tests.edge.line.test_service import running, write_settings
from tests.places import ROOT

BIN = Path(sys.executable).parent
SCHEMA = json.loads((ROOT / "edge" / "verdict.schema.json").read_text(encoding="utf-8"))
TOPICS = StationTopics(root="patchline", site="plant1", line="line1", name="station1")
EPOCH = 1_795_327_200
MOMENT_S = 1_795_335_142.836
JPEG = b"\xff\xd8 the bytes of a JPEG"

PASSED = Verdict(
    identity=FrameIdentity(
        sequence=41, captured_at_s=MOMENT_S, captured_monotonic_s=0.0, trigger_id="T-1041", part_id="P-2026-0041"
    ),
    outcome=Outcome.PASS,
    score=12.07,
    threshold=17.88,
    recipe="plate",
    model="8292ba4f2c6e",
    latency_ms=34.7,
)
FAILED = Verdict(
    identity=PASSED.identity,
    outcome=Outcome.FAIL,
    score=34.63,
    threshold=17.88,
    recipe="plate",
    model="8292ba4f2c6e",
    defects=(Defect(box=Box(36, 237, 149, 164), area=9000, peak_score=32.21),),
    crops=(Crop(index=0, box=Box(0, 200, 224, 240), jpeg=JPEG, sha256=hashlib.sha256(JPEG).hexdigest()),),
    latency_ms=34.7,
)
UNJUDGED = Verdict(
    identity=PASSED.identity,
    outcome=Outcome.NO_RESULT,
    score=0.0,
    threshold=17.88,
    recipe="plate",
    model="8292ba4f2c6e",
    reason=Reason.DEADLINE_MISSED,
    latency_ms=250.0,
)


def payload(message: Any) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(message.payload)
    return values


# What the document's examples must be; each follows a comment with its name.
EXAMPLES: dict[str, dict[str, Any]] = {
    "verdict": payload(verdict_message(TOPICS, FAILED, EPOCH, 42)),
    "no result": payload(verdict_message(TOPICS, UNJUDGED, EPOCH, 43)),
    "crop properties": dict(crop_messages(TOPICS, FAILED, EPOCH, 42)[0].user_properties),
    "alarm": payload(
        alarm_message(
            TOPICS,
            AlarmCode.BROKER_AWAY,
            active=True,
            severity=Severity.CRITICAL,
            since_s=MOMENT_S,
            text="the broker is away: verdicts wait",
        )
    ),
    "tombstone": payload(tombstone_message(TOPICS, EPOCH, first=1042, last=1999, count=958, reason="evicted")),
}


def read(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def section(text: str, title: str) -> str:
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^\1 |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[2]


def table(text: str) -> list[list[str]]:
    """The cells of the first table, without its head."""
    found = re.search(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert found is not None
    rows = found[0].splitlines()
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows[2:]]


def examples(text: str) -> dict[str, dict[str, Any]]:
    found = re.findall(r"<!-- example: ([a-z ]+) -->\n```json\n(.*?)```", text, flags=re.DOTALL)
    return {name: json.loads(body) for name, body in found}


def test_every_example_is_what_the_code_sends() -> None:
    assert examples(read("mqtt.md")) == EXAMPLES


@pytest.mark.parametrize("name", ["verdict", "no result"])
def test_the_verdicts_of_the_examples_keep_to_the_schema(name: str) -> None:
    assert list(Draft202012Validator(SCHEMA).iter_errors(examples(read("mqtt.md"))[name])) == []


def test_every_key_of_a_verdict_is_described_with_its_type_in_the_schemas_words() -> None:
    described = {cells[0].strip("`"): (cells[1], cells[3]) for cells in table(section(read("mqtt.md"), "Verdicts"))}
    assert list(described) == SCHEMA["required"]
    assert described == {key: (rule["type"], rule["description"]) for key, rule in SCHEMA["properties"].items()}


def test_every_topic_is_listed_with_its_quality_of_service_and_retain() -> None:
    listed = {cells[0].strip("`"): (cells[1], cells[2]) for cells in table(section(read("mqtt.md"), "Topics"))}
    sent = [
        verdict_message(TOPICS, FAILED, EPOCH, 42),
        *crop_messages(TOPICS, FAILED, EPOCH, 42),
        tombstone_message(TOPICS, EPOCH, first=1, last=1, count=1, reason="evicted"),
        alarm_message(TOPICS, "code", active=True, severity=Severity.WARNING, since_s=1.0, text=""),
    ]
    for message in sent:
        suffix = message.topic.removeprefix(f"{TOPICS.base}/").replace("crop/0", "crop/<k>").replace("/code", "/<code>")
        assert listed[f"…/{suffix}"] == (str(message.qos), "yes" if message.retain else "no")
    assert set(listed) >= {f"…/{name}" for name in ("status", "health", "verdict/last")}


def test_every_reason_status_and_alarm_is_described() -> None:
    text = read("mqtt.md")
    reasons = {cells[0].strip("`") for cells in table(section(text, "NO_RESULT"))}
    assert reasons == {reason.value for reason in Reason if reason}
    statuses = {cells[0].strip("`") for cells in table(section(text, "Status"))}
    assert statuses == {status.value for status in Status}
    alarms = {cells[0].strip("`"): cells[1] for cells in table(section(text, "Alarms"))}
    assert alarms == severities()


def severities() -> dict[str, str]:
    """Of every alarm, as a station says them at its first look, when nothing is wrong."""
    fine = Conditions(
        source_away=False,
        clock_synchronised=True,
        connected=True,
        waiting=0,
        evicted=0,
        refused=0,
        disk_low=False,
        outbox_refuses=False,
        outbox_damage="",
        recipe_left="",
        publisher_trouble="",
    )
    alarms = Alarms(AlarmSettings())
    changes = [*alarms.look(fine, 0.0, 0.0), *alarms.look(fine, 1.0, 1.0)]
    severities = {change.code.value: change.severity.value for change in changes}
    assert set(severities) == {code.value for code in AlarmCode}
    return severities


def test_every_key_of_a_real_health_message_is_described(bundle_dir: Path, tmp_path: Path) -> None:
    cells = [re.findall(r"`([^`]+)`", row[0]) for row in table(section(read("mqtt.md"), "Health"))]
    names = [re.sub(r"<\w+>", "[a-z0-9_]+", name) for row in cells for name in row]
    described = re.compile("|".join(names))
    with EmbeddedBroker() as broker, Subscriber(broker, "+/+/+/+/health") as subscriber:
        source = {"simulated_width": 256, "simulated_height": 192, "fps": 20.0}
        tables: dict[str, dict[str, Any]] = {"mqtt": {"port": broker.port}, "source": source}
        tables["service"] = {"health_interval_s": 0.5}
        with running(write_settings(tmp_path / "station.toml", bundle_dir, **tables)):
            health = json.loads(subscriber.wait_for(2, "/health")[1])
    assert [key for key in health if not described.fullmatch(key)] == []
    executes = next(row[0] for row in table(section(read("mqtt.md"), "Health")) if "really executes" in row[2])
    assert set(re.findall(r"`([^`]+)`", executes)) <= set(health)


def test_sizes_and_defaults_are_those_of_the_code() -> None:
    mqtt, delivery = read("mqtt.md"), read("delivery.md")
    assert f"{MAX_VERDICT_BYTES} bytes" in mqtt
    stored = message_bytes(verdict_message(TOPICS, PASSED, EPOCH, 42))
    assert f"about {round(stored, -1)} bytes" in delivery
    settings = OutboxSettings()
    named = {cells[0].strip("`"): cells[1] for cells in table(section(delivery, "What it may take of the disk"))}
    assert named == {
        "outbox.max_rows": f"{settings.max_rows:,}",
        "outbox.max_bytes": f"{settings.max_bytes // 2**20:,} MiB",
        "outbox.min_free_bytes": f"{settings.min_free_bytes // 2**20} MiB",
        "outbox.ballast_bytes": f"{settings.ballast_bytes // 2**20} MiB",
    }


def test_the_table_of_what_fits_is_computed_from_the_limits() -> None:
    settings = OutboxSettings()
    verdict_bytes = message_bytes(verdict_message(TOPICS, PASSED, EPOCH, 42))
    rows = table(section(read("delivery.md"), "How long it lasts"))
    assert len(rows) >= 4
    for fps, crops, crop_kib, seconds in ((float(a), float(b), float(c), d) for a, b, c, d in rows):
        by_rows = settings.max_rows / (fps * (1 + crops))
        by_bytes = settings.max_bytes / (fps * (verdict_bytes + crops * crop_kib * 1024))
        assert seconds == duration(min(by_rows, by_bytes))


def duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86_400:.1f} days"


def test_every_setting_that_is_named_exists() -> None:
    known = {f"{table}.{key}" for table in ("mqtt", "outbox", "service", "alarms", "defects", "commands", "station")
             for key in type(getattr(Settings(), table)).model_fields}  # fmt: skip
    for name in ("mqtt.md", "delivery.md"):
        named = set(re.findall(r"`((?:mqtt|outbox|service|alarms|defects|commands|station)\.[a-z_]+)`", read(name)))
        assert named <= known, named - known


def test_the_exit_code_of_the_audit_is_documented() -> None:
    codes = dict(re.findall(r"^\| (\d) \| ([^|]+) \|$", section(read("delivery.md"), "Prove it"), flags=re.MULTILINE))
    assert str(AuditError.exit_code) in codes
    assert "0" in codes


@pytest.mark.parametrize("name", ["mqtt.md", "delivery.md"])
def test_every_command_and_option_that_is_named_exists(name: str) -> None:
    lines = "\n".join(re.findall(r"```sh\n(.*?)```", read(name), flags=re.DOTALL)).splitlines()
    commands = [line for line in lines if line.startswith("patchline-")]
    for command in commands:
        program, *arguments = shlex.split(command, comments=True)
        subcommands = itertools.takewhile(str.isalpha, arguments)
        done = subprocess.run(
            [str(BIN / program), *subcommands, "--help"],
            capture_output=True,
            text=True,
            check=True,
            env={"COLUMNS": "300", "NO_COLOR": "1", "TERM": "dumb"},
        )
        for option in (argument for argument in arguments if argument.startswith("--")):
            assert re.search(rf"{re.escape(option)}\b", done.stdout), option
    assert commands or name == "mqtt.md"


@pytest.mark.parametrize("name", ["mqtt.md", "delivery.md"])
def test_every_link_leads_somewhere(name: str) -> None:
    for path in re.findall(r"\]\((?!http)([^)#]+)\)", read(name)):
        assert (ROOT / "docs" / path).exists(), path


# Node-RED and Ignition


def flow() -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = json.loads((ROOT / "configs" / "nodered-flow.json").read_text(encoding="utf-8"))
    return nodes


def test_every_wire_of_the_flow_ends_at_a_node() -> None:
    nodes = {node["id"]: node for node in flow()}
    assert len(nodes) == len(flow())
    for node in nodes.values():
        assert all(target in nodes for wires in node.get("wires", []) for target in wires)
        if node["type"] == "mqtt in":
            assert nodes[node["broker"]]["type"] == "mqtt-broker"


def test_the_flow_subscribes_to_topics_that_a_station_has_in_a_session_that_lasts() -> None:
    filters = {node["topic"]: node["qos"] for node in flow() if node["type"] == "mqtt in"}
    base = "patchline/+/+/+"
    assert filters == {f"{base}/{suffix}": "1" for suffix in ("verdict", "status", "alarm/+", "crop/+")}
    for topic in (TOPICS.verdict, TOPICS.status, TOPICS.alarm("code"), TOPICS.crop(0)):
        assert any(matches(pattern, topic) for pattern in filters)
    (broker,) = (node for node in flow() if node["type"] == "mqtt-broker")
    assert (broker["protocolVersion"], broker["cleansession"]) == ("5", False)
    assert broker["clientid"]
    assert int(broker["sessionExpiry"]) > 0


def matches(pattern: str, topic: str) -> bool:
    return re.fullmatch(pattern.replace("+", "[^/]+"), topic) is not None


def test_every_key_that_the_flow_reads_exists() -> None:
    read_keys = {name: keys_of(node) for node in flow() if (name := node.get("id"))}
    verdict_keys = set(SCHEMA["properties"])
    alarm_keys = set(EXAMPLES["alarm"])
    assert read_keys["alarm"] <= alarm_keys
    found = set().union(*(keys for name, keys in read_keys.items() if name != "alarm"))
    assert found >= {"verdict", "id", "backlog", "seq"}
    assert found <= verdict_keys, found - verdict_keys
    image = next(node["func"] for node in flow() if node["id"] == "image")
    assert set(re.findall(r"crop\.(\w+)", image)) <= set(EXAMPLES["crop properties"])


def keys_of(node: dict[str, Any]) -> set[str]:
    """What a node reads of a payload."""
    text = " ".join(str(node.get(key, "")) for key in ("property", "complete", "statusVal"))
    return set(re.findall(r"payload\.(\w+)", text)) | set(re.findall(r"\bverdict\.(\w+)", node.get("func", "")))


def test_the_flow_switches_by_every_verdict_and_lets_no_unknown_one_pass() -> None:
    (switch,) = (node for node in flow() if node["id"] == "switch")
    assert [rule.get("v") for rule in switch["rules"]] == ["PASS", "FAIL", None]
    assert {rule["v"] for rule in switch["rules"][:2]} < {outcome.value for outcome in Outcome}
    assert switch["rules"][2]["t"] == "else"
    assert [wires[0] for wires in switch["wires"]] == ["pass", "fail", "no_result"]


def test_the_tags_of_ignition_are_the_keys_of_a_verdict_with_their_types() -> None:
    tags = json.loads((ROOT / "configs" / "ignition-tags.json").read_text(encoding="utf-8"))["tags"]
    (definition,), instance = tags[0]["tags"], tags[1]
    assert (tags[0]["name"], definition["tagType"], instance["tagType"]) == ("_types_", "UdtType", "UdtInstance")
    assert instance["typeId"] == definition["name"]
    assert set(instance["parameters"]) <= set(definition["parameters"])
    assert len(instance["parameters"]["Base"]["value"].split("/")) == len(TOPICS.base.split("/"))
    members = {tag["name"]: tag for tag in definition["tags"]}
    assert members["status"]["sourceTagPath"]["binding"] == "{StatusSource}/{Base}/status"
    for key, rule in SCHEMA["properties"].items():
        tag = members.pop(key)
        assert tag["sourceTagPath"] == {"bindType": "parameter", "binding": f"{{Source}}/{{Base}}/verdict/{key}"}
        expected = "Boolean" if rule.get("enum") == [0, 1] else TAG_TYPES[rule["type"]]
        if key != "ok":
            assert tag["dataType"] == expected
    assert set(members) == {"status", "seconds_since_verdict"}
    referred = set(re.findall(r"\{\[\.\](\w+)", members["seconds_since_verdict"]["expression"]))
    assert referred <= set(SCHEMA["properties"])


TAG_TYPES = {"integer": "Int8", "number": "Float8", "string": "String"}  # Ignition counts bytes: Int8 has 64 bits


def test_the_station_keeps_its_session_as_long_as_the_document_says() -> None:
    assert f"{MqttSettings().session_expiry_s:,} s" in read("delivery.md")
