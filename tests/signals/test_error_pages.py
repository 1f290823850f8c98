"""Pages and codes match, and the examples of the pages are what they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import star_platform.signals
from star_platform.cli.explain import all_pages
from star_platform.signals.consumers import read_consumers
from star_platform.signals.error_pages import ERROR_PAGES
from star_platform.signals.load import read_branches

ROOM = Path(star_platform.signals.__file__).parent
HEADER = "branch: sample\nowner: team@example.com\n"
LEFT_OUT = {"S014", "S024", "S042", "S049", "S065"}
"""Snippets leave out what other signals declare."""
NOT_ONE_FILE = {"S023", "S043", "S054"}
"""Their examples are two files."""


def found_in(text: str, folder: Path) -> set[str]:
    """The codes of a snippet; what it leaves out (names it does not declare) is not looked at."""
    if text.startswith("consumer:"):
        (folder / "consumer.yaml").write_text(text)
        return {item.code for item in read_consumers(folder)[1]}
    whole = text if re.search(r"^(- )?branch:", text, re.MULTILINE) or text == "# only a comment" else HEADER + text
    (folder / "sample.yaml").write_text(whole)
    variables, connections = {"data": "data"}, ["warehouse"]
    return {item.code for item in read_branches(folder, variables=variables, connections=connections)[1]}


def test_every_code_in_the_source_has_a_page_and_every_page_a_code() -> None:
    used = {
        code
        for path in ROOM.glob("*.py")
        if not path.name.endswith("_pages.py")
        for code in re.findall(r'"(S\d{3})"', path.read_text())
    }
    assert used == set(ERROR_PAGES)


@pytest.mark.parametrize("code", sorted(set(ERROR_PAGES) - NOT_ONE_FILE))
def test_the_wrong_example_is_wrong_and_the_right_one_is_not(code: str, tmp_path: Path) -> None:
    page = ERROR_PAGES[code]
    assert page.fix
    if page.example:
        wrong, right = tmp_path / "wrong", tmp_path / "right"
        wrong.mkdir()
        right.mkdir()
        assert code in found_in(page.example, wrong)
        assert found_in(page.fix, right) <= LEFT_OUT


def test_pages_of_all_rooms_come_together() -> None:
    pages = all_pages()
    assert {"S001", "U001"} <= set(pages)
    assert all(re.fullmatch(r"[A-Z]\d{3}", code) for code in pages)
    assert all(page.title and page.explanation for page in pages.values())


def test_every_code_that_any_room_raises_has_a_page() -> None:
    """A code is a quoted letter and three digits, first in the call that raises."""
    raised = {
        code
        for path in ROOM.parent.rglob("*.py")
        for code in re.findall(
            r'(?:Error|Errors|Missing|Held|Moved|Failed|Conflict)\(\s*"([A-Z]\d{3})"', path.read_text()
        )
    }
    assert raised - set(all_pages()) == set()
