"""The audit against real brokers: what a station sends, loses, repeats and gives up, and its own restarts."""

from __future__ import annotations

import dataclasses
import gc
import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client, ConnectFlags
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from benchmarks.campaigns._hostile import MANNERS
from benchmarks.campaigns._hostile import Broker as HostileBroker
from benchmarks.rig.brokers import HOST, Broker, Certificates, Mosquitto, Subscriber, wait_until
from edge.audit.options import AuditOptions
from edge.audit.report import Report, text_lines
from edge.audit.run import run_audit
from edge.errors import DeliveryError, PatchlineError, SettingsError
from edge.protocol.messages import crop_messages, tombstone_message, verdict_message
from edge.publishers.mqtt.publisher import MqttPublisher
from edge.records import Message, Verdict
from edge.settings.sections import MqttSettings, StationSettings
from edge.settings.tree import Settings
from tests.edge.protocol.test_messages import FAIL, NO_RESULT, PASS, TOPICS

StartMosquitto = Callable[..., Mosquitto]
EDGE = Path(sys.executable).parent / "patchline-edge"
STATION = StationSettings(root="patchline", site="bremen", line="line-1", name="station_7")
LONG_S = 60.0  # the audit ends by itself: a test that waits so long has failed


class Audit:
    """An audit in a thread of its own, until `stop` or its own end."""

    def __init__(self, settings: Settings, options: AuditOptions) -> None:
        self._stop = threading.Event()
        self._settings = settings
        self._options = options
        self._report: Report | None = None
        self._error: PatchlineError | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def wait(self) -> Report:
        self._thread.join(LONG_S)
        assert not self._thread.is_alive(), "the audit does not end"
        if self._error is not None:
            raise self._error
        assert self._report is not None
        return self._report

    def stop(self) -> Report:
        self._stop.set()
        return self.wait()

    def end(self) -> None:
        self._stop.set()
        self._thread.join(LONG_S)

    def _run(self) -> None:
        try:
            self._report = run_audit(self._settings, self._options, self._stop)
        except PatchlineError as error:
            self._error = error


class Terminal:
    """What the audit has said so far on standard error."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._said = ""

    def forget(self) -> None:
        self.read()
        self._said = ""

    def read(self) -> str:
        self._said += self._capsys.readouterr().err
        return self._said

    def wait_for(self, text: str) -> None:
        wait_until(lambda: text in self.read(), f"the audit says: {text}")


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capsys)


class Line:
    """A station that sends what a test tells it to."""

    def __init__(self, broker: Broker) -> None:
        self._publisher = MqttPublisher(MqttSettings(host=broker.host, port=broker.port), TOPICS)

    def say(
        self, seqs: Sequence[int], *, epoch: int = 5, verdict: Verdict = PASS, backlog: bool = False, crops: bool = True
    ) -> None:
        for seq in seqs:
            identity = dataclasses.replace(verdict.identity, captured_at_s=time.time())
            now = dataclasses.replace(verdict, identity=identity)
            self.send(verdict_message(TOPICS, now, epoch, seq, backlog=backlog))
            for message in crop_messages(TOPICS, now, epoch, seq) if crops else ():
                self.send(message)

    def give_up(self, first: int, last: int, *, epoch: int = 5) -> None:
        count = last - first + 1
        self.send(tombstone_message(TOPICS, epoch, first=first, last=last, count=count, reason="evicted"))

    def garbage(self, suffix: str, payload: bytes) -> None:
        self.send(Message(f"{TOPICS.base}/{suffix}", payload, qos=1))

    def send(self, message: Message) -> None:
        assert self._publisher.send(message, LONG_S)

    def flush(self) -> None:
        assert self._publisher.flush(LONG_S)

    def close(self) -> None:
        self._publisher.close()


@contextmanager
def line_to(broker: Broker) -> Iterator[Line]:
    line = Line(broker)
    try:
        yield line
        line.flush()
    finally:
        line.close()


def settings_for(broker: Broker, **mqtt: Any) -> Settings:
    return Settings(station=STATION, mqtt=MqttSettings(**{"host": broker.host, "port": broker.port, **mqtt}))


@contextmanager
def auditing(broker: Broker, terminal: Terminal, **options: Any) -> Iterator[Audit]:
    """An audit that listens already; it is stopped at the end in any case."""
    terminal.forget()
    audit = Audit(settings_for(broker), AuditOptions(**{"for_s": LONG_S, "interval_s": 0.1, **options}))
    try:
        terminal.wait_for("listening")
        probe(broker)
        yield audit
    finally:
        audit.end()


def probe(broker: Broker) -> None:
    """The broker answers in order: when it has answered a subscriber, it has subscribed the audit before."""
    with Subscriber(broker, "nothing/at/all"):
        pass


def test_a_line_without_a_fault_is_accounted_for(broker: Broker, terminal: Terminal) -> None:
    with auditing(broker, terminal, until_seq=30) as audit, line_to(broker) as line:
        line.say(range(1, 21))
        line.say(range(21, 25), verdict=NO_RESULT)
        line.say(range(25, 31), verdict=FAIL)
        report = audit.wait()
    assert report.accounted
    (station,) = report.stations
    (epoch,) = station.epochs
    assert (epoch.first, epoch.last, epoch.received, epoch.missing) == (1, 30, 30, 0)
    assert (epoch.passed, epoch.failed, epoch.no_result_reasons) == (20, 6, {"deadline_missed": 4})
    assert epoch.latency_ms["live"]["count"] == 30
    assert station.status == "online"
    assert (report.unusable, report.connections, report.interruptions) == ({}, 1, 0)


def test_what_goes_wrong_is_found_and_named(broker: Broker, terminal: Terminal) -> None:
    with auditing(broker, terminal, until_seq=40) as audit, line_to(broker) as line:
        line.say([1, 2, 3, 6, 7, 8])  # 4 and 5 are lost
        line.say([8], verdict=dataclasses.replace(PASS, score=1.3))  # repeated with another content
        line.say([11, 10])  # inverted; 9 comes late
        line.say([20])  # 12 to 19 wait
        line.say([9, 12, 13, 14], backlog=True)
        line.give_up(15, 18)  # 19 is lost
        line.say([21, 22], verdict=FAIL)
        line.say([23], verdict=FAIL, crops=False)
        line.garbage("verdict", b'{"v":1')
        line.garbage("tombstone", b'{"v":1,"station":"station_7","epoch":5,"first":4,"last":5,"count":9,"reason":"x"}')
        line.garbage("alarm/oops", b"\xff")
        line.say([1, 2], epoch=4)  # of an epoch that had ended
        line.say(range(24, 40))
        line.say([40], epoch=5)
        terminal.wait_for("up to 40, received 33, missing 3, evicted 4")
        report = audit.stop()
    assert not report.accounted
    epoch = report.stations[0].epochs[1]
    assert epoch.epoch == 5
    assert epoch.missing_ranges == ((4, 5), (19, 19))
    assert (epoch.missing, epoch.evicted, epoch.unheard) == (3, 4, 0)
    assert (epoch.duplicates, epoch.conflicts, epoch.inversions, epoch.overtaken) == (1, 1, 1, 4)
    assert epoch.latency_ms["backlog"]["count"] == 4
    assert (epoch.crops["matched"], epoch.crops["missing"]) == (2, 1)
    assert report.stations[0].counts["late_epoch_verdicts"] == 2
    assert report.unusable == {"verdict": 1, "tombstone": 1, "alarm": 1}
    text = "\n".join(text_lines(report))
    assert "missing: 4-5, 19" in text
    assert "expected a JSON object" in text


def test_silence_proves_nothing(start_mosquitto: StartMosquitto) -> None:
    report = Audit(settings_for(start_mosquitto()), AuditOptions(for_s=0.5)).wait()
    assert (report.accounted, report.received, report.missing, report.connections) == (False, 0, 0, 1)


def test_an_audit_taken_up_again_has_missed_nothing(
    start_mosquitto: StartMosquitto, tmp_path: Path, terminal: Terminal
) -> None:
    broker, ledger = start_mosquitto(), tmp_path / "ledger.sqlite"
    with line_to(broker) as line:
        with auditing(broker, terminal, ledger=ledger, until_seq=10) as first:
            line.say(range(1, 11))
            first.wait()
        line.say(range(11, 21))
        line.flush()
        time.sleep(0.02)  # captured before the audit comes back, by any clock's resolution
        with auditing(broker, terminal, ledger=ledger, until_seq=30) as second:
            line.say(range(21, 31))
            report = second.wait()
    assert report.accounted
    (epoch,) = report.stations[0].epochs
    assert (epoch.received, epoch.duplicates, epoch.redelivered) == (30, 0, 0)
    assert (epoch.latency_ms["live"]["count"], epoch.latency_ms["queued"]["count"]) == (20, 10)
    assert (report.connections, report.interruptions) == (2, 0)


def test_a_named_session_is_kept_by_the_broker_without_a_ledger_file(
    start_mosquitto: StartMosquitto, terminal: Terminal
) -> None:
    broker = start_mosquitto()
    with line_to(broker) as line:
        with auditing(broker, terminal, client_id="auditor") as first:
            line.say([1])
            line.flush()
            first.stop()
        line.say([2, 3])
        line.flush()
        with auditing(broker, terminal, client_id="auditor", until_seq=4) as second:
            line.say([4])
            report = second.wait()
    assert report.accounted
    assert report.stations[0].epochs[0].received >= 3  # 2, 3, 4, and 1 where it had not been acknowledged


def test_a_session_without_a_name_is_not_left_behind(start_mosquitto: StartMosquitto, terminal: Terminal) -> None:
    broker = start_mosquitto()
    with auditing(broker, terminal) as audit:
        report = audit.stop()
    assert not session_present(broker, report.client_id)


def session_present(broker: Broker, client_id: str) -> bool:
    answers: list[bool] = []
    client = Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTProtocolVersion.MQTTv5)

    def on_connect(_client: Client, _data: object, flags: ConnectFlags, *_: object) -> None:
        answers.append(flags.session_present)

    client.on_connect = on_connect
    client.connect(broker.host, broker.port, clean_start=False)
    client.loop_start()
    wait_until(lambda: bool(answers), "the broker answers")
    client.disconnect()
    client.loop_stop()
    return answers[0]


def test_a_broker_that_forgot_the_session_leaves_verdicts_unheard_and_nothing_proven(
    start_mosquitto: StartMosquitto, tmp_path: Path, terminal: Terminal
) -> None:
    broker = start_mosquitto()
    with auditing(broker, terminal, from_seq=1, ledger=tmp_path / "ledger.sqlite") as audit:
        with line_to(broker) as line:
            line.say([1, 2])
        wait_until(lambda: count_received(tmp_path / "ledger.sqlite") == 2, "two verdicts are on disk")
        broker.kill()
        terminal.forget()
        (tmp_path / "mosquitto.db").unlink(missing_ok=True)
        broker.start()
        terminal.wait_for("no session was kept")
        probe(broker)
        with line_to(broker) as line:
            line.say([6])  # 3 to 5 were sent while nobody listened
        wait_until(lambda: count_received(tmp_path / "ledger.sqlite") == 3, "the third is on disk")
        report = audit.stop()
    assert (report.missing, report.unheard, report.interruptions, report.accounted) == (0, 3, 1, False)


def count_received(ledger: Path) -> int:
    """Read from the outside what is on disk, as long as nobody holds it; -1 while somebody does."""
    import sqlite3

    copy = ledger.with_name("copy.sqlite")
    for suffix in ("", "-wal"):
        source = ledger.with_name(ledger.name + suffix)
        if source.exists():
            copy.with_name(copy.name + suffix).write_bytes(source.read_bytes())
    connection = sqlite3.connect(copy)
    try:
        rows = connection.execute("SELECT sum(last - first + 1) FROM ranges WHERE name = 'received'").fetchone()
        return int(rows[0] or 0)
    except sqlite3.Error:
        return -1
    finally:
        connection.close()


def test_a_killed_audit_hears_again_what_it_had_not_written(start_mosquitto: StartMosquitto, tmp_path: Path) -> None:
    broker, ledger, report_file = start_mosquitto(), tmp_path / "ledger.sqlite", tmp_path / "report.json"
    config = tmp_path / "station.toml"
    config.write_text(f'[station]\nsite = "bremen"\n[mqtt]\nport = {broker.port}\n', encoding="utf-8")
    command: list[str | Path] = [EDGE, "audit", "--config", config, "--ledger", ledger, "--for", str(LONG_S)]
    audit = start_listening(command)
    probe(broker)
    with line_to(broker) as line:
        for turn in range(3):
            line.say(range(1 + 200 * turn, 151 + 200 * turn))
            line.flush()
            audit.kill()
            audit.communicate()
            line.say(range(151 + 200 * turn, 201 + 200 * turn))  # while it is dead
            line.flush()
            audit = start_listening([*command, "--until-seq", "600", "--json", report_file] if turn == 2 else command)
    output, _ = audit.communicate(timeout=LONG_S)
    assert audit.returncode == 0, output
    report = json.loads(report_file.read_text(encoding="utf-8"))
    (epoch,) = report["stations"][0]["epochs"]
    assert (epoch["epoch"], epoch["first"], epoch["received"], epoch["missing"]) == (5, 1, 600, 0)
    assert epoch["duplicates"] == 0
    assert "accounted for: 600 verdicts received, none missing" in output


def start_listening(command: Sequence[str | Path]) -> subprocess.Popen[str]:
    audit = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert audit.stderr is not None
    line = audit.stderr.readline()
    assert "listening to patchline/+/+/+/verdict" in line, line
    return audit


def test_missing_verdicts_have_their_own_exit_code_and_ctrl_c_ends_with_a_report(
    start_mosquitto: StartMosquitto, tmp_path: Path
) -> None:
    broker, report_file = start_mosquitto(), tmp_path / "report.json"
    config = tmp_path / "station.toml"
    config.write_text(f"[mqtt]\nport = {broker.port}\n", encoding="utf-8")
    audit = start_listening([EDGE, "audit", "--config", config, "--interval", "0.1", "--json", report_file])
    probe(broker)
    with line_to(broker) as line:
        line.say([1, 2, 4])
    assert audit.stderr is not None
    while "received 3, missing 1" not in audit.stderr.readline():
        assert audit.poll() is None
    audit.send_signal(signal.SIGINT)
    output, errors = audit.communicate(timeout=LONG_S)
    assert audit.returncode == 8
    assert "1 to 4 expected; 3 received, 1 missing" in output
    assert "error: not accounted for: 1 verdicts missing without explanation" in errors
    assert "Traceback" not in errors
    report = json.loads(report_file.read_text(encoding="utf-8"))
    assert (report["accounted"], report["stations"][0]["epochs"][0]["missing_ranges"]) == (False, [[3, 3]])


def test_an_outage_of_the_broker_is_survived(
    start_mosquitto: StartMosquitto, tmp_path: Path, terminal: Terminal
) -> None:
    broker = start_mosquitto()
    with (
        auditing(broker, terminal, ledger=tmp_path / "ledger.sqlite", until_seq=40) as audit,
        line_to(broker) as line,
    ):
        line.say(range(1, 21))
        line.flush()
        broker.close()
        broker.start()
        line.say(range(21, 41))
        report = audit.wait()
    assert report.accounted
    assert report.received == 40
    assert report.connections == 2


def test_only_the_station_that_was_asked_for_is_heard(start_mosquitto: StartMosquitto, terminal: Terminal) -> None:
    broker = start_mosquitto()
    with auditing(broker, terminal, station="station_8", for_s=1.0) as audit, line_to(broker) as line:
        line.say([1, 2])
        report = audit.wait()
    assert report.filters[0] == "patchline/+/+/station_8/verdict"
    assert report.heard == 0


def test_without_crops_none_is_asked_for_and_none_is_missed(
    start_mosquitto: StartMosquitto, terminal: Terminal
) -> None:
    broker = start_mosquitto()
    with auditing(broker, terminal, crops=False, until_seq=3) as audit, line_to(broker) as line:
        line.say([1, 2, 3], verdict=FAIL)
        report = audit.wait()
    assert report.accounted
    assert set(report.stations[0].epochs[0].crops.values()) == {0}


def test_over_tls_it_listens_like_the_station(start_mosquitto: StartMosquitto, certificates: Certificates) -> None:
    broker = start_mosquitto(
        listener=f"allow_anonymous true\ncertfile {certificates.path('localhost.crt')}\n"
        f"keyfile {certificates.path('localhost.key')}\n"
    )
    settings = settings_for(broker, host="localhost", tls=True, ca_file=certificates.path("ca.crt"))
    assert Audit(settings, AuditOptions(for_s=1.0)).wait().connections == 1


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_broker_that_proves_nothing_ends_the_audit(
    start_mosquitto: StartMosquitto, certificates: Certificates
) -> None:
    broker = start_mosquitto(
        listener=f"allow_anonymous true\ncertfile {certificates.path('localhost.crt')}\n"
        f"keyfile {certificates.path('localhost.key')}\n"
    )
    settings = settings_for(broker, host="localhost", tls=True, ca_file=certificates.path("other-ca.crt"))
    with pytest.raises(DeliveryError, match="the broker's certificate is refused"):
        Audit(settings, AuditOptions(for_s=LONG_S)).wait()
    gc.collect()


def test_a_broker_that_does_not_know_us_ends_the_audit(start_mosquitto: StartMosquitto) -> None:
    broker = start_mosquitto(listener="allow_anonymous false")
    with pytest.raises(DeliveryError, match="the broker refuses us: Not authorized"):
        Audit(settings_for(broker), AuditOptions(for_s=LONG_S)).wait()


def test_a_subscription_below_qos_1_proves_nothing_and_is_refused(start_mosquitto: StartMosquitto) -> None:
    broker = start_mosquitto(listener="allow_anonymous true\nmax_qos 0")
    with pytest.raises(DeliveryError, match="expected a subscription at QoS 1, got Granted QoS 0"):
        Audit(settings_for(broker), AuditOptions(for_s=LONG_S)).wait()


def test_an_audit_whose_session_is_taken_over_gives_way() -> None:
    connack, suback, taken_over = b"\x20\x03\0\0\0", b"\x90\x08\0\x01\0" + 5 * b"\x01", b"\xe0\x01\x8e"
    with socket.create_server((HOST, 0)) as server:
        options = AuditOptions(for_s=LONG_S, client_id="auditor")
        audit = Audit(Settings(mqtt=MqttSettings(port=server.getsockname()[1])), options)
        connection, _ = server.accept()
        with connection:
            for answer in (connack, suback + taken_over):
                connection.recv(4096)
                connection.sendall(answer)
            with pytest.raises(DeliveryError, match="another client uses the session auditor"):
                audit.wait()


def test_two_audits_of_one_session_are_told_so_where_the_broker_only_hangs_up(
    start_mosquitto: StartMosquitto, terminal: Terminal
) -> None:
    broker = start_mosquitto()
    with auditing(broker, terminal, client_id="auditor"), auditing(broker, terminal, client_id="auditor"):
        terminal.wait_for("does another client use the session auditor?")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"topic": "patchline/+/+"}, "--topic patchline/[+]/[+]: expected the base of stations"),
        ({"topic": "patchline/#"}, "--topic patchline/#"),
        ({"topic": "patchline/+/+/+/verdict"}, "--topic patchline"),
        ({"station": "a b"}, "--topic patchline/[+]/[+]/a b"),
        ({"client_id": "patchline-bremen-line-1-station_7"}, "is the station's own"),
    ],
)
def test_options_that_would_hear_nothing_or_do_harm_are_refused(options: dict[str, str], problem: str) -> None:
    settings = Settings(station=STATION)
    with pytest.raises(SettingsError, match=problem):
        run_audit(settings, AuditOptions(**options), threading.Event())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("manner", "said"),
    [
        ("a packet of 256 MB", "it sends 268435455 bytes in one packet, though we announced 2097152 at the most"),
        ("a flood at QoS 2", "it sends at QoS 2, though we subscribed at QoS 1"),
        ("garbage", "it sends what is no packet of MQTT"),
    ],
)
def test_a_broker_that_breaks_the_protocol_is_left_and_the_audit_goes_on(
    terminal: Terminal, manner: str, said: str
) -> None:
    broker = HostileBroker(MANNERS[manner], random.Random(1))
    settings = Settings(mqtt={"port": broker.port, "keepalive_s": 5})
    try:
        audit = Audit(settings, AuditOptions())
        terminal.wait_for(f"the broker breaks the protocol: {said}; connecting again")
        wait_until(lambda: broker.bad_connections >= 2, "it connects again")
        assert audit.stop().received == 0
    finally:
        broker.close()
