"""Where output goes: data to stdout, everything else to stderr; JSON with a schema version."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

SCHEMA_VERSION = 1


def say(text: str = "") -> None:
    """Data, and what a verb found out: stdout."""
    sys.stdout.write(text + "\n")


def note(text: str = "") -> None:
    """Everything else: stderr."""
    sys.stderr.write(text + "\n")


def say_json(data: Mapping[str, Any]) -> None:
    """`data` as JSON on stdout, led by `schema_version`."""
    say(json.dumps({"schema_version": SCHEMA_VERSION, **data}, indent=2, ensure_ascii=False, default=str))


def wants_colour(stream: TextIO) -> bool:
    """Colour on terminals only, and never with NO_COLOR (https://no-color.org) or TERM=dumb."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def plural(count: int, noun: str) -> str:
    """``1 branch``, ``2 branches``, ``1,234 files``."""
    ending = "" if count == 1 else ("es" if noun.endswith(("ch", "s", "x")) else "s")
    return f"{count:,} {noun}{ending}"


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text under each other, two spaces between columns."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
