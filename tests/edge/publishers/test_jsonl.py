"""Real pipes and files; a reader that stands still is one that does not read."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from benchmarks.rig.brokers import PATIENCE_S, wait_until
from edge.errors import DeliveryError
from edge.publishers.base import Publisher
from edge.publishers.jsonl import JsonLinesPublisher
from edge.records import Message

VERDICT = Message(topic="root/site/line/station/verdict", payload=b'{"v":1}', qos=1)
STATUS = Message(topic="root/site/line/station/status", payload=b"online", qos=1, retain=True)
LAST = Message(topic="root/site/line/station/verdict/last", payload=b'{"v":1}', qos=0, retain=True)
PIPE_BYTES = 4096
CAPACITY = 5


@pytest.fixture
def pipe() -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Its two ends, for reading and for writing; it holds 4096 bytes."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    with os.fdopen(reader, "rb", buffering=0) as lines, os.fdopen(writer, "wb", buffering=0) as stream:
        yield lines, stream


def stand_still(publisher: JsonLinesPublisher) -> int:
    """Send until no more is taken: how many lines that is."""
    count = 0
    while publisher.send(VERDICT, timeout_s=0.2):
        count += 1
        assert count < 10 * PIPE_BYTES
    return count


def test_each_verdict_is_one_line_and_other_messages_are_passed_over(tmp_path: Path) -> None:
    with (tmp_path / "lines").open("wb") as stream:
        publisher = JsonLinesPublisher(stream)
        assert isinstance(publisher.name, str)
        for message in (VERDICT, STATUS, LAST, VERDICT):
            assert publisher.send(message, timeout_s=0)
        assert publisher.flush(PATIENCE_S)
        publisher.close(PATIENCE_S)
        publisher.close(PATIENCE_S)

        assert not stream.closed
    assert (tmp_path / "lines").read_bytes() == b'{"v":1}\n{"v":1}\n'
    assert publisher.report() == {"jsonl_written": 2, "jsonl_waiting": 0}


def test_a_line_reaches_the_reader_at_once_and_is_answered_then(pipe: tuple[IO[bytes], IO[bytes]]) -> None:
    lines, stream = pipe
    answers: list[int] = []
    publisher = JsonLinesPublisher(stream)
    publisher.send(VERDICT, 0, answers.append)

    assert lines.read(100) == b'{"v":1}\n'
    wait_until(lambda: answers == [0], "it is answered")
    publisher.close(PATIENCE_S)


def test_a_reader_that_stands_still_holds_up_nobody_and_has_everything_taken_when_it_goes_on(
    pipe: tuple[IO[bytes], IO[bytes]],
) -> None:
    lines, stream = pipe
    publisher = JsonLinesPublisher(stream, CAPACITY)
    taken = stand_still(publisher)

    assert taken > CAPACITY
    assert publisher.alive
    assert "stands still" in publisher.trouble
    got = b""
    while got.count(b"\n") < taken:
        got += lines.read(PIPE_BYTES)
    assert got == b'{"v":1}\n' * taken
    wait_until(lambda: publisher.trouble == "", "all is well again")
    publisher.close(PATIENCE_S)


def test_closing_does_not_wait_for_a_reader_that_stands_still(
    pipe: tuple[IO[bytes], IO[bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    _, stream = pipe
    publisher = JsonLinesPublisher(stream, CAPACITY)
    stand_still(publisher)
    assert not publisher.flush(timeout_s=0)
    publisher.close(0.1)

    assert not publisher.alive
    assert f"closed with {CAPACITY} lines that nobody has read" in caplog.text


def test_a_program_ends_though_its_reader_stands_still() -> None:
    """Python's own buffers would wait for it, or die of the lock that a thread holds on them."""
    program = textwrap.dedent("""
        import sys
        from edge.publishers.jsonl import JsonLinesPublisher
        from edge.records import Message
        publisher = JsonLinesPublisher(sys.stdout.buffer, 100)
        verdict = Message(topic="a/verdict", payload=bytes(1000), qos=1)
        while publisher.send(verdict, 0.2):
            pass
        sys.stderr.write("full")
    """)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.wait(PATIENCE_S) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b"full"


@pytest.mark.parametrize("way", ["reader", "disk"])
def test_a_reader_that_has_gone_and_a_full_disk_are_delivery_errors(way: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb", buffering=0) as pipe, Path("/dev/full").open("wb", buffering=0) as full:
        publisher = JsonLinesPublisher(pipe if way == "reader" else full)
        assert publisher.send(VERDICT, timeout_s=0)
        wait_until(lambda: publisher.trouble != "", "it is noticed")

        complaint = "reader of standard output has gone" if way == "reader" else "No space left"
        with pytest.raises(DeliveryError, match=complaint):
            publisher.send(VERDICT, timeout_s=0)
        assert not publisher.flush(timeout_s=0)
        publisher.close(PATIENCE_S)


def test_it_is_a_publisher(tmp_path: Path) -> None:
    with (tmp_path / "lines").open("wb") as stream:
        publisher: Publisher = JsonLinesPublisher(stream)
        publisher.publish_health({"fps": 1.0}, source_present=True)
        publisher.close(PATIENCE_S)
