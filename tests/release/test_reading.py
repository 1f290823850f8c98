"""What a released project answers on the command line: neighbours, and repair of a store that lost vectors."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import numpy as np
import pytest

from star_platform.cli.app import main
from star_platform.project import Project
from star_platform.project.reading import stored_vectors


def run(project: Project, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main([*arguments, "--project", str(project.root)])
    return (code, *capsys.readouterr())


@pytest.fixture
def market(market: Project) -> Project:
    """The copied project, with Feast's absolute paths leading into the copy."""
    market.publisher.reconcile(market.feast_state())
    return market


def test_neighbours_of_the_same_type_and_of_another(market: Project, capsys: pytest.CaptureFixture[str]) -> None:
    stored = {item.node: item for item in stored_vectors(market, 1)}
    jobs, members = stored["job"], stored["member"]
    member = members.ids[3].as_py()

    code, _, err = run(market, capsys, "search", "job", str(member), "--of", "member")
    assert code == 1
    assert "F065" in err
    assert run(market, capsys, "index", "r1")[0] == 0

    code, out, _ = run(market, capsys, "search", "job", str(member), "--of", "member", "-k", "5", "--json")
    assert code == 0, out
    found = [item["id"] for item in json.loads(out)["neighbours"]]
    units = jobs.vectors / np.linalg.norm(jobs.vectors, axis=1, keepdims=True)
    exact = np.argsort(-(units @ members.vectors[3]))[:5]
    assert len(set(found) & set(jobs.ids.take(exact).to_pylist())) >= 4

    code, out, _ = run(market, capsys, "search", "member", str(member), "-k", "3")
    assert code == 0
    assert str(member) not in out, "an entity is no neighbour of itself"
    code, _, err = run(market, capsys, "search", "job", "987654321", "--of", "member")
    assert code == 1
    assert "F066" in err


def test_lost_and_changed_vectors_are_found_and_written_again(
    market: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    database = market.root / ".star" / "feast_online.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        (table,) = (
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            if name.endswith("member_embedding_v1")
        )
        connection.execute(f'DELETE FROM "{table}" WHERE rowid IN (SELECT rowid FROM "{table}" LIMIT 7)')
        connection.execute(
            f'UPDATE "{table}" SET value = (SELECT value FROM "{table}" LIMIT 1)'
            f' WHERE rowid IN (SELECT rowid FROM "{table}" LIMIT 5 OFFSET 20)'
        )
    assert run(market, capsys, "doctor")[0] == 0, "nobody asked for the vectors"
    code, out, _ = run(market, capsys, "doctor", "--vectors")
    assert code == 1
    assert "F021" in out
    code, out, err = run(market, capsys, "doctor", "--vectors", "--repair")
    assert code == 0, out
    assert "r1: 12 vectors written again, 0 removed" in err
    members = next(item for item in stored_vectors(market, 1) if item.node == "member")
    fetched = market.fetch("member", members.ids.to_pylist())
    np.testing.assert_array_equal(fetched.vectors, members.vectors)


def test_a_new_consumer_file_takes_effect_without_a_release(market: Project) -> None:
    folder = market.root / "consumers"
    folder.mkdir(exist_ok=True)
    (folder / "late.yaml").write_text("consumer: late\nowner: late@example.com\nnodes: [job]\nrelease: r1\n")
    pinned = Project.open(market.root)
    assert pinned.release(only=["companies", "marketplace-core", "skills"]) is None
    assert pinned.reader.pins("late") == {"job": 1}


def test_fetch_says_that_a_release_will_end(market: Project, capsys: pytest.CaptureFixture[str]) -> None:
    members = next(item for item in stored_vectors(market, 1) if item.node == "member")
    assert market.release() is not None
    code, out, err = run(market, capsys, "fetch", "member", str(members.ids[0].as_py()), "--release", "r1")
    assert code == 0
    assert "member vectors of r1" in out
    assert "warning: r1 is deprecated and will be served until" in err
