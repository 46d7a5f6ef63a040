"""File names as text for people: every terminal, log, drawing and UTF-8 encoder takes what comes out of here."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def shown(name: str | Path) -> str:
    r"""`name` as printable text: a byte that is not UTF-8 becomes `\xff`, a control character `\n`.

    A Linux file name is bytes. Python keeps those that are not UTF-8 as lone surrogates, on which encoders raise and
    OpenCV's text drawing crashes the process.
    """
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(character if character.isprintable() else _escaped(character) for character in text)


def bounded(name: str, longest: int = 200) -> str:
    """`name`, or one as unique of at most `longest` bytes: file systems allow 255, and we add prefixes and suffixes."""
    encoded = os.fsencode(name)
    if len(encoded) <= longest:
        return name
    return f"{os.fsdecode(encoded[: longest - 17])}-{hashlib.sha256(encoded).hexdigest()[:16]}"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
