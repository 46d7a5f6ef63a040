from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.health.logs import LogfmtFormatter, set_up_logging


@pytest.fixture
def restored_logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("patchline")
    before = (list(logger.handlers), logger.level, logger.propagate)
    yield logger
    logger.handlers[:], logger.level, logger.propagate = before


def record(message: str, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("patchline.x", logging.WARNING, "x.py", 1, message, (), None)
    made.fields = fields
    return made


def test_a_line_has_time_level_logger_message_and_fields() -> None:
    line = LogfmtFormatter().format(record("camera is away", attempt=3, url="rtsp://cam/1"))
    parts = dict(part.split("=", 1) for part in shlex.split(line))
    assert parts["time"].endswith("+00:00")
    assert list(parts)[1:] == ["level", "logger", "msg", "attempt", "url"]
    assert parts["level"] == "warning"
    assert parts["logger"] == "patchline.x"
    assert parts["msg"] == "camera is away"
    assert (parts["attempt"], parts["url"]) == ("3", "rtsp://cam/1")


def test_a_field_never_takes_the_place_of_the_lines_own() -> None:
    line = LogfmtFormatter().format(record("statistics", time=1795876759.381, fps=5))
    parts = dict(part.split("=", 1) for part in shlex.split(line))
    assert parts["time"].endswith("+00:00")
    assert parts["fps"] == "5"


@given(st.text(), st.text())
def test_whatever_is_logged_is_one_printable_line(message: str, value: str) -> None:
    line = LogfmtFormatter().format(record(message.replace("%", "%%"), value=value))
    assert line.isprintable()
    assert len(line.splitlines()) == 1
    line.encode()


@pytest.mark.parametrize("value", ["", "two words", 'a "quote"', "a\\b", "a\nb", "x=1"])
def test_a_value_that_is_not_plain_is_quoted(value: str) -> None:
    line = LogfmtFormatter().format(record("m", value=value))
    quoted = line.partition(" value=")[2]
    assert quoted.startswith('"')
    assert quoted.endswith('"')
    assert quoted[1:-1].replace('\\"', '"').replace("\\n", "\n").replace("\\\\", "\\") == value


def test_an_exception_stays_on_the_line() -> None:
    problem = RuntimeError("lens\ncap")
    exception = (RuntimeError, problem, problem.__traceback__)
    made = logging.LogRecord("patchline", logging.ERROR, "x.py", 1, "stopped", (), exception)
    line = LogfmtFormatter().format(made)
    assert "RuntimeError: lens" in line
    assert len(line.splitlines()) == 1


def test_logs_go_to_standard_error_once_however_often_they_are_set_up(
    restored_logger: logging.Logger, capfd: pytest.CaptureFixture[str]
) -> None:
    set_up_logging()
    set_up_logging()
    restored_logger.getChild("service").info("ready")
    restored_logger.debug("not shown")
    captured = capfd.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert "msg=ready" in captured.err
