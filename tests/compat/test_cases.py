"""Labelled sets are read as declared, or refused with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from star_platform.compat.cases import read_cases
from star_platform.errors import CompatError

SPEC = {"path": "cases.parquet", "label": "clicked", "keys": {"member": "member_id", "job": "job_id"}}


def write(root: Path, **columns: Any) -> None:
    table = {
        "clicked": [True, False, True],
        "member_id": [7, 7, None],
        "job_id": ["a", "b", "a"],
        "age": [1.5, 2.5, None],
        "session": ["x", None, None],
    }
    pq.write_table(pa.table({**table, **columns}), root / "cases.parquet")


def test_it_is_read_as_declared(tmp_path: Path) -> None:
    write(tmp_path)
    found = read_cases({**SPEC, "columns": ["age"]}, tmp_path)
    assert found.labels.tolist() == [1, 0, 1]
    assert found.keys["member"].to_pylist() == [7, 7, None]
    assert found.keys["job"].to_pylist() == ["a", "b", "a"]
    assert found.columns["age"][:2].tolist() == [1.5, 2.5]
    assert found.clusters is not None
    assert found.clusters[0] == found.clusters[1] != found.clusters[2]


def test_clusters_are_declared_or_the_first_key_or_none(tmp_path: Path) -> None:
    write(tmp_path, session=["x", "y", "x"])
    declared = read_cases({**SPEC, "cluster": "session"}, tmp_path).clusters
    assert declared is not None
    assert declared[0] == declared[2] != declared[1]
    write(tmp_path)
    assert read_cases({**SPEC, "cluster": "session"}, tmp_path).clusters is None  # rows without one stand alone
    write(tmp_path, member_id=[1, 2, 3])
    assert read_cases(SPEC, tmp_path).clusters is None


def test_dictionaries_are_plain_keys(tmp_path: Path) -> None:
    write(tmp_path, job_id=pa.array(["a", "b", "a"]).dictionary_encode())
    found = read_cases({**SPEC, "cluster": "job_id"}, tmp_path)
    assert found.keys["job"].to_pylist() == ["a", "b", "a"]
    assert found.clusters is not None


@pytest.mark.parametrize("labels", [[0, 1, 2], [0.0, 1.0, None], ["yes", "no", "no"], [0.5, 1, 0]])
def test_labels_other_than_0_and_1_are_refused(tmp_path: Path, labels: list[Any]) -> None:
    write(tmp_path, clicked=labels)
    with pytest.raises(CompatError, match="C033"):
        read_cases(SPEC, tmp_path)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CompatError, match="C032"):
        read_cases(SPEC, tmp_path)
    (tmp_path / "cases.parquet").write_bytes(b"PAR1")
    with pytest.raises(CompatError, match="C032"):
        read_cases(SPEC, tmp_path)
    write(tmp_path)
    with pytest.raises(CompatError, match=r"C032.*salary.*it has clicked"):
        read_cases({**SPEC, "columns": ["salary"]}, tmp_path)
