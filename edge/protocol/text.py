"""Text that fits a payload: bounded, printable, UTF-8."""

from __future__ import annotations

import json

ELLIPSIS = "…"


def bounded(text: str, limit: int) -> str:
    """`text` in at most `limit` bytes of JSON, printable; what is too long loses its middle.

    The two ends are kept because that is where long part ids and file names differ.
    """
    clean = printable(text)
    if _json_bytes(clean) <= limit:
        return clean
    room = limit - _json_bytes(ELLIPSIS)
    head = _prefix(clean, room // 2)
    tail = _prefix(clean[::-1], room - _json_bytes(head))[::-1]
    return f"{head}{ELLIPSIS}{tail}"


def printable(text: str) -> str:
    """`text` with the replacement character for what no UTF-8 reader or log should meet.

    Those are the lone surrogates that Python makes of undecodable file names, and control characters.
    """
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def _prefix(text: str, limit: int) -> str:
    """The longest beginning of `text` that takes at most `limit` bytes of JSON."""
    used = 0
    for position, character in enumerate(text):
        used += _json_bytes(character)
        if used > limit:
            return text[:position]
    return text


def _json_bytes(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False).encode("utf-8")) - len('""')
