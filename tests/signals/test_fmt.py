"""Canonical form: the same meaning, every comment, and nothing left to change the second time."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings

from star_platform.cli.init import BRANCH_YAML
from star_platform.errors import SignalErrors
from star_platform.signals.comments import find_comments
from star_platform.signals.document import parse_document
from star_platform.signals.fmt import format_file, format_text
from star_platform.signals.tree import parse, plain
from tests.conftest import REPOSITORY
from tests.signals.strategies import VALID, commented, damaged


def meaning(text: str) -> object:
    """The data of `text`, in which .nan is .nan."""
    tree = parse(text)
    assert tree.root is not None
    assert tree.problems == ()
    return _comparable(plain(tree.root))


def _comparable(value: object) -> object:
    if isinstance(value, dict):
        return {key: _comparable(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_comparable(item) for item in value)
    return repr(value) if isinstance(value, float) else value


def comments(text: str) -> list[str]:
    document, _ = parse_document("text", text)
    assert document is not None
    return sorted(comment.text for comment in find_comments(document))


@settings(max_examples=60, deadline=None)
@given(text=commented())
@example(text=VALID)
def test_comments_stay_and_nothing_else_changes(text: str) -> None:
    formatted = format_text(text)
    assert meaning(formatted) == meaning(text)
    assert comments(formatted) == comments(text)
    assert format_text(formatted) == formatted


@settings(max_examples=150, deadline=None)
@given(text=damaged())
@example(text="a: {p:, q: 1}\n")
def test_whatever_is_yaml_keeps_its_meaning(text: str) -> None:
    try:
        formatted = format_text(text)
    except SignalErrors:
        return
    assert meaning(formatted) == meaning(text)
    assert comments(formatted) == comments(text)
    assert format_text(formatted) == formatted


def test_canonical_order_and_spacing() -> None:
    messy = """\
# a branch

owner:   "x@example.com"     # who
branch: a


status: draft
edges:    # the edges
  # lead z
  z: {window: 3d, kind: interaction, source: v,
      src: {key: "a # b", node: m},   # src
      dst: {node: j, key: b}}
  b:
    source: v
    kind: attribute
    where: >-
         a > 3
           and c
    # end of b
  # end of edges
sources: {v: {path: x.csv}}
privacy:
  deny_columns:
  - b  # bee
  - a
"""
    assert (
        format_text(messy)
        == """\
# a branch

branch: a
owner: "x@example.com"  # who

status: draft
sources: {v: {path: x.csv}}
edges:  # the edges
  b:
    kind: attribute
    source: v
    where: >-
      a > 3
        and c
    # end of b
  # lead z
  z:
    kind: interaction
    source: v
    src: {node: m, key: "a # b"}  # src
    dst: {node: j, key: b}
    window: 3d
  # end of edges
privacy:
  deny_columns:
    - b  # bee
    - a
"""
    )


def test_a_mapping_too_long_for_a_line_becomes_a_block() -> None:
    columns = ", ".join(f"a_long_name_of_a_column_{number}" for number in range(5))
    text = f"branch: a\nfeatures:\n  m.x: {{kind: text, columns: [{columns}]}}\n"
    assert "\n  m.x:\n    kind: text\n    columns:\n      - a_long" in format_text(text)


@pytest.mark.parametrize(
    "value",
    [
        '"a\\nb"',
        "'it''s'",
        "|\n      a\n        b\n\n      c",
        ">\n      a\n      b",
        "|-\n      a",
        "|  # note 1\n      a",
        "|+\n      a\n\n",
        "|2\n         a\n      b",
    ],
)
def test_text_of_several_lines_keeps_its_meaning(value: str) -> None:
    text = f"branch: a\nsources:\n  s:\n    sql: {value}\nowner: b\n"
    formatted = format_text(text)
    assert meaning(formatted) == meaning(text)
    assert format_text(formatted) == formatted


def test_windows_line_ends_and_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfowner: x\r\nbranch: a  # note 1\r\n")
    assert format_file(path)
    assert path.read_bytes() == b"branch: a  # note 1\nowner: x\n"
    assert not format_file(path)


def test_check_does_not_write(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("owner: x\nbranch: a\n")
    assert format_file(path, write=False)
    assert path.read_text() == "owner: x\nbranch: a\n"


def test_what_init_writes_and_the_examples_are_canonical() -> None:
    folders = [REPOSITORY / "signal_branches", *REPOSITORY.glob("examples/*/signal_branches")]
    texts = {str(path): path.read_text() for folder in folders for path in folder.glob("*.yaml")} | {
        "init": BRANCH_YAML
    }
    assert [name for name, text in texts.items() if format_text(text) != text] == []


def test_the_valid_branch_of_the_tests_is_sorted() -> None:
    assert list(meaning(format_text(VALID))["edges"]) == ["member-has-skill", "recruiter-messages-member"]  # type: ignore[index]
