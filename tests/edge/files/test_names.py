from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.files.names import shown


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Prüfteil 1 – ø 8.png", "Prüfteil 1 – ø 8.png"),
        (os.fsdecode(b"part\xff\xfe.png"), r"part\xff\xfe.png"),
        ("two\nlines\x1b[31m.png", r"two\nlines\x1b[31m.png"),
        (Path("good") / "1.png", "good/1.png"),
    ],
)
def test_a_name_is_shown_as_it_is_unless_it_cannot_be(name: str | Path, text: str) -> None:
    assert shown(name) == text


@given(st.binary(max_size=255))
def test_whatever_a_name_holds_the_text_is_printable_and_utf_8(name: bytes) -> None:
    text = shown(os.fsdecode(name))
    assert text.isprintable()
    assert text.encode("utf-8").decode("utf-8") == text
