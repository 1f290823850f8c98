"""Every code that the room raises has a page, and every page a code that is raised."""

from __future__ import annotations

import re
from pathlib import Path

import star_platform.graph
from star_platform.graph.error_pages import ERROR_PAGES


def test_pages_and_codes_match() -> None:
    folder = Path(star_platform.graph.__file__).parent
    raised = set()
    for path in folder.glob("*.py"):
        if path.name != "error_pages.py":
            text = path.read_text()
            raised |= set(re.findall(r'(?:GraphError|DependencyMissing)\(\s*"([GD]\d{3})"', text))
    assert raised - {"D030"} == set(ERROR_PAGES), "D030 has its page in the room that raises it first"
    assert all(page.title and page.explanation and page.fix for page in ERROR_PAGES.values())
