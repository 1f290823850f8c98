"""Pseudonyms."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_platform.errors import GraphError
from star_platform.graph.privacy import Pseudonymiser, pseudonymiser

ids = st.integers() | st.text() | st.uuids() | st.dates()


@given(ids, ids)
def test_equal_ids_have_equal_pseudonyms_and_others_do_not(one: object, two: object) -> None:
    names = Pseudonymiser(b"0" * 32)
    same = type(one) is type(two) and one == two
    assert (names.pseudonym(one) == names.pseudonym(two)) == same


def test_the_key_matters_and_is_not_shown() -> None:
    one, two = Pseudonymiser(b"1" * 32), Pseudonymiser(b"2" * 32)
    assert one.pseudonym("ann") != two.pseudonym("ann")
    assert "1111" not in repr(one)


def test_the_key_file_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "pseudonym.key"
    first = pseudonymiser(path)
    assert pseudonymiser(path) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["pseudonym.key"]


@pytest.mark.parametrize("text", ["not hex", "abcd"])
def test_a_damaged_key_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "key").write_text(text)
    with pytest.raises(GraphError) as error:
        pseudonymiser(tmp_path / "key")
    assert error.value.code == "G040"
