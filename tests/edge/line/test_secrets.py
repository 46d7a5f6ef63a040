"""No secret leaves the files that hold it: every byte that a real station writes or says is searched for them."""

from __future__ import annotations

import base64
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.rig.brokers import Certificates, Subscriber, wait_until
from benchmarks.rig.station import FRAME_SIZE
from edge.errors import SettingsError
from edge.publishers.mqtt.credentials import read_password
from edge.settings.file import load_settings
from edge.settings.sections import MqttSettings
from edge.settings.source import CameraSettings
from tests.clients import Requester
from tests.edge.line.test_service import BASE, EDGE, write_settings
from tests.edge.publishers.mqtt.test_publisher import write_private
from tests.edge.publishers.mqtt.test_tls import TlsBroker
from tests.edge.sources.mjpeg import MjpegCamera
from tests.places import ROOT

MQTT_PASSWORD = "hunter2-broker"
CAMERA_PASSWORD = "hunter2/camera?x"  # percent-encoded in an address
TOKEN = b"hunter2"  # part of every secret, and of nothing else

# The service with every logger at its most talkative, paho's included.
TALKATIVE = """
import logging, pathlib, sys, threading, signal
logging.basicConfig(level=logging.DEBUG)
from edge.health.logs import set_up_logging
from edge.line.service import run_service
from edge.settings.file import load_settings
set_up_logging(logging.DEBUG)
logging.getLogger("patchline").propagate = True
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
run_service(load_settings(pathlib.Path(sys.argv[1])), stop, threading.Event())
"""


def forbidden(certificates: Certificates) -> list[bytes]:
    """What must not be found anywhere, in every form that it could take."""
    key = certificates.path("station.key").read_text().splitlines()
    login = f"line:{CAMERA_PASSWORD}".encode()
    return [TOKEN, base64.b64encode(login), base64.b64encode(TOKEN)[:8], *(line.encode() for line in key[1:-1])]


def found_in(directory: Path, secrets: list[bytes]) -> list[str]:
    """Files below `directory` with a secret in them."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert files
    return [str(path) for path in files if any(secret in path.read_bytes() for secret in secrets)]


def secret_files(directory: Path, certificates: Certificates, password: str) -> None:
    directory.mkdir(exist_ok=True)
    write_private(directory / "mqtt-password", f"{password}\n".encode())
    write_private(directory / "camera", f"line:{CAMERA_PASSWORD}\n".encode())
    for name in ("station.crt", "station.key", "ca.crt"):
        shutil.copy(certificates.path(name), directory / name)


def station_settings(path: Path, bundle: Path, camera: MjpegCamera, port: int) -> Path:
    return write_settings(
        path,
        bundle,
        top={"publish": ["mqtt", "jsonl"]},
        source={
            "kind": "camera",
            "device": f"{camera.address}?token=hunter2-query",
            "credentials_file": "%d/camera",
            "open_timeout_s": 1.0,
            "read_timeout_s": 1.0,
        },
        mqtt={
            "host": "localhost",
            "port": port,
            "user": "station",
            "password_file": "%d/mqtt-password",
            "tls": True,
            "ca_file": "%d/ca.crt",
            "certificate_file": "%d/station.crt",
            "key_file": "%d/station.key",
        },
        commands={"enabled": True},
        service={"health_interval_s": 0.5},
        outbox={"directory": "state/outbox"},
    )


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("program", [[str(EDGE), "run", "--config"], [sys.executable, "-c", TALKATIVE]])
def test_no_byte_that_a_station_writes_or_says_is_secret(
    bundle_dir: Path, certificates: Certificates, tmp_path: Path, program: list[str]
) -> None:
    inputs, written = tmp_path / "inputs", tmp_path / "written"
    written.mkdir()
    secret_files(inputs, certificates, "hunter2-mistaken")
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "station", MQTT_PASSWORD], check=True)
    demands = (f"password_file {passwords}", f"cafile {certificates.path('ca.crt')}", "require_certificate true")
    with (
        TlsBroker(tmp_path, certificates, "localhost", *demands) as broker,
        MjpegCamera(size=FRAME_SIZE, login=f"line:{CAMERA_PASSWORD}") as camera,
        Subscriber(broker.plain) as onlooker,
        (written / "stdout").open("wb") as stdout,
        (written / "stderr").open("wb") as stderr,
    ):
        config = station_settings(written / "station.toml", bundle_dir, camera, broker.port)
        environment = {
            **os.environ,
            "CREDENTIALS_DIRECTORY": str(inputs),
            "STATE_DIRECTORY": str(written / "state"),
            "CACHE_DIRECTORY": str(written / "cache"),
        }
        process = subprocess.Popen([*program, str(config)], stdout=stdout, stderr=stderr, env=environment)

        def says(text: str) -> None:
            wait_until(lambda: text in (written / "stderr").read_text(), f"the log says {text}")

        try:
            says("refuses us: Not authorized")
            (inputs / "mqtt-password").write_bytes(b"hunter2 \xff\n")
            says("is not UTF-8")
            write_private(inputs / "mqtt-password", MQTT_PASSWORD.encode())
            onlooker.wait_for(3, "/verdict")
            camera.switch_off()
            says("away, waiting for it")
            camera.switch_on()
            says("back after")
            with Requester(broker.plain, BASE) as requester:
                requester.ask("pause", b'{"hunter2": "hunter2"}', correlation=b"hunter2")
            wait_until(lambda: any(TOKEN in bytes(one.payload) for one in onlooker.messages), "the command is seen")
            onlooker.messages[:] = [one for one in onlooker.messages if "/cmd/" not in one.topic]
            broker.kill()
            says("connection lost")
            broker.start()
            onlooker.wait_for(len(onlooker.payloads("/verdict")) + 3, "/verdict")
            onlooker.wait_for(1, "/health")
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(60)
        wait_until(lambda: onlooker.payloads("/status")[-1] == b"stopped", "the station says goodbye")
    assert code == 0, (written / "stderr").read_text()
    secrets = forbidden(certificates)
    config.unlink()  # it has the address's query, as the user wrote it
    assert (written / "state" / "outbox").is_dir()
    assert found_in(written, secrets) == []
    assert len(found_in(inputs, secrets)) == 3  # that would have been found
    said = [one.topic.encode() + bytes(one.payload) + _properties(one) for one in onlooker.messages]
    assert len(said) > 10
    assert [line for line in said if any(secret in line for secret in secrets)] == []


def _properties(message: Any) -> bytes:
    """All of them but what an answer must repeat."""
    values = dict(vars(message.properties)) if message.properties is not None else {}
    values.pop("CorrelationData", None)
    return str(values).encode()


CAMERA_WITH_LOGIN = '[source]\nkind = "camera"\ndevice = "rtsp://127.0.0.1/x"\ncredentials_file = "login"'


@pytest.mark.parametrize(
    ("text", "mode", "complaint"),
    [
        ('[mqtt]\npassword = "hunter2"', 0o600, "unknown setting mqtt.password"),
        ("[mqtt]\npassword = hunter2", 0o600, "not valid TOML"),
        ('[source]\nkind = "camera"\ndevice = "rtsp://line:hunter2@127.0.0.1/x"', 0o600, "credentials_file"),
        ('[source]\nkind = "camera"\ndevice = "rtsp://line:hunter2/@127.0.0.1:x/"', 0o600, "credentials_file"),
        ('[source]\nkind = "camera"\ndevice = "rtsp://line:hunter2@\\u0007/x"', 0o600, "printable characters"),
        (CAMERA_WITH_LOGIN, 0o600, "expected one line, user:password"),
        (CAMERA_WITH_LOGIN, 0o666, "everybody on this machine"),
        ('[mqtt]\nuser = "u"\npassword_file = "login"', 0o644, "everybody on this machine"),
    ],
)
def test_a_mistake_with_a_secret_is_explained_without_it(
    bundle_dir: Path, tmp_path: Path, text: str, mode: int, complaint: str
) -> None:
    (tmp_path / "login").write_text("hunter2\n")
    (tmp_path / "login").chmod(mode)
    config = tmp_path / "station.toml"
    config.write_text(f'bundle = "{bundle_dir}"\n{text}\n')
    environment = {**os.environ, "STATE_DIRECTORY": str(tmp_path)}
    done = subprocess.run(
        [EDGE, "run", "--config", config], capture_output=True, timeout=60, check=False, env=environment
    )

    assert done.returncode in {2, 4}
    assert complaint in done.stderr.decode()
    assert TOKEN not in done.stdout + done.stderr


# Credentials of systemd.


def test_files_are_found_in_systemds_directory_of_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    write_private(credentials / "mqtt-password", b"open sesame\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    config = tmp_path / "station.toml"
    config.write_text(
        '[mqtt]\nuser = "u"\npassword_file = "%d/mqtt-password"\n'
        '[source]\nkind = "camera"\ncredentials_file = "%d/camera"\n'
    )
    monkeypatch.setenv("PATCHLINE_MQTT__CA_FILE", "%d/ca.crt")
    monkeypatch.setenv("PATCHLINE_MQTT__TLS", "true")

    loaded = load_settings(config)

    assert loaded.mqtt.password_file == credentials / "mqtt-password"
    assert isinstance(loaded.source, CameraSettings)
    assert loaded.source.credentials_file == credentials / "camera"
    assert loaded.mqtt.ca_file == credentials / "ca.crt"
    assert read_password(loaded.mqtt) == "open sesame"


def test_without_systemd_a_credential_is_missed_when_it_is_needed_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    config = tmp_path / "station.toml"
    config.write_text('[mqtt]\nuser = "u"\npassword_file = "%d/mqtt-password"\n')

    loaded = load_settings(config)
    with pytest.raises(SettingsError, match=r"mqtt.password_file %d/mqtt-password: .*LoadCredential="):
        read_password(loaded.mqtt)


def test_the_unit_and_the_examples_agree_on_the_credentials_names() -> None:
    root = ROOT
    unit = (root / "systemd" / "patchline-edge.service").read_text()
    loaded = set(re.findall(r"LoadCredential=([a-z-]+):", unit))
    examples = "".join(path.read_text() for path in (root / "configs").glob("*.toml"))
    named = set(re.findall(r'"%d/([a-z-]+)"', examples))
    assert named
    assert named <= loaded
    assert "/run/credentials" not in examples
    assert MqttSettings.model_fields["password_file"].default is None
