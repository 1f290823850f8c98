"""Whatever a file holds, loading it ends in a branch or in diagnostics whose places lie inside the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from star_platform.cli.render import diagnostic_json, render_diagnostics
from star_platform.errors import Diagnostic, SignalErrors
from star_platform.signals.check import Context, check
from star_platform.signals.load import load_branches, read_branches
from star_platform.signals.model import Branch
from star_platform.signals.tree import Lines, parse, plain, split_lines
from tests.signals.strategies import VALID, damaged

SETTINGS: dict[str, Any] = {"variables": {"data": "data"}, "connections": ["warehouse"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("signal_branches")


def look(folder: Path, raw: bytes) -> tuple[Diagnostic, ...]:
    (folder / "sample.yaml").write_bytes(raw)
    loaded, found = read_branches(folder, **SETTINGS)
    lines = split_lines(raw.decode("utf-8-sig", "replace"))
    for item in found:
        assert item.place is not None
        assert 1 <= item.place.line <= len(lines)
        length = len(lines[item.place.line - 1])
        assert 1 <= item.place.column <= max(1, length)
        assert item.place.length >= 1
        assert item.place.column - 1 + item.place.length <= max(1, length)
        assert diagnostic_json(item)["line"] == item.place.line
    if found:
        assert "\x1b" not in render_diagnostics(found)
    else:
        assert len(loaded) == 1
    return found


def test_the_valid_branch_is_valid(folder: Path) -> None:
    assert look(folder, VALID.encode()) == ()


@settings(deadline=None)
@given(text=damaged())
def test_damage_gives_diagnostics_inside_the_file(folder: Path, text: str) -> None:
    look(folder, text.encode("utf-8", "surrogatepass"))


@settings(deadline=None)
@given(text=st.text(max_size=200))
@example(text="&\na: 1\n")
def test_random_text(folder: Path, text: str) -> None:
    assert look(folder, text.encode("utf-8", "surrogatepass"))


@settings(deadline=None)
@given(raw=st.binary(max_size=200))
def test_random_bytes(folder: Path, raw: bytes) -> None:
    assert look(folder, raw)


@settings(deadline=None)
@given(before=st.integers(0, len(VALID)), raw=st.binary(min_size=1, max_size=4))
def test_bytes_in_the_middle(folder: Path, before: int, raw: bytes) -> None:
    text = VALID.encode()
    look(folder, text[:before] + raw + text[before:])


YAML_PARTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None)
@given(section=st.sampled_from(sorted(Branch.model_fields)), value=YAML_PARTS, name=st.sampled_from(["", "a", "m.x"]))
def test_any_value_in_any_section(folder: Path, section: str, value: Any, name: str) -> None:
    text = json.dumps({"branch": "a", "owner": "b", section: {name: value} if name else value})
    look(folder, text.encode())


@settings(deadline=None)
@given(text=st.text(alphabet=st.sampled_from("ab\r\n\u0085\u2028\x0b:"), max_size=40), at=st.integers(0, 40))
def test_lines_are_those_of_an_editor(text: str, at: int) -> None:
    before = text[:at]
    assume(not (before.endswith("\r") and text[at : at + 1] == "\n"))
    mark = Lines(text).mark(at)
    assert mark.line == len(split_lines(before)) - 1
    assert mark.column == len(split_lines(before)[-1])


def test_a_branch_survives_the_way_to_text_and_back(folder: Path) -> None:
    """What is loaded, written as JSON (which is YAML) and loaded again is the same branch."""
    (folder / "sample.yaml").write_text(VALID)
    (first,) = load_branches(folder, **SETTINGS)
    (folder / "sample.yaml").write_text(first.branch.model_dump_json(exclude_defaults=True))
    (second,) = load_branches(folder, **SETTINGS)
    assert second.branch == first.branch


@settings(deadline=None)
@given(
    value=st.recursive(
        st.booleans() | st.integers(-(10**9), 10**9) | st.text(st.characters(min_codepoint=32, max_codepoint=126)),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=4),
        max_leaves=12,
    )
)
def test_json_means_the_same_as_yaml(value: Any) -> None:
    tree = parse(json.dumps(value))
    assert tree.problems == ()
    assert tree.root is not None
    assert plain(tree.root, list) == value


def test_check_of_nothing_finds_nothing() -> None:
    assert check([], Context()) == []


def test_signal_errors_count_themselves(folder: Path) -> None:
    (folder / "sample.yaml").write_text("branch: A\nowner: 1\n")
    with pytest.raises(SignalErrors, match="and 1 more"):
        load_branches(folder)
