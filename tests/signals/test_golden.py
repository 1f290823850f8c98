"""What a reader sees, word for word. `UPDATE_GOLDEN=1 pytest tests/signals/test_golden.py` writes the files anew."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from star_platform.cli.render import Paint, render_conflicts, render_diagnostics, render_error
from star_platform.errors import Conflict, Diagnostic, Place, UsageError
from star_platform.signals.load import read_branches
from tests.signals.test_across_files import FEATURE, NODES
from tests.signals.test_malformed import FOLDER, read_alone

GOLDEN = Path(__file__).parent / "golden"
SHOWN = (
    "S001-latin1",
    "S003-merge-markers",
    "S004-tab-indent",
    "S005-unclosed-brace",
    "S007-duplicate-field",
    "S010-unknown-edge-field",
    "S011-missing-src",
    "S012-dim-in-quotes",
    "S014-unknown-dst-node",
    "S015-node-name-upper",
    "S016-window-months",
    "S020-source-two-kinds",
    "S026-unknown-variable",
    "S045-denied-in-sql",
)


def compare(name: str, text: str) -> None:
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text + "\n", encoding="utf-8")
    assert text + "\n" == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SHOWN)
def test_one_file(name: str, tmp_path: Path) -> None:
    compare(name, render_diagnostics(read_alone(FOLDER / f"{name}.yaml", tmp_path)))


def test_several_files(tmp_path: Path) -> None:
    folder = tmp_path / "signal_branches"
    folder.mkdir()
    nodes = NODES.format(name="nodes", status="draft").replace("dst: {node: job,", "dst: {node: jop, wrong: 1,")
    (folder / "nodes.yaml").write_text(nodes + "privacy: {deny_columns: [title]}\n")
    (folder / "features.yaml").write_text(FEATURE)
    compare("several-files", render_diagnostics(read_branches(folder)[1]))


def test_wide_characters_and_tabs_keep_the_carets_in_place() -> None:
    line = "説明: \tタグ x"
    found = Diagnostic("S010", "wide", Place("a.yaml", 7, line.index("x") + 1), line, "here")
    compare("wide", render_diagnostics([found]))


def test_colour() -> None:
    found = Diagnostic("S010", "coloured", Place("a.yaml", 7, 1, 3), "abc", "here", ("a note",))
    compare("colour", render_diagnostics([found], Paint(on=True)).replace("\x1b", "ESC"))


def test_a_conflict(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("nodes:\n  job: {kind: entity}\n")
    (tmp_path / "b.yaml").write_text("x: 1\ny: 2\nnodes:\n  job: {kind: attribute}\n")
    conflict = Conflict(
        "value_differs",
        "/nodes/job/kind",
        Place("a.yaml", 2, 15, 6),
        Place("b.yaml", 4, 15, 9),
        "node 'job' has two kinds",
        "agree on one, or declare a second node under another name",
    )
    compare("conflict", render_conflicts([conflict], root=tmp_path))


def test_an_error_without_a_file() -> None:
    compare("usage", render_error(UsageError("U001", "no star.yaml here", hint="run `star-platform init`")))


def test_text_from_a_file_cannot_move_the_cursor() -> None:
    found = Diagnostic("S010", "bad \x1b[2J name\nsecond", Place("a.yaml", 1, 1), "\x1b[31mred\u202e", "x\x07")
    text = render_diagnostics([found])
    assert not set(text) & {"\x1b", "\x07", "\u202e"}
    assert "bad \ufffd[2J name second" in text
