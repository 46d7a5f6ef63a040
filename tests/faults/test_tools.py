"""The tools of the fault tests do what the tests believe of them."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.rig.broker import BrokerProcess, EntryKind, Log, Manners, Refusal
from benchmarks.rig.brokers import wait_until
from benchmarks.rig.faulty import FaultyLibrary, standing_still
from benchmarks.rig.ledger import Key, audit
from benchmarks.rig.proxy import ChaosProxy, Weather
from edge.protocol.messages import verdict_message
from edge.protocol.topics import StationTopics
from edge.publishers.mqtt.publisher import MqttPublisher
from edge.records import FrameIdentity, Outcome, Verdict
from edge.settings.sections import MqttSettings

TOPICS = StationTopics(root="patchline", site="s", line="l", name="n")
PATIENCE_S = 20.0


def verdict(seq: int, epoch: int = 1) -> Verdict:
    identity = FrameIdentity(sequence=seq, captured_at_s=0.0, captured_monotonic_s=0.0)
    return Verdict(identity=identity, outcome=Outcome.FAIL, score=2.0, threshold=1.0, recipe="r", model="m")


def send(publisher: MqttPublisher, *seqs: int, epoch: int = 1) -> None:
    for seq in seqs:
        assert publisher.send(verdict_message(TOPICS, verdict(seq), epoch, seq), PATIENCE_S)
    assert publisher.flush(PATIENCE_S)


def keys(*seqs: int) -> set[Key]:
    return {Key("n", 1, seq) for seq in seqs}


@contextmanager
def published(broker: BrokerProcess | ChaosProxy) -> Iterator[MqttPublisher]:
    settings = MqttSettings(host=broker.host, port=broker.port, keepalive_s=5)
    with MqttPublisher(settings, TOPICS) as publisher:
        yield publisher


# The broker.


def test_what_the_broker_acknowledged_survives_its_kills(oracle: BrokerProcess) -> None:
    with published(oracle) as publisher:
        for first in (1, 101, 201):
            send(publisher, *range(first, first + 100))
            oracle.restart()
        send(publisher, 301)
    log = oracle.log
    assert [json.loads(entry.text or "")["seq"] for entry in log.accepted("/verdict")] == list(range(1, 302))
    assert (log.count(EntryKind.START), log.count(EntryKind.CONNECT)) == (4, 4)
    assert log.entries == Log.read(oracle.path).entries


def test_a_line_cut_off_by_a_kill_is_no_message_and_spoils_no_other(oracle: BrokerProcess) -> None:
    with published(oracle) as publisher:
        send(publisher, 1)
        oracle.kill()
        with oracle.path.open("ab") as log:
            log.write(b'{"kind": "publish", "at_s": 1.0, "topic": "patchline/s/l/n/verd')
        assert len(Log.read(oracle.path).arrived("/verdict")) == 1
        oracle.start()
        send(publisher, 2)
    assert len(Log.read(oracle.path).accepted("/verdict")) == 2


def test_the_broker_announces_its_limits_and_refuses_what_it_was_told(tmp_path: Path) -> None:
    refusals = (Refusal("/verdict", 0x97, times=2),)
    manners = Manners(receive_maximum=3, max_packet_bytes=2000, refusals=refusals, answer_delay_s=0.01)
    with BrokerProcess(tmp_path / "log", manners) as broker:
        with published(broker) as publisher:
            send(publisher, *range(1, 30))
            assert publisher.counters.retried == 2
        log = broker.log
    assert len(log.accepted("/verdict")) == 29
    assert [entry.code for entry in log.arrived("/verdict")[:3]].count(0x97) == 2
    assert max(entry.unanswered for entry in log.entries) == 3


def test_the_broker_refuses_to_welcome(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path / "log", Manners(connect_code=0x87)) as broker, published(broker) as publisher:
        broker.wait_for(lambda log: log.count(EntryKind.CONNECT) >= 2, "it is tried again")
        assert not publisher.counters.connected
        broker.restart(Manners())
        send(publisher, 1)


def test_the_will_is_said_when_a_client_is_cut_off_and_only_then(oracle: BrokerProcess, proxy: ChaosProxy) -> None:
    with published(proxy) as publisher:
        send(publisher, 1)
        proxy.cut()
        oracle.wait_for(lambda log: log.count(EntryKind.WILL) == 1, "the will is said")
        send(publisher, 2)
    assert oracle.log.retained("/status") == ["online", "offline", "online", "stopped"]


# The proxy.


@pytest.mark.parametrize(
    "weather", [Weather(), Weather(delay_s=0.01), Weather(bytes_per_s=200_000), Weather(piece_bytes=1)]
)
def test_bad_weather_changes_no_byte(oracle: BrokerProcess, proxy: ChaosProxy, weather: Weather) -> None:
    proxy.weather = weather
    with published(proxy) as publisher:
        send(publisher, *range(1, 31))
    assert not audit(keys(*range(1, 31)), oracle.log).lost
    assert proxy.connections == 1


def test_a_cut_is_a_reset_and_comes_after_the_byte_that_was_asked_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ChaosProxy(server.getsockname()) as proxy:
        proxy.cut_after(7)
        with socket.create_connection((proxy.host, proxy.port)) as client:
            target, _ = server.accept()
            client.sendall(b"0123456789")
            client.settimeout(PATIENCE_S)
            with pytest.raises(ConnectionResetError):
                client.recv(1)
            target.settimeout(PATIENCE_S)
            with target:
                assert target.recv(100) == b"0123456"
                with pytest.raises(ConnectionResetError):
                    target.recv(1)


def test_a_refusing_proxy_refuses_and_a_black_hole_accepts_and_is_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ChaosProxy(server.getsockname()) as proxy:
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((proxy.host, proxy.port))
        proxy.weather = Weather(black_hole=True)
        proxy.accept()
        with socket.create_connection((proxy.host, proxy.port)) as client:
            client.sendall(b"hello")
            server.settimeout(0.3)
            with pytest.raises(TimeoutError):
                server.accept()
            proxy.weather = Weather()
            server.settimeout(PATIENCE_S)
            target, _ = server.accept()
            with target:
                assert target.recv(5) == b"hello"


# The ledger.


def test_the_ledger_names_what_is_lost_repeated_inverted_and_explained(oracle: BrokerProcess) -> None:
    with published(oracle) as publisher:
        send(publisher, 1, 3, 2, 3, 7)
        send(publisher, 1, epoch=2)
    findings = audit(keys(1, 2, 3, 8), oracle.log)
    assert findings.lost == tuple(sorted(keys(4, 5, 6, 8)))  # what lies below a number was committed too
    assert findings.inverted == (Key("n", 1, 2),)
    assert len(findings.repeats) == 1
    assert (findings.committed, findings.received, findings.epochs) == (9, 5, (1, 2))
    assert findings.repeats_after([0.0]) == (1,)
    assert findings.repeats_after([0.0, time.monotonic()]) == (1, 0)


def test_a_tombstone_explains_a_gap(tmp_path: Path) -> None:
    stone = {"v": 1, "station": "n", "epoch": 1, "first": 2, "last": 3, "count": 2, "reason": "evicted"}
    lines = [
        {"kind": "publish", "at_s": 1.0, "topic": "a/verdict", "text": verdict_message(TOPICS, verdict(1), 1, 1)},
        {"kind": "publish", "at_s": 2.0, "topic": "a/tombstone", "text": json.dumps(stone)},
    ]
    lines[0]["text"] = verdict_message(TOPICS, verdict(1), 1, 1).payload.decode()
    (tmp_path / "log").write_text("".join(json.dumps(line) + "\n" for line in lines))
    findings = audit(keys(1, 2, 3, 4), Log.read(tmp_path / "log"))
    assert findings.lost == tuple(keys(4))
    assert findings.explained == 2


# The C library.


def run_faulty(script: str, faulty: FaultyLibrary, directory: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **faulty.environment},
    )


def test_the_wall_clock_jumps_and_the_monotonic_one_does_not(faulty: FaultyLibrary, tmp_path: Path) -> None:
    script = """
        import time
        while input():
            print(time.time(), time.monotonic(), flush=True)
    """
    faulty.shift_clock(3600)
    with run_faulty(script, faulty, tmp_path) as process:
        output, _ = process.communicate("now\n\n")
    wall, monotonic = map(float, output.split())
    assert 3500 < wall - time.time() < 3700
    assert abs(monotonic - time.monotonic()) < 100


def test_writes_fail_in_the_watched_directory_and_only_there(faulty: FaultyLibrary, tmp_path: Path) -> None:
    script = """
        import pathlib, sqlite3, sys
        directory = pathlib.Path(sys.argv[1])
        books = sqlite3.connect(directory / "outbox" / "books.sqlite3")
        books.execute("create table t (n)")
        print("ready", flush=True)
        input()
        for write in (
            lambda: (directory / "outbox" / "file").write_bytes(b"x"),
            lambda: books.execute("insert into t values (1)").connection.commit(),
            lambda: (directory / "elsewhere").write_bytes(b"x"),
        ):
            try:
                write()
                print("written")
            except (OSError, sqlite3.Error) as error:
                print(error)
    """
    with run_faulty(script, faulty, tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        faulty.fail_writes(errno.ENOSPC)
        output, _ = process.communicate("\n")
    to_file, to_database, elsewhere = output.splitlines()
    assert "No space left on device" in to_file
    assert "full" in to_database or "I/O" in to_database
    assert elsewhere == "written"
    assert faulty.failures >= 2


def test_a_simulated_power_cut_leaves_what_was_fsynced_under_names_that_were(
    faulty: FaultyLibrary, tmp_path: Path
) -> None:
    script = """
        import os, pathlib, sys
        outbox = pathlib.Path(sys.argv[1]) / "outbox"
        def write(name, contents, sync):
            with (outbox / name).open("ab") as file:
                file.write(contents)
                file.flush()
                if sync:
                    os.fsync(file.fileno())
        def sync_directory():
            directory = os.open(outbox, os.O_RDONLY)
            os.fsync(directory)
            os.close(directory)
        write("whole", b"synced", True)
        write("emptied", b"never synced", False)
        write("temporary", b"renamed", True)
        sync_directory()
        write("whole", b" and more", False)
        (outbox / "temporary").rename(outbox / "final")
        write("nameless", b"synced", True)
    """
    with run_faulty(script, faulty, tmp_path) as process:
        process.communicate()
    faulty.restore(tmp_path / "restored")
    left = {path.name: path.read_bytes() for path in (tmp_path / "restored").iterdir()}
    assert left == {"whole": b"synced", "emptied": b"", "temporary": b"renamed"}


def test_a_database_that_syncs_in_full_survives_a_simulated_power_cut(faulty: FaultyLibrary, tmp_path: Path) -> None:
    script = """
        import sqlite3, sys
        books = sqlite3.connect(sys.argv[1] + "/outbox/books.sqlite3", isolation_level=None)
        books.execute("pragma journal_mode = wal")
        books.execute("pragma synchronous = full")
        books.execute("create table t (n)")
        for number in range(1, 1000):
            books.execute("insert into t values (?)", (number,))
            print(number, flush=True)
    """
    with run_faulty(script, faulty, tmp_path) as process:
        assert process.stdout is not None
        committed = 0
        while committed < 300:
            committed = int(process.stdout.readline())
        process.kill()
        rest, _ = process.communicate()
    printed = [int(line) for line in rest.split("\n")[:-1]]
    faulty.restore(tmp_path / "restored")
    check = (
        "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute('select count(*), max(n) from t').fetchone())"
    )
    found = subprocess.run(
        [sys.executable, "-c", check, str(tmp_path / "restored" / "books.sqlite3")],
        check=True,
        capture_output=True,
        text=True,
    )
    count, highest = map(int, found.stdout.split())
    assert count == highest >= max([committed, *printed])


def test_threads_stand_still_and_go_on(tmp_path: Path) -> None:
    script = """
        import threading, time
        count = 0
        def work():
            global count
            while True:
                time.sleep(0.001)
                count += 1
        threading.Thread(target=work, daemon=True).start()
        while input():
            print(count, flush=True)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def count() -> int:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("count\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        wait_until(lambda: count() > 0, "it counts")
        with standing_still(process.pid):
            before = count()
            time.sleep(0.1)
            assert count() == before
        wait_until(lambda: count() > before, "it goes on counting")
        process.kill()


def test_a_cut_wakes_a_client_that_only_listens(oracle: BrokerProcess, proxy: ChaosProxy) -> None:
    woken = threading.Event()
    with socket.create_connection((proxy.host, proxy.port)) as client:

        def listen() -> None:
            try:
                client.recv(1)
            except ConnectionResetError:
                woken.set()

        listener = threading.Thread(target=listen)
        listener.start()
        wait_until(lambda: proxy.connections == 1, "it is connected")
        proxy.cut()
        listener.join(PATIENCE_S)
    assert woken.is_set()
