"""One versioned way to clean a text before it is hashed and encoded."""

from __future__ import annotations

import unicodedata

NORMALISER_VERSION = 1
"""Raised with every change of what `normalise` returns; it enters every cache key and fingerprint."""

_INVISIBLE = dict.fromkeys(
    [code for code in (*range(0x20), *range(0x7F, 0xA0)) if not chr(code).isspace()] + [0x00AD, 0x200B, 0xFEFF]
)


def normalise(text: str) -> str:
    """`text` without control and invisible characters, in NFC, every run of white space as one space, stripped.

    An edit that only changes the layout of a text therefore costs nothing. Idempotent. The result may be empty: then
    the text is missing.
    """
    if text.isascii() and text.isprintable():
        return " ".join(text.split())
    return " ".join(unicodedata.normalize("NFC", text.translate(_INVISIBLE)).split())
