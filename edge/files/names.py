"""File names as text for people: every terminal, log, drawing and UTF-8 encoder takes what comes out of here."""

from __future__ import annotations

import os
from pathlib import Path


def shown(name: str | Path) -> str:
    r"""`name` as printable text: a byte that is not UTF-8 becomes `\xff`, a control character `\n`.

    A Linux file name is bytes. Python keeps those that are not UTF-8 as lone surrogates, on which encoders raise and
    OpenCV's text drawing crashes the process.
    """
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(character if character.isprintable() else _escaped(character) for character in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
