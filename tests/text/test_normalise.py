from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_platform.text.normalise import normalise


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  a\t b\r\n\nc ", "a b c"),
        ("e\u0301", "\u00e9"),
        ("a\u200bb\ufeff", "ab"),
        ("a\u00a0b", "a b"),
        ("\x00\x07", ""),
        ("   ", ""),
        ("Ünïcode stays", "Ünïcode stays"),
        ("नमस्\u200dते", "नमस्\u200dते"),  # the joiner changes how this is written, so it stays
    ],
)
def test_examples(text: str, expected: str) -> None:
    assert normalise(text) == expected


@given(st.text())
def test_idempotent_and_clean(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert once == " ".join(once.split())


@given(st.lists(st.text(st.characters(categories=["L", "N", "P"]), min_size=1), min_size=1))
def test_layout_does_not_matter(words: list[str]) -> None:
    assert normalise(" ".join(words)) == normalise("\n\t ".join(words) + "  ")
