"""Every code of planning has a page, and every page a code."""

from __future__ import annotations

import re
from pathlib import Path

import star_platform.errors
import star_platform.planning.plan
from star_platform.planning.error_pages import ERROR_PAGES

ROOM = Path(star_platform.planning.plan.__file__).parent


def test_codes_and_pages() -> None:
    files = [path for path in ROOM.glob("*.py") if path.name != "error_pages.py"]
    text = "".join(path.read_text(encoding="utf-8") for path in [*files, Path(star_platform.errors.__file__)])
    assert set(re.findall(r'"(P\d{3})"', text)) == set(ERROR_PAGES)


def test_pages_say_something() -> None:
    for code, page in ERROR_PAGES.items():
        assert not page.title.endswith("."), code
        assert len(page.explanation) > 80, code
        assert page.fix, code


def test_every_type_of_conflict_is_explained() -> None:
    text = (ROOM / "merge.py").read_text(encoding="utf-8")
    types = set(re.findall(r"^    ([a-z_]+)  +\w", text[: text.index("from __future__")], re.MULTILINE))
    assert len(types) == 6
    assert all(name in ERROR_PAGES["P001"].explanation for name in types)
