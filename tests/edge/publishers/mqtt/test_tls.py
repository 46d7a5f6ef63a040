"""A broker that cannot be trusted is refused with one clear line, and served once it is put right."""

from __future__ import annotations

import logging
import shutil
import socket
import ssl
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.rig.brokers import HOST, PATIENCE_S, Certificates, Mosquitto, Subscriber, find_mosquitto, wait_until
from demo.broker import free_port
from edge.publishers.mqtt.publisher import MqttPublisher
from edge.settings.sections import MqttSettings
from tests.edge.publishers.mqtt.test_publisher import TOPICS, payloads, verdicts

# paho leaves the socket of a failed handshake to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.skipif(
        find_mosquitto() is None, reason="mosquitto is not installed (Debian: apt-get install mosquitto)"
    ),
]


class TlsBroker(Mosquitto):
    """A mosquitto with a TLS listener, whose certificate can be exchanged, and a plain one for whoever looks on."""

    def __init__(self, directory: Path, certificates: Certificates, server: str, *lines: str) -> None:
        self._certificates = certificates
        self._directory = directory
        self.plain = Plain(HOST, free_port())
        self.present(server)
        super().__init__(
            directory,
            listener="\n".join(
                [
                    "allow_anonymous true",
                    f"certfile {directory}/broker.crt",
                    f"keyfile {directory}/broker.key",
                    *lines,
                    f"listener {self.plain.port} {HOST}",
                ]
            ),
        )

    def start(self) -> None:
        super().start()
        wait_until(self._plain_answers, "the plain listener is there, too")

    def _plain_answers(self) -> bool:
        try:
            socket.create_connection((self.plain.host, self.plain.port), timeout=1).close()
        except OSError:
            return False
        return True

    def present(self, server: str) -> None:
        """From the next start on, another certificate."""
        for kind in ("crt", "key"):
            shutil.copy(self._certificates.path(f"{server}.{kind}"), self._directory / f"broker.{kind}")


@dataclass(frozen=True)
class Plain:
    """Where somebody can look on without TLS."""

    host: str
    port: int


def settings(broker: TlsBroker, certificates: Certificates, **values: object) -> MqttSettings:
    plain = {"host": "localhost", "port": broker.port, "tls": True, "ca_file": certificates.path("ca.crt")}
    return MqttSettings.model_validate({**plain, "keepalive_s": 5, **values})


def refusals(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What people are told, apart from good news."""
    return [record.getMessage() for record in caplog.records if record.levelno > logging.INFO]


@pytest.mark.parametrize(
    ("server", "complaint"),
    [
        ("expired", "the broker's certificate is refused: certificate has expired"),
        ("elsewhere", "the broker's certificate is refused: Hostname mismatch"),
        ("other-ca", "the broker's certificate is refused: self-signed certificate"),
    ],
)
def test_a_broker_that_proves_nothing_is_refused_until_it_is_put_right(
    tmp_path: Path, certificates: Certificates, caplog: pytest.LogCaptureFixture, server: str, complaint: str
) -> None:
    with (
        TlsBroker(tmp_path, certificates, server) as broker,
        MqttPublisher(settings(broker, certificates), TOPICS) as publisher,
    ):
        with Subscriber(broker.plain) as onlooker:
            wait_until(lambda: broker.contacts() >= 5, "the publisher keeps trying")
            assert not publisher.counters.connected
            assert not publisher.send(verdicts(1)[0], timeout_s=0)
            assert onlooker.payloads("/status") == []
        (line,) = refusals(caplog)
        assert complaint in line
        assert f"localhost:{broker.port}: cannot connect" in line
        broker.close()
        broker.present("localhost")
        broker.start()

        assert publisher.send(verdicts(1)[0], PATIENCE_S)
        assert publisher.flush(PATIENCE_S)
        with Subscriber(broker.plain) as late:
            assert late.wait_for(1, "/status") == [b"online"]


def test_a_station_without_the_certificate_that_the_broker_wants_is_told_so_and_never_online(
    tmp_path: Path, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    demands = (f"cafile {certificates.path('ca.crt')}", "require_certificate true")
    with TlsBroker(tmp_path, certificates, "localhost", *demands) as broker:
        with Subscriber(broker.plain) as onlooker, MqttPublisher(settings(broker, certificates), TOPICS) as publisher:
            wait_until(lambda: broker.contacts() >= 5, "the publisher keeps trying")
            assert not publisher.counters.connected
            assert onlooker.payloads("/status") == []
        assert len(refusals(caplog)) == 1
        assert "is mqtt.certificate_file of an authority that it trusts" in refusals(caplog)[0]

        proven = settings(
            broker,
            certificates,
            certificate_file=certificates.path("station.crt"),
            key_file=certificates.path("station.key"),
        )
        with Subscriber(broker.plain) as onlooker, MqttPublisher(proven, TOPICS) as publisher:
            assert publisher.send(verdicts(1)[0], PATIENCE_S)
            assert onlooker.wait_for(1, "/verdict") == payloads(verdicts(1))


def test_a_station_whose_certificate_is_of_another_authority_is_never_online(
    tmp_path: Path, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    demands = (f"cafile {certificates.path('ca.crt')}", "require_certificate true")
    foreign = {"certificate_file": certificates.path("other-ca.crt"), "key_file": certificates.path("other-ca.key")}
    with (
        TlsBroker(tmp_path, certificates, "localhost", *demands) as broker,
        Subscriber(broker.plain) as onlooker,
        MqttPublisher(settings(broker, certificates, **foreign), TOPICS) as publisher,
    ):
        wait_until(lambda: broker.contacts() >= 5, "the publisher keeps trying")
        assert not publisher.counters.connected
        assert onlooker.payloads("/status") == []
        assert len(refusals(caplog)) == 1


@pytest.mark.parametrize("version", ["tlsv1.2", "tlsv1.3"])
def test_tls_1_2_and_1_3_are_spoken(tmp_path: Path, certificates: Certificates, version: str) -> None:
    with (
        TlsBroker(tmp_path, certificates, "localhost", f"tls_version {version}") as broker,
        MqttPublisher(settings(broker, certificates), TOPICS) as publisher,
    ):
        assert publisher.send(verdicts(1)[0], PATIENCE_S)
        assert publisher.flush(PATIENCE_S)


def test_a_broker_that_speaks_only_tls_1_1_is_refused(
    tmp_path: Path, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    """mosquitto cannot: a server of our own that never agrees to more."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that is the point
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.minimum_version = ssl.TLSVersion.TLSv1
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.load_cert_chain(certificates.path("localhost.crt"), certificates.path("localhost.key"))
    handshakes: list[str] = []

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                with old.wrap_socket(connection, server_side=True) as agreed:
                    handshakes.append(str(agreed.version()))
            except OSError as error:
                handshakes.append(str(error))

    with socket.create_server((HOST, 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        plain = MqttSettings(
            host="localhost", port=listener.getsockname()[1], tls=True, ca_file=certificates.path("ca.crt")
        )
        with MqttPublisher(plain, TOPICS) as publisher:
            wait_until(lambda: len(handshakes) >= 2, "the publisher keeps trying")
            assert not publisher.counters.connected
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert not any(found in {"TLSv1", "TLSv1.1"} for found in handshakes)
    assert len(refusals(caplog)) == 1
