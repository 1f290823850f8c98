"""One small file per way to be wrong: the code and the exact span, and nothing else.

Beside each `CODE-what.yaml` stands `CODE-what.expect`, with lines `CODE line:column+length`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from star_platform.errors import Diagnostic
from star_platform.signals.error_pages import ERROR_PAGES
from star_platform.signals.load import read_branches

FOLDER = Path(__file__).parent / "malformed"
CASES = sorted(FOLDER.glob("*.yaml"))
VARIABLES = {"data": "data"}
CONNECTIONS = ("warehouse",)
ELSEWHERE = {"S023", "S043", "S054", "S055", "S056", "S057", "S058", "S059", "S060"}
"""Codes that need several files, a consumer file or a broken link: tested in test_across_files and test_consumers."""


def read_alone(path: Path, folder: Path) -> tuple[Diagnostic, ...]:
    branches = folder / "signal_branches"
    branches.mkdir(exist_ok=True)
    (branches / path.name).write_bytes(path.read_bytes())
    return read_branches(branches, root=folder, variables=VARIABLES, connections=CONNECTIONS)[1]


def shown(item: Diagnostic) -> str:
    assert item.place is not None
    return f"{item.code} {item.place.line}:{item.place.column}+{item.place.length}"


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_the_error_and_its_place(path: Path, tmp_path: Path) -> None:
    found = read_alone(path, tmp_path)
    assert [shown(item) for item in found] == path.with_suffix(".expect").read_text().splitlines()
    assert all(item.place and item.place.file == f"signal_branches/{path.name}" for item in found)


def test_there_are_many_ways_to_be_wrong() -> None:
    assert len(CASES) >= 120


def test_every_code_has_a_case() -> None:
    assert {path.name[:4] for path in CASES} | ELSEWHERE == set(ERROR_PAGES)


def test_every_case_says_what_to_do(tmp_path: Path) -> None:
    """A diagnostic has a label or a note beside its message."""
    silent = []
    for number, path in enumerate(CASES):
        folder = tmp_path / str(number)
        folder.mkdir()
        silent += [
            f"{path.name}: {item.message}" for item in read_alone(path, folder) if not item.label and not item.notes
        ]
    assert silent == []
