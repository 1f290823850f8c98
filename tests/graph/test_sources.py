"""Sources of every kind: real files, a real SQLite file, a real Postgres server, a real Feast repository."""

from __future__ import annotations

import datetime as dt
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from star_platform.errors import GraphError
from star_platform.signals.model import FeastSource, FileSource, SqlSource, TableSource

from .world import World


def rows(world: World, name: str) -> list[dict[str, Any]]:
    table = world.engine.fetch(world.engine.table(name, world.sources), name)
    found: list[dict[str, Any]] = sorted(table.to_pylist(), key=str)
    return found


def code_of(action: Callable[[], object]) -> str:
    with pytest.raises(GraphError) as error:
        action()
    return error.value.code


# --- files ------------------------------------------------------------------------------------------------------------


def test_csv_with_null_values_and_delimiter(world: World) -> None:
    (world.root / "a.csv").write_text('id;name;age\n1;"x;y";NA\n2;NA;7\n3;;-\n')
    world.sources["a"] = FileSource(path="a.csv", delimiter=";", null_values=("NA", "-", ""))
    assert rows(world, "a") == [
        {"id": 1, "name": "x;y", "age": None},
        {"id": 2, "name": None, "age": 7},
        {"id": 3, "name": None, "age": None},
    ]


def test_csv_types_come_from_every_row(world: World) -> None:
    lines = "".join(f"{i}\n" for i in range(50_000))
    (world.root / "a.csv").write_text(f"id\n{lines}late\n")
    world.sources["a"] = FileSource(path="a.csv")
    assert world.engine.snapshot("a", world.sources).columns == {"id": "VARCHAR"}


def test_globs_folders_and_other_extensions(world: World) -> None:
    (world.root / "parts" / "deep").mkdir(parents=True)
    pq.write_table(pa.table({"id": [1]}), world.root / "parts" / "one.parquet")
    pq.write_table(pa.table({"id": [2], "more": ["x"]}), world.root / "parts" / "deep" / "two.parquet")
    pq.write_table(pa.table({"id": [3]}), world.root / "odd.data")
    world.sources |= {
        "glob": FileSource(path="${data}/parts/*.parquet"),
        "folder": FileSource(path="parts"),
        "odd": FileSource(path="odd.data", format="parquet"),
        "untold": FileSource(path="odd.data"),
    }
    assert rows(world, "glob") == [{"id": 1}]
    assert rows(world, "folder") == [{"id": 1, "more": None}, {"id": 2, "more": "x"}]
    assert rows(world, "odd") == [{"id": 3}]
    assert code_of(lambda: rows(world, "untold")) == "G002"


def test_files_that_are_missing_or_broken(world: World) -> None:
    pq.write_table(pa.table({"id": list(range(1000))}), world.root / "views.parquet")
    data = (world.root / "views.parquet").read_bytes()
    (world.root / "cut.parquet").write_bytes(data[: len(data) // 2])
    (world.root / "wide.csv").write_text("a,b\n1,2\n1,2,3,4\n")
    world.sources |= {
        "near": FileSource(path="view.parquet"),
        "far": FileSource(path="no/such/folder/x.parquet"),
        "url": FileSource(path="https://example.com/x.parquet"),
        "unknown": FileSource(path="${dat}/x.parquet"),
        "cut": FileSource(path="cut.parquet"),
        "wide": FileSource(path="wide.csv"),
    }
    with pytest.raises(GraphError) as error:
        rows(world, "near")
    assert error.value.code == "G001"
    assert "'views.parquet'" in str(error.value.hint)
    assert code_of(lambda: rows(world, "far")) == "G001"
    assert code_of(lambda: rows(world, "url")) == "G001"
    with pytest.raises(GraphError, match="did you mean 'data'"):
        rows(world, "unknown")
    assert code_of(lambda: rows(world, "cut")) == "G002"
    assert code_of(lambda: rows(world, "wide")) == "G002"


def test_denied_columns_are_never_there(make_world: Callable[..., World]) -> None:
    world = make_world(deny_columns=frozenset({"EMAIL"}))
    world.write("people", {"id": [1], "email": ["x@example.com"], "age": [3]})
    world.sources["query"] = SqlSource(sql="SELECT * FROM people")
    world.sources["made"] = SqlSource(sql="SELECT id, age AS Email2 FROM people")
    for name in ("people", "query"):
        assert rows(world, name) == [{"id": 1, "age": 3}]
        assert "email" not in world.engine.snapshot(name, world.sources).columns
    world.write("secret", {"email": ["x@example.com"]})
    assert code_of(lambda: rows(world, "secret")) == "G011"


# --- queries ----------------------------------------------------------------------------------------------------------


def test_queries_over_sibling_sources(world: World) -> None:
    world.write("views", {"m": ["a", "b", "a"], "n": [1, 2, 3]})
    world.sources |= {
        "sums": SqlSource(sql="SELECT m, sum(n)::BIGINT AS n FROM Views GROUP BY m"),
        "big": SqlSource(sql="SELECT * FROM sums WHERE n > 2"),
        "bad": SqlSource(sql="SELECT nothing FROM views"),
        "self": SqlSource(sql="SELECT * FROM self"),
    }
    assert rows(world, "big") == [{"m": "a", "n": 4}]
    assert code_of(lambda: rows(world, "bad")) == "G012"
    assert code_of(lambda: rows(world, "self")) == "G012"


def test_two_branches_may_use_one_name_for_two_sources(world: World) -> None:
    first = {"rows": world.write("one", {"x": [1]}), "q": SqlSource(sql="SELECT * FROM rows")}
    second = {"rows": world.write("two", {"x": [2]}), "q": SqlSource(sql="SELECT * FROM rows")}
    tables = [world.engine.fetch(world.engine.table("q", sources), "q") for sources in (first, second)]
    assert [table.column("x").to_pylist() for table in tables] == [[1], [2]]


def test_bad_casts_are_told_without_the_value(world: World) -> None:
    world.write("people", {"id": ["jane@example.com"]})
    world.sources["cast"] = SqlSource(sql="SELECT CAST(id AS BIGINT) AS id FROM people")
    with pytest.raises(GraphError) as error:
        rows(world, "cast")
    assert error.value.code == "G013"
    assert "jane" not in str(error.value)


# --- snapshots --------------------------------------------------------------------------------------------------------


def test_a_snapshot_follows_the_content_not_the_name(world: World) -> None:
    world.write("views", {"id": [1, 2]})
    first = world.engine.snapshot("views", world.sources)
    assert (first.rows, first.columns) == (2, {"id": "BIGINT"})
    assert first.bytes == (world.root / "views.parquet").stat().st_size
    (world.root / "views.parquet").rename(world.root / "moved.parquet")
    moved = world.engine.snapshot("v", {"v": FileSource(path="moved.parquet")})
    assert moved.hash == first.hash
    world.write("views", {"id": [1, 3]})
    assert world.engine.snapshot("views", world.sources).hash != first.hash


def test_the_cache_skips_files_it_knows(make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world()
    world.write("views", {"id": [1, 2]})
    path = world.root / "views.parquet"
    os.utime(path, (time.time() - 60, time.time() - 60))
    world.sources["q"] = SqlSource(sql="SELECT * FROM views")
    first = [world.engine.snapshot(name, world.sources) for name in ("views", "q")]

    def no_hashing(path: Path) -> str:
        raise AssertionError(path)

    monkeypatch.setattr("star_platform.graph.snapshots.sha256", no_hashing)
    again = make_world()
    again.sources = world.sources
    assert [again.engine.snapshot(name, again.sources) for name in ("views", "q")] == first
    assert "backend" not in again.engine.__dict__, "nothing had to be read"
    os.utime(path, (time.time() - 50, time.time() - 50))
    with pytest.raises(AssertionError):
        again.engine.snapshot("views", again.sources)


def test_a_file_written_just_now_is_not_remembered(world: World) -> None:
    world.write("views", {"id": [1, 2]})
    path, moment = world.root / "views.parquet", time.time()
    os.utime(path, (moment, moment))
    first = world.engine.snapshot("views", world.sources).hash
    data = bytearray(path.read_bytes())
    data[10] ^= 1  # same size and, within one tick of the clock, the same time
    path.write_bytes(bytes(data))
    os.utime(path, (moment, moment))
    assert world.engine._reader._cache is not None
    assert world.engine.snapshot("views", {"views": world.sources["views"]}).hash != first


def test_a_damaged_cache_is_no_cache(world: World) -> None:
    (world.root / "tmp").mkdir(parents=True, exist_ok=True)
    (world.root / "tmp" / "snapshots.sqlite").write_bytes(
        b"no database at all, but long enough to be taken for one" * 20
    )
    world.write("views", {"id": [1]})
    assert world.engine.snapshot("views", world.sources).rows == 1


def test_a_query_has_a_new_hash_when_its_text_or_its_input_changes(make_world: Callable[..., World]) -> None:
    hashes = []
    for number, (sql, ids) in enumerate(
        [
            ("SELECT * FROM v", [1]),
            ("SELECT  *  FROM v -- same", [1]),
            ("SELECT id FROM v", [1]),
            ("SELECT * FROM v", [2]),
        ]
    ):
        world = make_world(f"w{number}")
        world.write("v", {"id": ids})
        world.sources["q"] = SqlSource(sql=sql)
        hashes.append(world.engine.snapshot("q", world.sources).hash)
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


# --- SQL tables -------------------------------------------------------------------------------------------------------

METADATA = sa.MetaData()
PEOPLE = sa.Table(
    "people",
    METADATA,
    sa.Column("id", sa.BigInteger),
    sa.Column("name", sa.String),
    sa.Column("email", sa.String),
    sa.Column("score", sa.Float),
    sa.Column("price", sa.Numeric(10, 2)),
    sa.Column("active", sa.Boolean),
    sa.Column("seen", sa.DateTime),
    sa.Column("born", sa.Date),
    sa.Column("photo", sa.LargeBinary),
)
RECORDS = [
    {
        "id": number,
        "name": None if number == 3 else f"n'\"\n{number}",
        "email": "x@example.com",
        "score": number / 8,
        "price": number,
        "active": number % 2 == 0,
        "seen": dt.datetime(2024, 1, 1, 0, 0, 0, number),
        "born": dt.date(2000, 1, 1 + number % 28),
        "photo": bytes([number % 256]),
    }
    for number in range(60)
]


def fill(url: str, records: list[dict[str, Any]]) -> None:
    engine = sa.create_engine(url)
    METADATA.drop_all(engine)
    METADATA.create_all(engine)
    with engine.begin() as connection:
        connection.execute(PEOPLE.insert(), records)
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'people.db'}"
    url: str = request.getfixturevalue("postgres_database")
    return url


def test_rows_of_a_sql_table(make_world: Callable[..., World], database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("star_platform.graph.sqltables.BATCH_ROWS", 7)
    fill(database, RECORDS)
    world = make_world(connections={"hr": database}, deny_columns=frozenset({"email"}))
    world.sources["people"] = TableSource(table="people", connection="hr")
    world.sources["q"] = SqlSource(sql="SELECT id FROM people WHERE active AND id < 4")
    expected = [{k: v for k, v in record.items() if k != "email"} for record in RECORDS]
    assert sorted(rows(world, "people"), key=lambda row: row["id"]) == expected
    assert rows(world, "q") == [{"id": 0}, {"id": 2}]
    world.node("person", "people", "id", created_at="seen")
    assert world.graph().ids("person").to_pylist() == list(range(60))


def test_the_snapshot_of_a_table_does_not_depend_on_the_order_of_rows(
    make_world: Callable[..., World], database: str
) -> None:
    hashes = []
    for number, records in enumerate([RECORDS, RECORDS[::-1], RECORDS[1:], [*RECORDS[1:], RECORDS[1]]]):
        fill(database, records)
        world = make_world(f"w{number}", connections={"hr": database})
        world.sources["people"] = TableSource(table="people", connection="hr")
        snapshot = world.engine.snapshot("people", world.sources)
        assert snapshot.rows == len(records)
        assert snapshot.bytes > 0
        hashes.append(snapshot.hash)
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


def test_postgres_types_that_others_lack(make_world: Callable[..., World], postgres_database: str) -> None:
    key = uuid.UUID(int=77)
    engine = sa.create_engine(postgres_database)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA hr")
        connection.exec_driver_sql("CREATE TYPE mood AS ENUM ('good', 'bad')")
        connection.exec_driver_sql(
            "CREATE TABLE hr.people (id uuid, seen timestamptz, v float8[], r real[], n smallint, m mood, j jsonb)"
        )
        connection.exec_driver_sql(
            f"INSERT INTO hr.people VALUES "
            f"('{key}', '2024-01-01 02:00+02', '{{1.5,2}}', '{{1,2}}', 7, 'bad', '{{\"a\": 1}}')"
        )
    engine.dispose()
    world = make_world(connections={"hr": postgres_database})
    world.sources["people"] = TableSource(table="hr.people", connection="hr")
    (row,) = rows(world, "people")
    assert (row["v"], row["r"], row["n"], row["m"], row["j"]) == ([1.5, 2.0], [1.0, 2.0], 7, "bad", '{"a": 1}')
    assert row["seen"] == dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    world.node("person", "people", "id", created_at="seen")
    assert world.graph().ids("person").to_pylist() == [key]


def test_connections_and_tables_that_are_wrong(make_world: Callable[..., World], tmp_path: Path) -> None:
    fill(f"sqlite:///{tmp_path / 'hr.db'}", RECORDS)
    world = make_world(
        connections={
            "hr": f"sqlite:///{tmp_path / 'hr.db'}",
            "gone": f"sqlite:///{tmp_path / 'gone.db'}",
            "down": "postgresql+psycopg2://nobody@127.0.0.1:9/none?connect_timeout=2",
            "odd": "nonsense://x",
        }
    )
    for name, connection, table, code in (
        ("a", "hrr", "people", "G004"),
        ("b", "gone", "people", "G004"),
        ("c", "down", "people", "G004"),
        ("d", "odd", "people", "G004"),
        ("e", "hr", "peple", "G005"),
    ):
        world.sources[name] = TableSource(table=table, connection=connection)
        assert code_of(lambda name=name: rows(world, name)) == code
    assert not (tmp_path / "gone.db").exists()


def test_a_sqlite_column_that_holds_something_else(make_world: Callable[..., World], tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'x.db'}")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (id INTEGER)")
        connection.exec_driver_sql("INSERT INTO t VALUES (1), ('jane')")
    engine.dispose()
    world = make_world(connections={"x": f"sqlite:///{tmp_path / 'x.db'}"})
    world.sources["t"] = TableSource(table="t", connection="x")
    with pytest.raises(GraphError) as error:
        rows(world, "t")
    assert error.value.code == "G005"
    assert "jane" not in str(error.value)


# --- Feast ------------------------------------------------------------------------------------------------------------

REPOSITORY = """
project: market
registry: {path: registry.db, registry_type: file}
provider: local
offline_store: {type: OFFLINE}
online_store: {type: sqlite, path: online.db}
entity_key_serialization_version: 3
"""


@pytest.fixture(params=["duckdb", "dask"])
def feast_repo(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
    from feast.types import Array, Float32, Int64, String

    folder = tmp_path / "feature_repo"
    folder.mkdir()
    (folder / "feature_store.yaml").write_text(REPOSITORY.replace("OFFLINE", request.param))
    table = pa.table(
        {
            "member_id": [2, 1, 2],
            "at": pa.array([dt.datetime(2024, 1, day) for day in (3, 1, 2)], pa.timestamp("us", "UTC")),
            "views": [30, 10, 20],
            "email": ["b", "a", "b"],
            "v": pa.array([[3.0, 1.0], [1.0, 1.0], [2.0, 1.0]], pa.list_(pa.float32())),
        }
    )
    pq.write_table(table, folder / "stats.parquet")
    store = FeatureStore(repo_path=str(folder))
    member = Entity(name="member", join_keys=["member_id"], value_type=ValueType.INT64)
    view = FeatureView(
        name="member_stats",
        entities=[member],
        schema=[
            Field(name="views", dtype=Int64),
            Field(name="email", dtype=String),
            Field(name="v", dtype=Array(Float32)),
        ],
        source=FileSource(path=str(folder / "stats.parquet"), timestamp_field="at"),
    )
    store.apply([member, view])
    return folder


def test_rows_of_a_feast_feature_view(make_world: Callable[..., World], feast_repo: Path) -> None:
    from star_platform.signals.model import VectorFeature

    world = make_world(feast_repo=feast_repo, deny_columns=frozenset({"email"}))
    world.sources |= {
        "stats": FeastSource(feast="member_stats"),
        "elsewhere": FeastSource(feast="member_stats", feature_repo="${data}/../feature_repo"),
    }
    found = sorted(rows(world, "stats"), key=lambda row: row["views"])
    assert [(row["member_id"], row["views"], row["v"]) for row in found] == [
        (1, 10, [1.0, 1.0]),
        (2, 20, [2.0, 1.0]),
        (2, 30, [3.0, 1.0]),
    ]
    assert "email" not in found[0]
    assert len(rows(world, "elsewhere")) == 3
    world.node("member", "stats", "member_id")
    definition = VectorFeature(kind="vector", source="stats", key="member_id", column="v", valid_from="at")
    (feature,) = world.add("feature", "member.v", definition).graph().features("member")
    assert feature.values is not None
    assert feature.values[:, 0].tolist() == [1.0, 2.0, 3.0]


def test_the_snapshot_of_a_feature_view_is_that_of_its_files(
    make_world: Callable[..., World], feast_repo: Path
) -> None:
    hashes = []
    for number in range(3):
        world = make_world(f"w{number}", feast_repo=feast_repo)
        world.sources["stats"] = FeastSource(feast="member_stats")
        snapshot = world.engine.snapshot("stats", world.sources)
        hashes.append(snapshot.hash)
        if number == 1:
            table = pq.read_table(feast_repo / "stats.parquet")
            pq.write_table(table.slice(1), feast_repo / "stats.parquet")
    assert snapshot.rows == 2
    assert hashes[0] == hashes[1] != hashes[2]


def test_feature_views_that_are_not_there(make_world: Callable[..., World], feast_repo: Path, tmp_path: Path) -> None:
    world = make_world(feast_repo=feast_repo)
    world.sources |= {
        "name": FeastSource(feast="member_stat"),
        "version": FeastSource(feast="member_stats@v9"),
        "folder": FeastSource(feast="member_stats", feature_repo=str(tmp_path)),
    }
    for name in ("name", "version", "folder"):
        assert code_of(lambda name=name: rows(world, name)) == "G006"
    with pytest.raises(GraphError, match="did you mean 'member_stats'"):
        rows(world, "name")
