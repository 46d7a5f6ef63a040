"""Service logs: one structured line (logfmt) on standard error for each change of state."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:/+%,@[]()…×")


class LogfmtFormatter(logging.Formatter):
    """`time=… level=… logger=… msg="…" key=value …`; keys come from `extra={"fields": {…}}`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; an exception's text is folded into `error`."""
        fields: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": record.getMessage(),
        }
        given: dict[str, object] = getattr(record, "fields", {})
        fields |= {key: value for key, value in given.items() if key not in fields}  # health has a time of its own
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        return " ".join(f"{key}={_quote(str(value))}" for key, value in fields.items())


def set_up_logging(level: int = logging.INFO) -> None:
    """Send Patchline's logs to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LogfmtFormatter())
    logger = logging.getLogger("patchline")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False


def _quote(text: str) -> str:
    if text and set(text) <= _PLAIN:
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    # What ends a line or moves a terminal's cursor must not come from a file's name.
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in escaped)
    return f'"{shown}"'
