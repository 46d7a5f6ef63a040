"""The real service as a real process, a real bundle, real brokers, real signals."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from benchmarks.rig.brokers import Broker, Mosquitto
from benchmarks.rig.station import FRAME_SIZE
from edge import __version__
from edge.bundle.bundle import read_manifest
from edge.files.pictures import write_picture
from tests.bundles import reseal
from tests.listener import Listener
from tests.places import ROOT

EDGE = Path(sys.executable).parent / "patchline-edge"
SCHEMA = json.loads((ROOT / "edge" / "verdict.schema.json").read_text(encoding="utf-8"))
BASE = "patchline/site/line/station"


def write_settings(path: Path, bundle: Path, **tables: dict[str, Any]) -> Path:
    """A settings file, with an outbox beside it; `top` goes above the tables."""
    tables.setdefault("outbox", {"directory": "outbox"})

    def lines(values: dict[str, Any]) -> list[str]:
        return [f"{key} = {json.dumps(value)}" for key, value in values.items()]

    text = [f'bundle = "{bundle}"', *lines(tables.pop("top", {}))]
    for name, values in tables.items():
        text += [f"[{name}]", *lines(values)]
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    return path


@contextmanager
def running(config: Path, environment: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """The service as a process; killed at the end if it still runs."""
    process = subprocess.Popen(
        [str(EDGE), "run", "--config", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_until(condition: Callable[[], bool], timeout_s: float = 60.0) -> bool:
    """Whether `condition` came true within the time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def is_silent(systemd: socket.socket, timeout_s: float) -> bool:
    """Whether, after what has been sent already, nothing more comes for `timeout_s`."""
    systemd.setblocking(False)
    with suppress(BlockingIOError):
        while systemd.recv(100):
            pass
    systemd.settimeout(timeout_s)
    try:
        systemd.recv(100)
    except TimeoutError:
        return True
    return False


def simulated(frames: int | None = None, **values: Any) -> dict[str, Any]:
    size = {"simulated_width": FRAME_SIZE[1], "simulated_height": FRAME_SIZE[0]}
    source = {"kind": "simulated", "seed": 3, "defect_rate": 0.3, **size, **values}
    return source if frames is None else {**source, "frames": frames}


def test_every_frame_gets_exactly_one_valid_verdict_and_every_failed_one_its_crop(
    bundle_dir: Path, broker: Broker, tmp_path: Path
) -> None:
    config = write_settings(
        tmp_path / "station.toml",
        bundle_dir,
        source=simulated(40),
        mqtt={"host": broker.host, "port": broker.port, "retain_health": True},
        service={"health_interval_s": 0.2},
    )
    with Listener(broker.host, broker.port, f"{BASE}/#") as listener, running(config) as process:
        _, log = process.communicate(timeout=120)
        assert process.returncode == 0, log
        assert listener.wait_for(lambda: b"stopped" in listener.payloads(f"{BASE}/status"))
    verdicts = [json.loads(payload) for payload in listener.payloads(f"{BASE}/verdict")]
    assert [verdict["frame"] for verdict in verdicts] == list(range(40))
    assert [verdict["seq"] for verdict in verdicts] == list(range(1, 41))
    for verdict in verdicts:
        jsonschema.validate(verdict, SCHEMA)
    failed = [verdict for verdict in verdicts if verdict["verdict"] == "FAIL"]
    assert failed
    first_crops = listener.properties(f"{BASE}/crop/0")
    assert {crop["id"]: crop["sha256"] for crop in first_crops} == {v["id"]: v["crop_sha256"] for v in failed}
    assert listener.payloads(f"{BASE}/status")[-2:] == [b"online", b"stopped"]
    health = json.loads(listener.payloads(f"{BASE}/health")[-1])
    assert health["model"] == verdicts[0]["model"]
    assert health["version"] == __version__
    assert {"time", "fps", "embed_p50_ms", "latency_p99_ms", "dropped", "memory_bytes", "threads"} <= health.keys()
    assert {
        "commit_p99_ms",
        "acknowledged_p99_ms",
        "outbox_messages",
        "outbox_free_bytes",
        "pump_rate",
    } <= health.keys()
    with Listener(broker.host, broker.port, f"{BASE}/health") as late:
        assert late.wait_for(lambda: late.payloads(f"{BASE}/health") == listener.payloads(f"{BASE}/health")[-1:])
    alarms = [json.loads(payload) for payload in listener.payloads(f"{BASE}/alarm/broker_away")]
    assert [alarm["active"] for alarm in alarms] == [0]  # whatever a former run left behind is corrected, once


def test_sigterm_drains_and_says_stopped(bundle_dir: Path, broker: Broker, tmp_path: Path) -> None:
    config = write_settings(
        tmp_path / "station.toml", bundle_dir, source=simulated(), mqtt={"host": broker.host, "port": broker.port}
    )
    with Listener(broker.host, broker.port, f"{BASE}/#") as listener, running(config) as process:
        assert listener.wait_for(lambda: len(listener.payloads(f"{BASE}/verdict")) >= 5)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
        assert process.returncode == 0, log
        assert listener.wait_for(lambda: listener.payloads(f"{BASE}/status")[-1] == b"stopped")
    frames = [json.loads(payload)["frame"] for payload in listener.payloads(f"{BASE}/verdict")]
    assert frames == list(range(len(frames)))
    final = next(line for line in log.splitlines() if "msg=stopped" in line)
    assert f"frames={len(frames)} " in final
    assert "Traceback" not in log


@pytest.mark.parametrize("broker", ["embedded"], indirect=True)  # which one makes no difference here
def test_sighup_takes_over_what_was_taught_anew_and_ends_nothing(
    bundle_dir: Path, broker: Broker, tmp_path: Path
) -> None:
    taught = Path(shutil.copytree(bundle_dir, tmp_path / "plate"))
    config = write_settings(
        tmp_path / "station.toml", taught, source=simulated(fps=20.0), mqtt={"host": broker.host, "port": broker.port}
    )

    def model() -> str:
        return str(json.loads(listener.payloads(f"{BASE}/verdict")[-1])["model"])

    with Listener(broker.host, broker.port, f"{BASE}/#") as listener, running(config) as process:
        assert listener.wait_for(lambda: model() == read_manifest(taught).identity[:12])
        process.send_signal(signal.SIGHUP)  # nothing is new
        reseal(taught, {"settings": {"taught": "anew"}})
        process.send_signal(signal.SIGHUP)
        assert listener.wait_for(lambda: model() == read_manifest(taught).identity[:12])
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
        assert process.returncode == 0, log
    assert log.count("recipe active") == 1


def test_a_last_recipe_that_cannot_be_loaded_is_not_replaced_by_another_product_s(
    bundle_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "outbox").mkdir()
    (tmp_path / "outbox" / "last-recipe").write_text("other\n", encoding="utf-8")
    config = write_settings(
        tmp_path / "station.toml",
        bundle_dir,
        top={"publish": ["jsonl"]},
        recipes={"plate": str(bundle_dir), "other": "other"},
        inspection={"recipe_at_start": "last"},
    )
    with running(config) as process:
        output, log = process.communicate(timeout=60)
    assert (process.returncode, output) == (3, ""), log
    assert f"{tmp_path}/other" in log


def test_closing_the_terminal_ends_the_service_in_order(bundle_dir: Path, tmp_path: Path) -> None:
    config = write_settings(tmp_path / "station.toml", bundle_dir, top={"publish": ["jsonl"]}, source=simulated(fps=9))
    ours, theirs = os.openpty()
    with subprocess.Popen(
        [str(EDGE), "run", "--config", str(config)],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        process.send_signal(signal.SIGHUP)
        lines += process.stdout.readlines()
        assert process.wait(60) == 0
    os.close(ours)
    os.close(theirs)
    assert [json.loads(line)["frame"] for line in lines] == list(range(len(lines)))


def test_hosts_that_speak_sparkplug_hear_every_verdict_too(
    bundle_dir: Path, start_mosquitto: Callable[[], Mosquitto], tmp_path: Path
) -> None:
    broker = start_mosquitto()
    config = write_settings(
        tmp_path / "station.toml",
        bundle_dir,
        source=simulated(8),
        mqtt={"host": broker.host, "port": broker.port},
        sparkplug={"enabled": True},
    )
    with Listener(broker.host, broker.port, "#") as listener, running(config) as process:
        _, log = process.communicate(timeout=60)
        assert process.returncode == 0, log
        assert listener.wait_for(lambda: len(listener.payloads("spBv1.0/site/NDEATH/line-station")) >= 1)
    assert len(listener.payloads("spBv1.0/site/DBIRTH/line-station/station")) == 1
    assert len(listener.payloads("spBv1.0/site/DDATA/line-station/station")) == 8
    assert len(listener.payloads(f"{BASE}/verdict")) == 8


def test_a_killed_service_is_offline_by_its_will(bundle_dir: Path, broker: Broker, tmp_path: Path) -> None:
    config = write_settings(
        tmp_path / "station.toml", bundle_dir, source=simulated(), mqtt={"host": broker.host, "port": broker.port}
    )
    with Listener(broker.host, broker.port, f"{BASE}/#") as listener, running(config) as process:
        assert listener.wait_for(lambda: len(listener.payloads(f"{BASE}/verdict")) >= 1)
        process.kill()
        assert listener.wait_for(lambda: listener.payloads(f"{BASE}/status")[-1] == b"offline")


def test_unreadable_and_foreign_pictures_are_answered_with_no_result(bundle_dir: Path, tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    (frames / "1.png").write_bytes(b"this is no picture")
    write_picture(frames / "2.png", np.zeros((50, 60, 3), np.uint8))
    config = write_settings(
        tmp_path / "station.toml",
        bundle_dir,
        top={"publish": ["jsonl"]},
        source={"kind": "folder", "path": str(frames)},
    )
    with running(config) as process:
        output, log = process.communicate(timeout=60)
    assert process.returncode == 0, log
    verdicts = [json.loads(line) for line in output.splitlines()]
    assert [(v["verdict"], v["ok"], v["reason"]) for v in verdicts] == [("NO_RESULT", 0, "image_unusable")] * 2
    assert [verdict["part_id"] for verdict in verdicts] == ["1.png", "2.png"]
    assert log.count("frames cannot be judged") == 1  # a change of state, not a line for each frame


def test_verdicts_that_nobody_fetches_wait_on_disk_for_the_next_start(
    bundle_dir: Path, broker: Broker, tmp_path: Path
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        config = write_settings(
            tmp_path / "station.toml",
            bundle_dir,
            top={"publish": ["mqtt", "jsonl"]},
            source=simulated(5),
            mqtt={"host": "127.0.0.1", "port": nobody.getsockname()[1]},
        )
        with running(config) as process:
            output, log = process.communicate(timeout=60)
    assert process.returncode == 0, log
    assert "messages wait on disk for the next start" in log
    printed = [json.loads(line) for line in output.splitlines()]
    assert [verdict["seq"] for verdict in printed] == [1, 2, 3, 4, 5]

    environment = {"PATCHLINE_MQTT__PORT": str(broker.port), "PATCHLINE_SOURCE__FRAMES": "2"}
    with Listener(broker.host, broker.port, f"{BASE}/#") as listener, running(config, environment) as process:
        _, log = process.communicate(timeout=60)
        assert process.returncode == 0, log
        assert listener.wait_for(lambda: len(listener.payloads(f"{BASE}/verdict")) >= 7)
    received = [json.loads(payload) for payload in listener.payloads(f"{BASE}/verdict")]
    assert [verdict["seq"] for verdict in received] == [1, 2, 3, 4, 5, 6, 7]
    assert [{**verdict, "backlog": 0} for verdict in received[:5]] == printed
    assert [verdict["backlog"] for verdict in received[:5]] == [1] * 5
    assert {verdict["epoch"] for verdict in received} == {printed[0]["epoch"]}


def test_a_second_service_is_kept_from_the_outbox_of_the_first(
    bundle_dir: Path, broker: Broker, tmp_path: Path
) -> None:
    config = write_settings(
        tmp_path / "station.toml", bundle_dir, source=simulated(), mqtt={"host": broker.host, "port": broker.port}
    )
    with Listener(broker.host, broker.port, f"{BASE}/#") as listener, running(config) as first:
        assert listener.wait_for(lambda: len(listener.payloads(f"{BASE}/verdict")) >= 1)
        with running(config) as second:
            _, log = second.communicate(timeout=60)
        assert first.poll() is None
    assert second.returncode == 6
    assert f"in use by another process (pid {first.pid})" in log


def test_without_an_outbox_verdicts_that_cannot_be_delivered_are_admitted(bundle_dir: Path, tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        config = write_settings(
            tmp_path / "station.toml",
            bundle_dir,
            source=simulated(3),
            outbox={"enabled": False},
            mqtt={"host": "127.0.0.1", "port": nobody.getsockname()[1]},
            service={"drain_timeout_s": 1.0},
        )
        with running(config) as process:
            _, log = process.communicate(timeout=60)
    assert process.returncode == 6
    assert "error: within 1 s 3 frames were not answered, or their verdicts neither delivered nor stored" in log


def test_systemd_hears_ready_watchdog_and_stopping(bundle_dir: Path, tmp_path: Path) -> None:
    config = write_settings(
        tmp_path / "station.toml", bundle_dir, top={"publish": ["jsonl"]}, source=simulated(fps=5.0)
    )
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        systemd.settimeout(60)
        with running(config, {"NOTIFY_SOCKET": address}) as process:
            assert systemd.recv(100) == b"READY=1"
            assert systemd.recv(100) == b"WATCHDOG=1"
            assert systemd.recv(100) == b"WATCHDOG=1"
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
            while (state := systemd.recv(100)) == b"WATCHDOG=1":
                pass
            assert state == b"STOPPING=1"
            assert process.returncode == 0


def test_a_reader_of_lines_that_stands_still_is_an_alarm_and_holds_up_nothing_else(
    bundle_dir: Path, tmp_path: Path
) -> None:
    config = write_settings(
        tmp_path / "station.toml",
        bundle_dir,
        top={"publish": ["jsonl"]},
        source=simulated(),
        alarms={"broker_away_s": 0.0},
        service={"stall_timeout_s": 2.0, "drain_timeout_s": 1.0, "health_interval_s": 1.0},
    )
    with running(config) as process:
        assert process.stderr is not None
        for line in process.stderr:
            assert "no progress" not in line
            if "code=publisher_away" in line:
                break
        assert "stands still" in line
        process.send_signal(signal.SIGTERM)
        assert "were not answered" in process.stderr.read().splitlines()[-1]
    assert process.returncode == 6


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        ({"source": {"kind": "folder", "path": "/nonexistent"}}, 4, "/nonexistent"),
        ({"source": {"kind": "simulatd"}}, 2, "source.kind"),
        ({"sources": {"kind": "folder"}}, 2, "unknown setting sources"),
        ({"mqtt": {"hots": "127.0.0.1"}}, 2, "did you mean mqtt.host?"),
        ({"mqtt": {"host": "broker.example"}}, 2, "allow_plaintext"),
        ({"inspection": {"mask": "nowhere.png"}}, 4, "nowhere.png"),
        ({"inspection": {"device": "TPU"}}, 2, "inspection.device"),
    ],
)
def test_a_mistake_is_one_clear_line_and_the_documented_exit_code(
    bundle_dir: Path, tmp_path: Path, change: dict[str, Any], code: int, text: str
) -> None:
    config = write_settings(tmp_path / "station.toml", bundle_dir, **change)
    with running(config) as process:
        _, log = process.communicate(timeout=60)
    assert process.returncode == code, log
    assert text in log
    assert len([line for line in log.splitlines() if line.startswith("error: ")]) == 1
    assert "Traceback" not in log


def test_check_validates_and_exits(bundle_dir: Path, tmp_path: Path) -> None:
    config = write_settings(tmp_path / "station.toml", bundle_dir, source=simulated())
    done = subprocess.run(
        [str(EDGE), "run", "--config", str(config), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    refused = subprocess.run(
        [str(EDGE), "run", "--config", str(config), "--check"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATCHLINE_BUNDLE": str(tmp_path)},
    )
    assert refused.returncode == 3
    assert "manifest.json" in refused.stderr
