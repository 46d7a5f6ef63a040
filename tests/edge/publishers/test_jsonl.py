from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from edge.errors import DeliveryError
from edge.publishers.base import Publisher
from edge.publishers.jsonl import JsonLinesPublisher
from edge.records import Message

VERDICT = Message(topic="root/site/line/station/verdict", payload=b'{"v":1}', qos=1)
STATUS = Message(topic="root/site/line/station/status", payload=b"online", qos=1, retain=True)
LAST = Message(topic="root/site/line/station/verdict/last", payload=b'{"v":1}', qos=0, retain=True)


def test_each_verdict_is_one_line() -> None:
    stream = io.BytesIO()
    publisher: Publisher = JsonLinesPublisher(stream)

    assert publisher.send(VERDICT, timeout_s=0)
    assert publisher.send(VERDICT, timeout_s=0)
    assert stream.getvalue() == b'{"v":1}\n{"v":1}\n'


def test_other_messages_are_taken_and_passed_over() -> None:
    stream = io.BytesIO()
    publisher = JsonLinesPublisher(stream)

    assert publisher.send(STATUS, timeout_s=0)
    assert publisher.send(LAST, timeout_s=0)
    assert stream.getvalue() == b""


def test_a_line_reaches_the_reader_at_once() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as lines, os.fdopen(writer, "wb") as stream:
        JsonLinesPublisher(stream).send(VERDICT, timeout_s=0)

        assert lines.readline() == b'{"v":1}\n'


def test_a_reader_that_has_gone_is_a_delivery_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "wb", buffering=0)

    with stream, pytest.raises(DeliveryError, match="reader of standard output has gone"):
        JsonLinesPublisher(stream).send(VERDICT, timeout_s=0)


def test_a_full_disk_is_a_delivery_error() -> None:
    with Path("/dev/full").open("wb", buffering=0) as stream, pytest.raises(DeliveryError, match="No space left"):
        JsonLinesPublisher(stream).send(VERDICT, timeout_s=0)


def test_closing_leaves_the_stream_to_its_owner() -> None:
    stream = io.BytesIO()
    publisher = JsonLinesPublisher(stream)

    assert publisher.flush(timeout_s=0)
    publisher.close(timeout_s=0)
    publisher.close(timeout_s=0)
    assert not stream.closed
