"""Fragments of the changelog are ones that towncrier finds."""

from __future__ import annotations

import re
import tomllib

from tests.conftest import REPOSITORY


def test_every_fragment_has_a_name_and_a_known_type() -> None:
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["towncrier"]
    types = "|".join(entry["directory"] for entry in settings["type"])
    fragments = [path for path in (REPOSITORY / settings["directory"]).iterdir() if path.name[0] != "."]
    assert [path.name for path in fragments if not re.fullmatch(rf"\+[a-z0-9-]+\.({types})\.md", path.name)] == []
    assert [path.name for path in fragments if len(path.read_text(encoding="utf-8").strip().splitlines()) != 1] == []
