"""Collects the error pages of all rooms."""

from __future__ import annotations

import importlib
import textwrap
from importlib.util import find_spec

from star_platform.cli.render import Paint
from star_platform.errors import ErrorPage

ROOMS = (
    "cli",
    "signals",
    "planning",
    "registry",
    "graph",
    "text",
    "text.nearline",
    "text.finetune",
    "gnn",
    "evaluation",
    "compat",
    "publishing",
    "lifecycle",
    "demo",
)


def all_pages() -> dict[str, ErrorPage]:
    """Every page by its code, sorted. Raises ValueError when two rooms claim one code."""
    pages: dict[str, ErrorPage] = {}
    for room in ROOMS:
        name = f"star_platform.{room}.error_pages"
        if find_spec(f"star_platform.{room}") is None or find_spec(name) is None:
            continue
        own: dict[str, ErrorPage] = importlib.import_module(name).ERROR_PAGES
        twice = pages.keys() & own.keys()
        if twice:
            raise ValueError(f"codes claimed twice, the second time by {room}: {sorted(twice)}")
        pages |= own
    return dict(sorted(pages.items()))


def page_text(code: str, page: ErrorPage, *, colour: bool = False) -> str:
    """One page as it is printed."""
    paint = Paint(colour)
    parts = [f"{paint.red(code)} {paint.bold(page.title)}", textwrap.fill(page.explanation, 96)]
    for heading, text in (("Wrong", page.example), ("Right", page.fix)):
        if text:
            parts.append(f"{paint.blue(heading)}\n{textwrap.indent(text.strip(chr(10)), '    ')}")
    return "\n\n".join(parts)
